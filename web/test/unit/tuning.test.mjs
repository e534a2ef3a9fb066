// Records of measured kernels: kept by adapter, and no reason to fail where a browser keeps nothing.
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { source } from "./source.mjs";

const { loadTuning, saveTuning } = await source("worker/tuning.ts");
const real = Object.getOwnPropertyDescriptor(globalThis, "caches");

/** @param {object | undefined} value */
function caches(value) {
  Object.defineProperty(globalThis, "caches", { value, configurable: true });
}

afterEach(() => {
  if (real) Object.defineProperty(globalThis, "caches", real);
  else Reflect.deleteProperty(globalThis, "caches");
});

test("a record is found by its adapter", async () => {
  /** @type {Map<string, Response>} */
  const entries = new Map();
  const cache = {
    match: async (/** @type {string} */ url) => entries.get(new URL(url).href)?.clone(),
    put: async (/** @type {string} */ url, /** @type {Response} */ response) =>
      entries.set(new URL(url).href, response),
  };
  caches({ open: async () => cache });
  assert.equal(await loadTuning("a gpu, q8"), "");
  await saveTuning("a gpu, q8", "one");
  await saveTuning("a gpu & another #2, q8", "two");
  await saveTuning("a gpu, q8", "three");
  assert.equal(await loadTuning("a gpu, q8"), "three");
  assert.equal(await loadTuning("a gpu & another #2, q8"), "two");
  assert.equal(await loadTuning("a gpu"), "");
});

test("a browser that keeps nothing has no records and no errors", async () => {
  const full = { match: async () => undefined, put: () => Promise.reject(new Error("quota")) };
  for (const value of [undefined, { open: () => Promise.reject(new Error("private")) }, { open: async () => full }]) {
    caches(value);
    await saveTuning("a", "record");
    assert.equal(await loadTuning("a"), "");
  }
});
