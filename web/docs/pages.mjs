// Writes the pages that are made from the code: the errors. TypeDoc writes the reference.
import { readFileSync, writeFileSync } from "node:fs";
import { codes, page } from "./errors.mjs";

const text = (/** @type {string} */ path) => readFileSync(new URL(path, import.meta.url), "utf8");
const meanings = codes(text("../../crate/error.rs"), text("../src/shared/errors.ts"));
writeFileSync(new URL("src/content/docs/errors.md", import.meta.url), page(meanings));
