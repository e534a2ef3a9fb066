// What a page and its engine live through: the page is left and comes back as it was, and threads end without a word.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { BROWSERS, launch } from "../../tools/browsers.mjs";
import { cache } from "../../tools/cache.mjs";
import { serve } from "../../tools/serve.mjs";

const at = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));
const SMOLLM = "/models/SmolLM2-135M-Instruct.Q4_1.gguf";
/** How long an idle worker is without its lock, in ms. */
const REST = 5000;
const CPU = { model: "/golden/llama.gguf", backend: /** @type {const} */ ("cpu") };

/**
 * In the page: makes an engine, and counts what it is told.
 * @param {{ model: string, backend: "cpu" | "webgpu", threads?: number }} options
 */
async function load(options) {
  const path = "/dist/index.js";
  /** @type {typeof import("pagelm")} */
  const { createEngine } = await import(path);
  const { Worker } = globalThis;
  const workers = /** @type {Worker[]} */ ([]);
  globalThis.Worker = class extends Worker {
    /** @param {string | URL} url @param {WorkerOptions} [options] */
    constructor(url, options) {
      super(url, options);
      workers.push(this);
    }
  };
  const told = /** @type {string[]} */ ([]);
  const engine = await createEngine({
    cache: false,
    contextLength: 512,
    ...options,
    onRecover: ({ phase, error }) => told.push(`${phase} ${error.code}`),
  });
  const seen = { ids: /** @type {number[]} */ ([]), end: "" };
  const shows = /** @type {boolean[]} */ ([]);
  addEventListener("pageshow", (event) => shows.push(/** @type {PageTransitionEvent} */ (event).persisted));
  const life = {
    engine,
    workers,
    told,
    seen,
    shows,
    /** Begins a generation. `at` is told of each token. */
    async run(maxTokens = 200, at = (/** @type {number} */ _) => {}) {
      Object.assign(seen, { ids: [], end: "" });
      try {
        for await (const p of engine.generate([1, 2, 3], { maxTokens, ignoreEos: true, temperature: 0.8, seed: 3 })) {
          if (p.kind === "token") at(seen.ids.push(p.id));
        }
        seen.end = "whole";
      } catch (e) {
        seen.end = String(e);
      }
      return seen.ids;
    },
  };
  Object.assign(globalThis, { life });
  return { threads: engine.info.wasm.threads, workers: workers.length };
}
/** @typedef {{ engine: import("pagelm").Engine, workers: Worker[], told: string[], seen: { ids: number[], end: string }, shows: boolean[], run: (maxTokens?: number, at?: (n: number) => void) => Promise<number[]> }} Life */
const here = () => /** @type {{ life?: Life }} */ (globalThis).life;

