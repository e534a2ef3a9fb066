// The demo is built as a user's app would be: against the package in ../dist, by its entries. `npm run dev` takes the
// package's sources instead, so that the page reloads when they change; the wasm is that of the last `make web`.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
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

/** What the page may do. Models come from anywhere; everything else is the page's own. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "style-src 'self'",
  "img-src 'self' blob: data:",
  "font-src 'self'",
  "connect-src 'self' https: http://localhost:*",
  "worker-src 'self'",
  "manifest-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");

/** The service worker knows what was built. */
const offline: Plugin = {
  name: "offline",
  apply: "build",
  // After the pages are written, which is at the end.
  closeBundle() {
    const dist = at("dist");
    const files = readdirSync(dist, { recursive: true, encoding: "utf8" })
      .map((file) => file.replaceAll("\\", "/"))
      .filter((file) => file !== "sw.js" && statSync(`${dist}/${file}`).isFile())
      .sort();
    const hash = createHash("sha256");
    for (const file of files) hash.update(file).update(readFileSync(`${dist}/${file}`));
    const built = JSON.stringify({ VERSION: hash.digest("hex").slice(0, 16), FILES: files });
    writeFileSync(
      `${dist}/sw.js`,
      `globalThis.built = ${built};\n${readFileSync(at("src/service-worker.js"), "utf8")}`,
    );
  },
};

/** In development Vite writes styles into the page. */
const policy: Plugin = {
  name: "policy",
  apply: "build",
  transformIndexHtml: () => [
    { tag: "meta", attrs: { "http-equiv": "Content-Security-Policy", content: POLICY }, injectTo: "head-prepend" },
  ],
};

export default defineConfig(({ command }) => ({
  plugins: [sources, policy, offline],
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  resolve: {
    alias: [
      { find: /^pagelm$/, replacement: at(command === "serve" ? "../src/index.ts" : "../dist/index.js") },
      { find: /^pagelm\/tools$/, replacement: at(command === "serve" ? "../src/tools.ts" : "../dist/tools.js") },
    ],
  },
  server: { fs: { allow: [at("..")] } },
  root: at("."),
  base: "./",
  publicDir: "public",
  build: {
    target: "es2022",
    outDir: at("dist"),
    emptyOutDir: true,
    modulePreload: { polyfill: false },
    rolldownOptions: { input: [at("index.html"), at("bench.html")] },
  },
  worker: { format: "es" },
}));
