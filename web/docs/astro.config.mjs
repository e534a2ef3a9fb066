// The documentation as static files that can lie in any folder of any server: links are relative, and nothing is fetched
// from elsewhere.
import { rmSync } from "node:fs";
import starlight from "@astrojs/starlight";
import { defineConfig } from "astro/config";
import links from "starlight-links-validator";
import typedoc, { typeDocSidebarGroup } from "starlight-typedoc";
import { relative, searchHere } from "./relative.mjs";

/** TypeDoc's list of the entry points, which the sidebar has, with links to pages that are not made. */
const noList = {
  name: "no-list",
  hooks: { "config:setup": () => rmSync(new URL("src/content/docs/reference/README.md", import.meta.url)) },
};
const entries = ["index", "ai-sdk", "conversations", "prompt-api", "react", "remote", "share", "testing", "tools"];

export default defineConfig({
  trailingSlash: "always",
  vite: {
    plugins: [searchHere()],
    // Scripts that are files know where they are.
    build: { assetsInlineLimit: 0 },
  },
  integrations: [
    starlight({
      title: "pagelm",
      description: "Language models inside a web page",
      disable404Route: true,
      credits: false,
      plugins: [
        typedoc({
          entryPoints: entries.map((name) => `../src/${name}.ts`),
          tsconfig: "../tsconfig.build.json",
          output: "reference",
          sidebar: { label: "Reference", collapsed: true },
          typeDoc: {
            excludeInternal: true,
            excludePrivate: true,
            readme: "none",
            gitRevision: "main",
            disableSources: true,
            skipErrorChecking: true,
          },
        }),
        noList,
        // What it finds broken fails the build.
        links(),
      ],
      sidebar: [
        { label: "Start", items: ["start", "models", "loading"] },
        { label: "Ask", items: ["chat", "tools", "embeddings", "images", "clients"] },
        {
          label: "Go further",
          items: ["sequences", "conversations", "speculative", "remote", "sharing", "memory", "performance"],
        },
        { label: "Ship", items: ["deployment", "errors"] },
        { label: "Come from elsewhere", items: ["from-webllm", "from-wllama", "from-transformers"] },
        { label: "Beside the page", items: ["rust", "command"] },
        typeDocSidebarGroup,
      ],
    }),
    // The last one, as it rewrites what the others wrote.
    relative(),
  ],
});