for (const name of BROWSERS) {
  test(`${name}: an engine lives as long as its page`, { timeout: 300_000 }, async (t) => {
    const mounts = {
      "/": at("."),
      "/dist": at("../../dist"),
      "/golden": at("../../../tests/golden"),
      "/models": join(cache, "models"),
    };
    // No browser keeps what must not be stored.
    const server = await serve({ isolated: true, mounts, headers: { "Cache-Control": "no-cache" } });
    const browser = await launch(name, { history: true });
    t.after(async () => {
      await browser.close();
      await server.close();
    });
    const open = () => browser.open(`${server.url}/talk.html`);
    /** Goes elsewhere and back: whether the page is as it was. @param {Awaited<ReturnType<typeof open>>} page */
    const around = async (page) => {
      await page.evaluate(() => void setTimeout(() => location.assign("/share.html")));
      await page.waitForFunction(() => location.pathname === "/share.html" && document.readyState === "complete");
      await page.evaluate(() => void setTimeout(() => history.back(), 300));
      await page.waitForFunction(() => location.pathname === "/talk.html" && document.readyState === "complete");
      return page.evaluate(() => /** @type {{ life?: Life }} */ (globalThis).life?.shows ?? null);
    };

    for (const backend of /** @type {const} */ (["cpu", "webgpu"]))
      await t.test(`a page with an idle engine on ${backend} is kept when it is left`, async () => {
        const page = await open();
        await page.evaluate(load, { model: "/golden/llama.gguf", backend });
        const before = await page.evaluate(async () => [...(await /** @type {any} */ (globalThis).life.run(20))]);
        assert.equal(before.length, 20);
        assert.deepEqual(await around(page), [true]);
        const after = await page.evaluate(async () => [...(await /** @type {any} */ (globalThis).life.run(20))]);
        assert.deepEqual(after, before);
        assert.deepEqual(await page.evaluate(here).then((life) => life?.told), []);
        if (backend === "webgpu") return void (await page.close());
        // Its worker is watched again.
        await page.evaluate((ms) => new Promise((go) => setTimeout(go, ms)), REST + 1000);
        await page.evaluate(() => /** @type {any} */ (globalThis).life.workers[0].terminate());
        const told = await page.waitForFunction(() => {
          const { told } = /** @type {any} */ (globalThis).life;
          return told.length === 2 && told;
        });
        assert.deepEqual(await told.jsonValue(), ["recovering worker-lost", "recovered worker-lost"]);
        // In Firefox a lock counts for ever whose worker was ended with it.
        if (name === "chromium") assert.deepEqual(await around(page), [true, true]);
        assert.deepEqual(
          await page.evaluate(async () => [...(await /** @type {any} */ (globalThis).life.run(20))]),
          before,
        );
        await page.close();
      });

    await t.test("a page whose engine was disposed of is kept", async () => {
      const page = await open();
      await page.evaluate(load, CPU);
      await page.evaluate(async () => {
        /** @type {any} */ (globalThis).life.engine.dispose();
        await new Promise((go) => setTimeout(go, 500));
      });
      assert.deepEqual(await around(page), [true]);
      await page.close();
    });

    if (name === "chromium")
      await t.test("an answer goes on in a page that was kept", async () => {
        const page = await open();
        await page.evaluate(load, { model: "/golden/llama.gguf", backend: /** @type {const} */ ("cpu") });
        const want = await page.evaluate(async () => [...(await /** @type {any} */ (globalThis).life.run(400))]);
        // It waits in the middle.
        await page.evaluate(() => {
          const { life } = /** @type {any} */ (globalThis);
          life.run(400, (/** @type {number} */ n) => n === 30 && location.assign("/share.html"));
        });
        await page.waitForFunction(() => location.pathname === "/share.html" && document.readyState === "complete");
        await page.evaluate(() => void setTimeout(() => history.back(), 300));
        await page.waitForFunction(() => /** @type {any} */ (globalThis).life?.seen.end);
        const { seen, told, shows } = await page.evaluate(() => {
          const { seen, told, shows } = /** @type {any} */ (globalThis).life;
          return { seen, told, shows };
        });
        assert.deepEqual([seen, told, shows], [{ ids: want, end: "whole" }, [], [true]]);
        await page.close();
      });

    // Firefox keeps no page whose threads hold locks, so they hold none there.
    if (name === "chromium")
      await t.test("a thread that ends without a word is noticed, and the stream goes on", async () => {
        const page = await open();
        const { threads, workers } = await page.evaluate(load, { ...CPU, threads: 3 });
        assert.deepEqual([threads, workers], [3, 3]);
        const want = await page.evaluate(async () => [...(await /** @type {any} */ (globalThis).life.run(60))]);
        const got = await page.evaluate(async () => {
          const { life } = /** @type {any} */ (globalThis);
          return [...(await life.run(60, (/** @type {number} */ n) => n === 5 && life.workers[2].terminate()))];
        });
        // The browser lets a thread that computes go on for some seconds.
        await page.waitForFunction(() => /** @type {any} */ (globalThis).life.told.length === 2);
        const { end, told } = await page.evaluate(() => {
          const { seen, told } = /** @type {any} */ (globalThis).life;
          return { end: seen.end, told };
        });
        assert.deepEqual([end, told], ["whole", ["recovering worker-lost", "recovered worker-lost"]]);
        assert.deepEqual(got, want);
        assert.deepEqual(
          await page.evaluate(async () => [...(await /** @type {any} */ (globalThis).life.run(60))]),
          want,
        );
        await page.close();
      });

    // Elsewhere only a step that misses its thread notices: one that is idle when it ends is not missed.
    if (name === "firefox")
      await t.test("a thread that ends within a prompt is missed, and the answer comes", async () => {
        /** A long prompt, and after some ms the end of a thread. @param {number | null} ms */
        const answer = async (ms) => {
          const page = await open();
          await page.evaluate(load, { model: SMOLLM, backend: /** @type {const} */ ("cpu"), threads: 3 });
          const seen = await page.evaluate(async (ms) => {
            const { engine, workers, told } = /** @type {Life} */ (/** @type {any} */ (globalThis).life);
            if (ms !== null) setTimeout(() => workers[2]?.terminate(), ms);
            const ids = [];
            const prompt = Array.from({ length: 480 }, (_, i) => 100 + i);
            for await (const p of engine.generate(prompt, { maxTokens: 5, ignoreEos: true, temperature: 0 }))
              if (p.kind === "token") ids.push(p.id);
            return { ids, told };
          }, ms);
          await page.close();
          return seen;
        };
        const { ids } = await answer(null);
        // About every second one ends within its part of a step, which waits for 20 seconds.
        for (const ms of [500, 700, 900, 1100]) {
          const seen = await answer(ms);
          assert.deepEqual(seen.ids, ids);
          t.diagnostic(`after ${ms} ms: ${seen.told.join(", ") || "not missed"}`);
          if (seen.told.length > 0) return assert.deepEqual(seen.told, ["recovering internal", "recovered internal"]);
        }
      });
  });
}
