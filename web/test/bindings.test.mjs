// The engine's module without a browser: what crosses into it is refused by name where it is not known.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const at = (/** @type {string} */ path) => new URL(path, import.meta.url);
/** Not there before the package is built, so its types are those that the build compares with it. */
const made = at("../pkg/base/pagelm.js").href;
const bindings = /** @type {import("../src/worker/bindings.d.ts").Bindings} */ (await import(made));
await bindings.default({ module_or_path: new WebAssembly.Module(readFileSync(at("../pkg/pagelm-base.wasm"))) });

function header() {
  const made = new bindings.Header();
  assert.ok(made.push(readFileSync(at("../../tests/golden/llama.gguf"))));
  return made;
}

test("options are taken by name, and an unknown one is refused by its name", async () => {
  const wrong = /** @type {object} */ ({ contextLenght: 64 });
  const refusal = {
    code: "invalid-argument",
    place: "options",
    message: /unknown field `contextLenght`.*contextLength/,
  };
  assert.throws(() => header().info(wrong), refusal);
  await assert.rejects(header().open({ backend: "cpu", threads: 1, ...wrong }), refusal);
  assert.equal(header().info({ contextLength: 64 }).contextLength, 64);
});

test("names that are not known are refused with those that are", async () => {
  const open = (/** @type {object} */ options) => header().open({ backend: "cpu", threads: 1, ...options });
  for (const [options, message] of /** @type {const} */ ([
    [{ backend: "gpu" }, /unknown variant `gpu`, expected one of `webgpu`, `cpu`, `reference`/],
    [{ kvType: "q4_0" }, /unknown variant `q4_0`, expected one of `f32`, `f16`, `q8_0`/],
    [{ activations: "f16" }, /unknown variant `f16`, expected `f32` or `q8`/],
    [{ memoryLimit: -1 }, /invalid value: integer `-1`/],
  ]))
    await assert.rejects(open(options), { code: "invalid-argument", message });
});
