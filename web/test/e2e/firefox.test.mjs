// Headless Firefox: WebGPU (naga) on a software adapter, and the CPU.
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  biggerModels,
  brokenStarts,
  builds,
  concurrency,
  faults,
  generation,
  images,
  models,
  outputs,
  realModel,
  sequences,
  starts,
  startsAgain,
  types,
} from "./cases.mjs";
import { recovery, soak } from "./recovery.mjs";
import { start } from "./setup.mjs";

const context = await start("firefox");

test("all GPU programs compile in naga", async () => {
  assert.deepEqual(await context.call("compile", await context.call("shaderSources")), []);
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
  await realModel(t, context, "webgpu");
  await biggerModels(t, context, "webgpu", 8);
});

test("CPU", async (t) => {
  await builds(t, context);
  await generation(t, context, "cpu");
  await sequences(t, context, "cpu");
  await concurrency(t, context, "cpu");
  await outputs(t, context, "cpu");
  await images(t, context, "cpu");
});

test("nothing went wrong unnoticed", () => {
  assert.deepEqual(context.page.errors, []);
});

// From here on scripts are missing or refused on purpose, which Firefox tells in its console.
test("workers start wherever their script lies", async (t) => {
  await starts(t, context);
  await startsAgain(t, context);
});

test("an engine that cannot start or breaks says so", () => brokenStarts(context));

test("engines that break go on", async (t) => {
  for (const backend of /** @type {const} */ (["webgpu", "cpu"])) await recovery(t, context, backend);
});

test("turns of all kinds leave nothing behind", (t) => soak(t, context, "cpu"));
