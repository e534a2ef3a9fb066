// slim-script.mjs SCRIPT: shortens the script that wasm-bindgen made, which is a third of what a page loads as JavaScript:
// it leaves out what serves browsers that cannot run the module, and other ways to use it than the worker's.
import { readFileSync, writeFileSync } from "node:fs";

const [file] = process.argv.slice(2);
let text = readFileSync(file, "utf8");
const memory = /(wasm\["[^"]+"\])\.buffer/.exec(text)[1];
const malloc = /passArray8ToWasm0\(\w+, (wasm\["[^"]+"\])\)/.exec(text)[1];
const start = /^ {4}(wasm\["[^"]+"\])\(thread_stack_size\);/m.exec(text)[1];

const START = `async function __wbg_init({ module_or_path, memory }) {
    wasm = (await WebAssembly.instantiate(module_or_path, __wbg_get_imports(memory))).exports;
    ${start}();
}`;
// Strings cannot be encoded into shared memory.
const PASS_STRING = `function passStringToWasm0(arg, malloc) {
    return passArray8ToWasm0(cachedTextEncoder.encode(arg), malloc);
}`;
const GIVE_STRING = `function giveString(to, ptr) {
    const view = getDataViewMemory0();
    view.setInt32((to >>> 0) + 4, ptr && WASM_VECTOR_LEN, true);
    view.setInt32(to >>> 0, ptr, true);
}
`;
const CHECKED = `function checked(ret, failed) {
    if (ret[failed]) throw takeFromExternrefTable0(ret[failed - 1]);
    return ret;
}
`;
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
  // The worker frees what it makes.
  [/^ *(const )?\w+Finalization(\.| = ).*\n/gm, ""],
  // All memory is had in one way.
  [/(ToWasm0\([^()\n]+), malloc\) {/g, "$1) {"],
  [/, malloc\);/g, ");"],
  [/malloc\(/g, `${malloc}(`],
  [/(ToWasm0\([^,()\n]+), wasm\["[^"]+"\](, wasm\["[^"]+"\])?\)/g, "$1)"],
  // What is written again and again.
  [/(= .*passStringToWasm0.*);\n.*\n.*setInt32\(\((\w+) >>> 0\) \+ 4 \* 1, len1.*\n.*/g, "$1;\n            giveString($2, ptr1);"],
  [/^function passStringToWasm0/m, `${GIVE_STRING}$&`],
  [/const ret = (.*);\n\s*if \(ret\[(\d)\]\) {\n\s*throw takeFromExternrefTable0\(ret\[\d\]\);\n\s*}/g, "const ret = checked($1, $2);"],
  [/^function takeFromExternrefTable0/m, `${CHECKED}$&`],
  [/^(function getArrayJsValueFromWasm0.*\n)[\s\S]*?\n( {4}wasm.*\n)/m, "$1    const result = getArrayJsValueViewFromWasm0(ptr, len);\n$2"],
  // What the worker passes has its type: nothing throws halfway.
  [/ *try {\n((?:.*(?:ToWasm0|VECTOR_LEN).*\n)+) *} catch \(e\) {[\s\S]*?throw e;\n *}\n/g, "$1"],
  // The engine asks for classes of WebGPU only where they are.
  [/let result;\s*try {\s*result = (.*);\s*} catch \(_\) {\s*result = false;\s*}\s*const ret = result;/g, "const ret = $1;"],
]) {
  const made = text.replace(from, to);
  if (made === text) throw new Error(`${file} has no ${from}`);
  text = made;
}
writeFileSync(file, text);
