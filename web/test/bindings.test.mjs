// The engine's module without a browser: what crosses into it is refused by name where it is not known.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { bindings } from "./unit/bindings.mjs";

const at = (/** @type {string} */ path) => new URL(path, import.meta.url);

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

test("a backend is chosen by what the browser tells, and another where the GPU refuses", () => {
  const facts = /** @type {const} */ ({ backend: "auto", adapter: { name: "apple metal-3" }, kvType: undefined });
  const gpu = bindings.choose(facts);
  const [kvType, reason] = ["f16", "there is a GPU adapter"];
  assert.deepEqual(gpu, { backend: "webgpu", reason, activations: "f32", kvType, kernels: "hardware" });
  const cpu = { backend: "cpu", reason: "too large", activations: "q8", kvType, kernels: null };
  assert.deepEqual(bindings.fallBack(facts, "out-of-memory", "too large"), cpu);
  assert.equal(bindings.fallBack(facts, "missing-tensor", "no output"), undefined);
  assert.equal(bindings.fallBack(facts, "no-such-code", "?"), undefined);
  const missing = { code: "no-gpu", message: /^no adapter; take the cpu backend/ };
  assert.throws(() => bindings.choose({ backend: "webgpu", noAdapter: "no adapter" }), missing);
  const wrong = /** @type {object} */ ({ adaptor: {} });
  assert.throws(() => bindings.choose({ backend: "auto", ...wrong }), { place: "facts", message: /`adaptor`/ });
});

test("what a model needs is that of the backend that would run it", () => {
  const needs = (/** @type {object} */ options) => {
    const { cacheBytes, problem } = header().info({ contextLength: 64, ...options });
    return { cacheBytes, code: problem?.code };
  };
  const f32 = needs({ backend: "webgpu", kvType: "f32" }).cacheBytes ?? 0;
  assert.ok(f32 > 0);
  assert.deepEqual(needs({ backend: "webgpu" }), { cacheBytes: f32 / 2, code: undefined });
  assert.deepEqual(needs({ backend: "cpu", kvType: "f32" }), { cacheBytes: f32, code: undefined });
  assert.deepEqual(needs({ backend: "webgpu", maxBinding: 1000 }), { cacheBytes: null, code: "out-of-memory" });
});

test("the sum of a block tells it from any with one bit flipped, and from other lengths", () => {
  // What pages have stored has these.
  const of = (/** @type {number} */ n) => bindings.blockSum(Uint8Array.from({ length: n }, (_, i) => i * 7));
  assert.deepEqual([of(0), of(5), of(100)], ["075e2074f0ba6b3a", "1f88bb15e663d240", "9a5981b3059d7c97"]);
  for (const length of [1, 7, 8, 31, 32, 33, 200]) {
    const bytes = new Uint8Array(length);
    const all = new Set([bindings.blockSum(bytes), bindings.blockSum(new Uint8Array(length + 1))]);
    for (let bit = 0; bit < length * 8; bit++) {
      bytes[bit >> 3] = 1 << (bit & 7);
      all.add(bindings.blockSum(bytes));
      bytes[bit >> 3] = 0;
    }
    assert.equal(all.size, length * 8 + 2);
  }
});
