// Makes the site one that can lie in any folder. Astro writes links from the root of a server; this makes them relative.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, posix } from "node:path";
import { fileURLToPath } from "node:url";

/** The search finds its index and its pages from the folder of its own script, `_astro`. */
export const searchHere = () => ({
  name: "search-here",
  enforce: "pre",
  transform(code, id, options) {
    if (options?.ssr || !/Search\.astro/.test(id) || !code.includes("import.meta.env.BASE_URL")) return null;
    // Not in the shape that bundlers take for the name of a file.
    const root = 'new URL(import.meta.url.replace(/[^/]*\\/[^/]*$/, "")).pathname';
    return code.replaceAll("import.meta.env.BASE_URL", `(${root})`);
  },
});

/** Attributes of elements that name a file of the site. */
const ATTRIBUTE = /(\s(?:href|src|component-url|renderer-url)=")\/(?!\/)([^"]*)"/g;

export const relative = () => ({
  name: "relative",
  hooks: {
    "astro:build:done": ({ dir }) => {
      const root = fileURLToPath(dir);
      for (const file of readdirSync(root, { recursive: true, encoding: "utf8" })) {
        if (!file.endsWith(".html")) continue;
        const from = posix.dirname(file.replaceAll("\\", "/"));
        const html = readFileSync(join(root, file), "utf8");
        const up = (_, start, to) => {
          const [path, rest = ""] = to.split(/(?=[?#])(.*)/s);
          const way = posix.relative(from, path || ".") || ".";
          return `${start}${way}${path.endsWith("/") || !path ? "/" : ""}${rest}"`;
        };
        writeFileSync(join(root, file), html.replace(ATTRIBUTE, up));
      }
    },
  },
});
