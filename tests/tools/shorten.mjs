// shorten.mjs SCRIPT NAMES: writes the names that wasm-opt gave to a module's imports and exports into the script that
// wasm-bindgen made for it. The long ones, with a hash in each, would be half of what a page loads as JavaScript.
import { readFileSync, writeFileSync } from "node:fs";

const [script, names] = process.argv.slice(2);
/** @type {{ imports: [module: string, name: string, short: string][], exports: [name: string, short: string][] }} */
const { imports, exports } = JSON.parse(readFileSync(names, "utf8"));
const used = new Set();

/** @param {string} kind @param {[string, string][]} pairs */
function shortNames(kind, pairs) {
  const short = new Map(pairs);
  return (/** @type {string} */ name) => {
    if (!short.has(name)) throw new Error(`${script} uses the ${kind} ${name}, which the module lacks`);
    used.add(`${kind} ${name}`);
    return short.get(name);
  };
}
const imported = shortNames("import", imports.map(([, name, short]) => [name, short]));
const exported = shortNames("export", exports);

const known = new Set(imports.map(([, name]) => name));
const text = readFileSync(script, "utf8")
  // The object of imports has its entries eight spaces in.
  .replace(/^ {8}(\w+):/gm, (line, name) => (known.has(name) ? `        ${JSON.stringify(imported(name))}:` : line))
  .replace(/\bwasm\.(\w+)/g, (_, name) => `wasm[${JSON.stringify(exported(name))}]`)
  .replace('"./pagelm_bg.js": import0', '"a": import0');
const missing = imports.filter(([, name]) => !used.has(`import ${name}`));
if (missing.length || !text.includes('"a": import0')) throw new Error(`${script} does not give ${missing.join("; ")}`);
writeFileSync(script, text);
