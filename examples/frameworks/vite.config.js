import { svelte } from "@sveltejs/vite-plugin-svelte";
import react from "@vitejs/plugin-react";
import vue from "@vitejs/plugin-vue";
import { defineConfig } from "vite";

const pages = ["index", "ai-sdk", "react", "langchain", "tanstack", "assistant-ui", "vue", "svelte"];
// With these the CPU has several threads.
const headers = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

export default defineConfig({
  plugins: [react(), vue(), svelte()],
  server: { headers },
  preview: { headers },
  build: { target: "es2022", rollupOptions: { input: pages.map((page) => `${page}.html`) } },
});
