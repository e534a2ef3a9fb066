// The blocks of code in the pages of the documentation.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { codes, page } from "../../docs/errors.mjs";

const at = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));
const folder = at("../../docs/src/content/docs");
const text = (/** @type {string} */ path) => readFileSync(at(path), "utf8");

/** What each code of an error means, as the engine and the package say. */
export const meanings = codes(text("../../../crate/error.rs"), text("../../src/shared/errors.ts"));

/** The pages that are written by hand, and that of the errors: names and texts. */
export const pages = new Map(
  readdirSync(folder)
    .filter((name) => /\.mdx?$/.test(name) && name !== "errors.md")
    .map(
      (name) =>
        /** @type {[string, string]} */ ([name.replace(/\.mdx?$/, ""), readFileSync(join(folder, name), "utf8")]),
    ),
).set("errors", page(meanings));

/**
 * A block: `kind` is `run`, `check` (its types only) or `other` (of another package: its syntax only).
 * @typedef {{ name: string, where: string, language: string, kind: string, code: string }} Block
 */

/** @type {Block[]} */
export const blocks = [...pages].flatMap(([page, text]) =>
  [...text.matchAll(/^( *)```(\w+)(?: +(\w+))?\n(.*?)^\1```$/gms)].map(
    ([all, indent = "", language = "", kind = "run", code = ""], i) => ({
      name: `${page}-${i + 1}`,
      where: `${page}, line ${text.slice(0, text.indexOf(all)).split("\n").length}`,
      language,
      kind,
      code: code.replaceAll(new RegExp(`^${indent}`, "gm"), ""),
    }),
  ),
);

/** Those in these languages. @param {...string} languages */
export const inLanguage = (...languages) => blocks.filter(({ language }) => languages.includes(language));

/** The anchors of a page's headings. @param {string} text */
export const anchors = (text) =>
  [...text.replace(/```.*?```/gs, "").matchAll(/^#{2,} (.*)$/gm)].map(([, title = ""]) =>
    title
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, "")
      .replaceAll(" ", "-"),
  );
