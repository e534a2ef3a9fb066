// The demo is built as a user's app would be: against the package in ../dist, by its entry.
import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  root: at("."),
  base: "./",
  publicDir: false,
  resolve: { alias: { pagelm: at("../dist/index.js") } },
  build: {
    target: "es2022",
    outDir: at("dist"),
    emptyOutDir: true,
    rolldownOptions: { input: [at("index.html"), at("bench.html")] },
  },
  worker: { format: "es" },
});
