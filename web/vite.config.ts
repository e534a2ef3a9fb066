// The package: index.js, worker.js and the wasm files side by side, found by `new URL(…, import.meta.url)`, which bundlers of
// users understand. Each script is whole, so that it can be copied elsewhere; `--mode worker` builds the worker's.
import { copyFileSync, readdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vite";

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** Leaves those URLs alone: in a library Vite would turn the files into data. */
const keepUrls: Plugin = {
  name: "keep-urls",
  enforce: "pre",
  transform(code, id) {
    const file = id.split("?")[0] ?? id;
    const kept = file.endsWith("/pagelm.js")
      ? // The worker names the wasm files itself; the generated code has a second way to one, which nothing uses.
        code.replace(/new URL\(["']pagelm_bg\.wasm["'], import\.meta\.url\)/, "undefined")
      : code.replaceAll(/new URL\("(\.\/(?:worker\.js|pagelm-[a-z-]+\.wasm))"/g, 'new URL(/* @vite-ignore */ "$1"');
    return kept === code ? null : { code: kept, map: null };
  },
  // The mark was for this build only: bundlers of users shall find these files.
  generateBundle(_, bundle) {
    for (const chunk of Object.values(bundle)) {
      if (chunk.type !== "chunk") continue;
      // Not all bundlers read what minifying wrote in backticks.
      chunk.code = chunk.code
        .replaceAll(/\s*\/\* @vite-ignore \*\/\s*/g, "")
        .replaceAll(/new URL\(`(\.\/[\w.-]+)`/g, 'new URL("$1"')
        .replaceAll("{type:`module`}", '{type:"module"}');
    }
  },
  closeBundle() {
    for (const file of readdirSync(at("pkg"))) {
      if (file.endsWith(".wasm")) copyFileSync(at(`pkg/${file}`), at(`dist/${file}`));
    }
    copyFileSync(at("../THIRD-PARTY.md"), at("dist/THIRD-PARTY.md"));
    // The script of workers gives nothing to who imports it.
    writeFileSync(at("dist/worker.d.ts"), "export {};\n");
  },
};

export default defineConfig(({ mode }) => {
  const name = mode === "worker" ? "worker" : "index";
  return {
    publicDir: false,
    plugins: [keepUrls],
    build: {
      target: "es2022",
      outDir: "dist",
      emptyOutDir: name === "index",
      sourcemap: true,
      minify: true,
      lib: { entry: { [name]: at(mode === "worker" ? "src/worker/index.ts" : "src/index.ts") }, formats: ["es"] },
      // Vite keeps the white space of libraries.
      rolldownOptions: { output: { minify: true } },
    },
  };
});
