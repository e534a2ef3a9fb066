// The engine's module as the worker calls it, started in Node.
import { readFileSync } from "node:fs";

const at = (/** @type {string} */ path) => new URL(path, import.meta.url);
/** Not there before the package is built, so its types are those that the build compares with it. */
const made = at("../../pkg/base/pagelm.js").href;

export const bindings = /** @type {import("../../src/worker/bindings.d.ts").Bindings} */ (await import(made));
await bindings.default({ module_or_path: new WebAssembly.Module(readFileSync(at("../../pkg/pagelm-base.wasm"))) });
