import { defineConfig } from "vite";

// With these the CPU has several threads. `public/_headers` and `vercel.json` say the same to hosts.
const headers = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

export default defineConfig({
  server: { headers },
  preview: { headers },
  build: { target: "es2022" },
});
