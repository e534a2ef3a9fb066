// slim-script.mjs SCRIPT: shortens the script that wasm-bindgen made, which is a third of what a page loads as JavaScript:
// it leaves out what serves browsers that cannot run the module, and other ways to use it than the worker's.
import { readFileSync, writeFileSync } from "node:fs";

const [file] = process.argv.slice(2);
let text = readFileSync(file, "utf8");
const memory = /(wasm\["[^"]+"\])\.buffer/.exec(text)[1];
const start = /^ {4}(wasm\["[^"]+"\])\(thread_stack_size\);/m.exec(text)[1];

const START = `async function __wbg_init({ module_or_path, memory }) {
    wasm = (await WebAssembly.instantiate(module_or_path, __wbg_get_imports(memory))).exports;
    ${start}();
}`;
// Strings cannot be encoded into shared memory.
const PASS_STRING = `function passStringToWasm0(arg, malloc) {
    return passArray8ToWasm0(cachedTextEncoder.encode(arg), malloc);
}`;
const HANDLE_ERROR = `const handleError = (f) => (...args) => {
    try {
        return f(...args);
    } catch (e) {`;

for (const [from, to] of [
  // Every browser with SIMD has these.
  [/\(typeof FinalizationRegistry === 'undefined'\)\n.*\n {4}: /g, ""],
  [/\(typeof (\w+) !== 'undefined' \? (new .*) : undefined\);/g, "$2;"],
  [/typeof URL\.createObjectURL === 'undefined' \? .*? : URL\./, "URL."],
  [/^if \((cachedTextDecoder|Symbol\.dispose)\) .*\n/gm, ""],
  // The engine draws to no texture.
  [/^(const __wbindgen_enum_GpuTextureFormat =) .*$/m, "$1 [];"],
  // Views of the memory, which may have grown, are cheap to make.
  [/^let cached(\w+?)Memory0 = null;\nfunction (get\w+)\(\) {\n[\s\S]*?^}/gm, `const $2 = () => new $1(${memory}.buffer);`],
  [/^function passStringToWasm0\([\s\S]*?^}/m, PASS_STRING],
  [/^if \(cachedTextEncoder\) {[\s\S]*?^}/m, ""],
  [/^function debugString\([\s\S]*?^}/m, "const debugString = String;"],
  // The worker gives a compiled module and its memory, once.
  [/memory \|\| new WebAssembly\.Memory\([^)]*\)/, "memory"],
  [/^let wasmModule, [\s\S]*?^export { initSync, /m, `let wasm;\n${START}\nexport { `],
  // Arrows instead of functions that have no `this`.
  [/^function handleError\([\s\S]*?catch \(e\) {/m, HANDLE_ERROR],
  [/function\(\) { return handleError\(function \((.*?)\) {([\s\S]*?)\n {8}}, arguments\); }/g, "handleError(($1) => {$2\n        })"],
  [/^( {8}(?:"[^"]+"|\w+): )function\((.*?)\) {/gm, "$1($2) => {"],
]) {
  const made = text.replace(from, to);
  if (made === text) throw new Error(`${file} has no ${from}`);
  text = made;
}
writeFileSync(file, text);
