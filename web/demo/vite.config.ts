// The demo is built as a user's app would be: against the package in ../dist, by its entry. `npm run dev` takes the
// package's sources instead, so that the page reloads when they change; the wasm is that of the last `make web`.
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vite";

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** Where the files are that the built package has beside its scripts. */
const FILES = [
  ["/src/page/worker.js", "/src/worker/index.ts"],
  ["/src/worker/pagelm-", "/pkg/pagelm-"],
] as const;

const sources: Plugin = {
  name: "sources",
  apply: "serve",
  configureServer(server) {
    server.middlewares.use((request, _, next) => {
      request.url = FILES.reduce((url, [from, to]) => url?.replace(from, to), request.url);
      next();
    });
  },
};

export default defineConfig(({ command }) => ({
  plugins: [sources],
  resolve: { alias: { pagelm: at(command === "serve" ? "../src/index.ts" : "../dist/index.js") } },
  server: { fs: { allow: [at("..")] } },
  root: at("."),
  base: "./",
  publicDir: false,
  build: {
    target: "es2022",
    outDir: at("dist"),
    emptyOutDir: true,
    rolldownOptions: { input: [at("index.html"), at("bench.html")] },
  },
  worker: { format: "es" },
}));
