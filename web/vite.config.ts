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
    // The worker names the wasm file itself; the generated code has a second way to it, which nothing uses.
    if (id.endsWith("/pkg/pagelm.js"))
      code = code.replace(/new URL\('pagelm_bg\.wasm', import\.meta\.url\)/, "undefined");
    return code.replaceAll(/new URL\("(\.\/(?:worker\.js|pagelm_bg\.wasm))"/g, 'new URL(/* @vite-ignore */ "$1"');
  },
  closeBundle() {
    copyFileSync(at("pkg/pagelm_bg.wasm"), at("dist/pagelm_bg.wasm"));
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
