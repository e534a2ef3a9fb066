// What loading and disposal take and leave, by the memory of Chromium's process for the page.
import assert from "node:assert/strict";
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { known, memory, renderer, resetPeak } from "../../tools/memory.mjs";
import { skip } from "../skipped.mjs";
import { longer } from "./gguf.mjs";
import { golden, real, SMOLLM, start, TINY } from "./setup.mjs";

const MIB = 1 << 20;
const context = await start("chromium", { isolated: false, load: { backend: "cpu", wasmBuild: "base" } });
const prompt = golden.prompts.find((/** @type {{ greedy?: object }} */ p) => p.greedy);

test("a file of any length streams through little memory", { timeout: 300_000 }, async (t) => {
  if (!known) return skip(t, "only Linux tells the peak of a process's memory");
  // 3 GB of which a tiny model needs nearly nothing; on the disk it is a hole.
  const { before, after } = longer(
    readFileSync(new URL("../../../tests/golden/llama.gguf", import.meta.url)),
    3000 * MIB,
  );
  const file = openSync(join(context.made, "huge.gguf"), "w");
  writeSync(file, before);
  writeSync(file, after, 0, after.length, before.length + 3000 * MIB);
  closeSync(file);
  // What the browser takes once, whatever is loaded, is taken first.
  for (let i = 0; i < 4; i++) await context.call("load", { model: "/made/long.gguf" });
  const pid = renderer();
  /** The most memory during a load. @param {string} model */
  const peak = async (model) => {
    await sleep(1000); // the worker before ends
    resetPeak(pid);
    const { info } = await context.call("load", { model });
    return { info, peak: memory(pid, "VmHWM") };
  };
  const small = await peak(TINY);
  const { info, peak: most } = await peak("/made/huge.gguf");
  const grown = (most - small.peak) / MIB;
  t.diagnostic(`${Math.round(grown)} MiB more for ${Math.round(info.source.network / MIB)} MiB`);
  assert.equal(info.source.network, before.length + 3000 * MIB + after.length);
  const { ids } = await context.call("generate", prompt.ids, { maxTokens: 8, ignoreEos: true });
  assert.deepEqual(ids, prompt.greedy.tokens.slice(0, 8));
  // All of the process: garbage of both heaps, code that is compiled again, and the browser's own buffers.
  assert.ok(grown <= 128, `${grown} MiB`);
});

test("a large model streams to the GPU through little memory", { timeout: 300_000 }, async (t) => {
  if (!known) return skip(t, "only Linux tells the peak of a process's memory");
  const found = real("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", "qwen2.5-coder-0.5b");
  if (!found) return skip(t, "the model is not downloaded (make models)");
  const load = async (/** @type {string} */ model) => {
    await sleep(1000); // the worker before ends
    const pid = renderer();
    resetPeak(pid);
    await context.call("load", { model, backend: "webgpu", contextLength: 256 });
    const { wasmBytes, weightBytesCopied, memory: held } = await context.call("stats");
    return { peak: memory(pid, "VmHWM"), wasmBytes, weightBytesCopied, weights: held.weights };
  };
  await load(TINY);
  const tiny = await load(TINY);
  const large = await load(found.url);
  const [all, module] = [(large.peak - tiny.peak) / MIB, (large.wasmBytes - tiny.wasmBytes) / MIB];
  t.diagnostic(
    `${Math.round(all)} MiB more for ${large.weights >> 20} MiB, of which the module has ${Math.round(module)}`,
  );
  assert.ok(large.weights > 450e6);
  // Norms, for the tables; the rest of the module's is the tokenizer, of 152 thousand tokens.
  assert.ok(large.weightBytesCopied < MIB, `${large.weightBytesCopied} bytes`);
  assert.ok(all - module <= 64, `${all} MiB, of which the module has ${module}`);
});

test("an engine says what its GPU has, by purpose, and leaves nothing there", { timeout: 300_000 }, async () => {
  for (const model of [TINY, "/golden/qwen35.gguf"]) {
    for (let i = 0; i < 3; i++) {
      await context.call("load", {
        model,
        backend: "webgpu",
        workerUrl: "/counted.js",
        cacheTokens: 2048,
        sequences: 8,
      });
      // The cache grows, tokens and logits come back, and a block is copied.
      const ids = Array.from({ length: 400 }, (_, i) => (i * 37) % 250);
      await context.call("generate", ids, { maxTokens: 4, ignoreEos: true });
      await context.call("sessions", ids.slice(0, 100), ids.slice(0, 20));
      const { said, onHost, bytes, after } = await context.call("buffersAround");
      const sum = Object.values(said).reduce((a, b) => a + b);
      // Norms are weights that the module has, and fills tables from; of other weights it saw the ends, which are no whole word.
      assert.ok(sum >= bytes && sum - bytes <= onHost, `${bytes} of ${JSON.stringify(said)}, ${onHost} on the host`);
      assert.ok(onHost < 8192);
      for (const purpose of /** @type {const} */ (["weights", "cache", "scratch", "staging"]))
        assert.ok(said[purpose] > 0);
      assert.equal(said.states > 0, model !== TINY);
      assert.deepEqual(after, { bytes: 0, destroyed: 1 });
    }
  }
});

test("ten loads and disposals leave the process where it was", { timeout: 300_000 }, async (t) => {
  if (!known) return skip(t, "only Linux tells the peak of a process's memory");
  const cycle = async () => {
    await context.call("load", { model: SMOLLM, contextLength: 512 });
    // The cache is allocated as it fills.
    await context.call("generate", prompt.ids, { maxTokens: 1, ignoreEos: true });
    const { before, after } = await context.call("memoryAround");
    assert.ok(
      before.weights > 90e6 && before.cache > 0 && before.scratch > 0 && before.module > 0,
      JSON.stringify(before),
    );
    assert.deepEqual(after, { weights: 0, cache: 0, states: 0, scratch: 0, staging: 0, module: 0 });
  };
  await cycle();
  await cycle();
  await sleep(2000);
  const pid = renderer();
  const base = memory(pid, "VmRSS");
  for (let i = 0; i < 8; i++) await cycle();
  await sleep(2000);
  const grown = (memory(pid, "VmRSS") - base) / MIB;
  t.diagnostic(`${Math.round(grown)} MiB more after 8 loads of 98 MB`);
  // One model would be 94.
  assert.ok(grown <= 48, `${grown} MiB`);
});
