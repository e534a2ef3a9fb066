// Headless Chromium: WebGPU (Tint) on a software adapter, and the CPU.
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  biggerModels,
  brokenStarts,
  concurrency,
  faults,
  generation,
  hardwareKernels,
  images,
  models,
  outputs,
  realModel,
  sequences,
  types,
} from "./cases.mjs";
import { recovery, soak } from "./recovery.mjs";
import { SMOLLM, start, TINY } from "./setup.mjs";

const context = await start("chromium");

test("a browser and a model say what they can", async () => {
  const seen = await context.call("capabilities");
  assert.equal(seen.webgpu.available, true);
  assert.equal(seen.webgpu.adapter?.software, true);
  assert.deepEqual(seen.wasm, { simd: true, relaxedSimd: true, threads: true, whyOneThread: null });
  assert.equal(seen.crossOriginIsolated, true);
  const before = context.server.requests.length;
  const smollm = await context.call("canRun", SMOLLM);
  assert.equal(smollm.ok, true);
  assert.equal(smollm.model.chatTemplate, true);
  assert.ok((smollm.memoryBytes ?? 0) > 90e6);
  // The header is 1.8 MB, and it is asked for in growing ranges.
  const asked = context.server.requests.slice(before).filter((r) => r.path === SMOLLM);
  assert.deepEqual(
    asked.map((r) => r.range),
    ["bytes=0-1048575", "bytes=1048576-3145727"],
  );
  // Backends, the one that would run first: the adapter is software.
  assert.deepEqual(
    smollm.backends.map(({ backend, fit }) => [backend, fit?.contextLength, fit?.changes]),
    [
      ["cpu", 4096, []],
      ["webgpu", 4096, []],
    ],
  );
  assert.deepEqual(smollm.best, { backend: "cpu", contextLength: 4096, kvType: "f16" });
  assert.deepEqual([smollm.code, smollm.storable], [null, true]);
  // One byte less than it needs: what it says then fits.
  const memoryLimit = Number(smollm.memoryBytes) - 1;
  const tight = await context.call("canRun", SMOLLM, { memoryLimit });
  assert.deepEqual([tight.ok, tight.code], [false, "out-of-memory"]);
  assert.match(tight.reason ?? "", /a cache of q8_0 takes \d+ MiB less/);
  assert.deepEqual(tight.best, { backend: "cpu", contextLength: 4096, kvType: "q8_0" });
  await assert.rejects(context.call("load", { model: SMOLLM, memoryLimit, kvType: "f16" }), { code: "out-of-memory" });
  const { info } = await context.call("load", { model: SMOLLM, memoryLimit, ...tight.best });
  assert.equal(info.contextLength, 4096);
  const none = await context.call("canRun", SMOLLM, { memoryLimit: 50e6 });
  assert.deepEqual([none.code, none.best, none.backends[0]?.problem?.code], ["out-of-memory", null, "out-of-memory"]);
  const other = await context.call("canRun", "/made/other.gguf");
  assert.equal(other.code, "unsupported-architecture");
  assert.equal(other.ok, false);
  assert.equal(other.model.problem?.code, "unsupported-architecture");
});

test("all GPU programs compile in Tint", async (t) => {
  const programs = await context.call("shaderSources");
  t.diagnostic(`${programs.length} programs`);
  assert.ok(programs.length > 20);
  assert.deepEqual(await context.call("compile", programs), []);
});

test("WebGPU", async (t) => {
  await generation(t, context, "webgpu");
  await sequences(t, context, "webgpu");
  await concurrency(t, context, "webgpu");
  await outputs(t, context, "webgpu");
  await images(t, context, "webgpu");
  await faults(t, context, "webgpu");
  await models(t, context, "webgpu");
  await types(t, context);
  await hardwareKernels(t, context);
  await realModel(t, context, "webgpu");
  await biggerModels(t, context, "webgpu", 8);
});

test("a page draws while a long prompt runs in the worker", { timeout: 600_000 }, async (t) => {
  // The tiny model: the adapter runs on the CPU, where a real one would take minutes and the page's own cores.
  await context.call("load", { model: TINY, backend: "webgpu", contextLength: 2048 });
  const ids = Array.from({ length: 2000 }, (_, i) => (i * 37) % 250);
  const seen = await context.call("framesDuring", ids);
  t.diagnostic(JSON.stringify(seen));
  assert.equal(seen.usage?.promptTokens, 2000);
  assert.ok(seen.frames >= 5, `only ${seen.frames} frames in ${seen.ms} ms`);
  assert.ok(seen.longest < 100, `${seen.longest} ms without a frame`);
});

test("a page draws while a real model reads a prompt", { timeout: 600_000 }, async (t) => {
  // Not a longer prompt: the adapter reads some five tokens a second.
  await context.call("load", { model: SMOLLM, backend: "webgpu", contextLength: 2048 });
  const ids = Array.from({ length: 160 }, (_, i) => (i * 37) % 250);
  const seen = await context.call("framesDuring", ids);
  t.diagnostic(JSON.stringify(seen));
  assert.equal(seen.usage?.promptTokens, 160);
  assert.ok(seen.frames >= seen.ms / 100, `only ${seen.frames} frames in ${seen.ms} ms`);
});

test("CPU", async (t) => {
  await generation(t, context, "cpu");
  await sequences(t, context, "cpu");
  await concurrency(t, context, "cpu");
  await outputs(t, context, "cpu");
  await images(t, context, "cpu");
  await faults(t, context, "cpu");
  await models(t, context, "cpu");
  await realModel(t, context, "cpu");
  await biggerModels(t, context, "cpu", 24);
});

test("nothing went wrong unnoticed", () => {
  assert.deepEqual(context.page.errors, []);
});

test("an engine that cannot start or breaks says so", () => brokenStarts(context));

test("engines that break go on", async (t) => {
  for (const backend of /** @type {const} */ (["webgpu", "cpu"])) await recovery(t, context, backend);
});

test("turns of all kinds leave nothing behind", async (t) => {
  for (const backend of /** @type {const} */ (["webgpu", "cpu"])) await soak(t, context, backend);
});
