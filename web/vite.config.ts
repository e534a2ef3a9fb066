// The package: index.js, worker.js and the wasm file side by side, found by `new URL(…, import.meta.url)`, which
// bundlers of users understand.
import { copyFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vite";

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** Leaves those URLs alone: in a library Vite would turn the files into data. */
const keepUrls: Plugin = {
  name: "keep-urls",
  enforce: "pre",
  transform(code, id) {
    const file = id.split("?")[0] ?? id;
    const kept = file.endsWith("/pkg/pagelm.js")
      ? // The worker names the wasm file itself; the generated code has a second way to it, which nothing uses.
        code.replace(/new URL\(["']pagelm_bg\.wasm["'], import\.meta\.url\)/, "undefined")
      : code.replaceAll(/new URL\("(\.\/(?:worker\.js|pagelm_bg\.wasm))"/g, 'new URL(/* @vite-ignore */ "$1"');
    return kept === code ? null : { code: kept, map: null };
  },
  // The mark was for this build only: bundlers of users shall find these files.
  generateBundle(_, bundle) {
    for (const chunk of Object.values(bundle)) {
      if (chunk.type !== "chunk") continue;
      chunk.code = chunk.code.replaceAll(/\s*\/\* @vite-ignore \*\/\s*/g, "");
    }
  },
  closeBundle() {
    copyFileSync(at("pkg/pagelm_bg.wasm"), at("dist/pagelm_bg.wasm"));
    copyFileSync(at("../THIRD-PARTY.md"), at("dist/THIRD-PARTY.md"));
  },
};

export default defineConfig({
  publicDir: false,
  plugins: [keepUrls],
  build: {
    target: "es2022",
    outDir: "dist",
    sourcemap: true,
    minify: true,
    lib: { entry: { index: at("src/index.ts"), worker: at("src/worker.ts") }, formats: ["es"] },
    rolldownOptions: { output: { chunkFileNames: "[name].js" } },
  },
});
