// Engines that break and go on, in every browser and on every backend: what comes is what would have come.
import assert from "node:assert/strict";
import { fixture, golden, TINY } from "./setup.mjs";

/** @typedef {Awaited<ReturnType<typeof import("./setup.mjs").start>>} Context */
/** @typedef {import("node:test").TestContext} T */

const PROMPT = golden.prompts[0].ids;
const TOKENS = 40;

/** So many of the first numbers, at random and in order. @param {number} n @param {number} of */
function some(n, of) {
  const all = Array.from({ length: of }, (_, i) => i + 1);
  while (all.length > n) all.splice(Math.floor(Math.random() * all.length), 1);
  return all;
}

/**
 * Equal, but for probabilities on a GPU, whose kernels for other numbers of rows differ in the last bits.
 * @param {unknown} got @param {unknown} want @param {number} most @param {string} what
 */
function same(got, want, most, what) {
  if (typeof got === "number" && typeof want === "number") {
    const off = Math.abs(got - want);
    return assert.ok(Number.isInteger(want) ? off === 0 : off <= most, `${what}: ${got} in the place of ${want}`);
  }
  if (typeof got !== "object" || typeof want !== "object" || !got || !want) return assert.deepEqual(got, want, what);
  assert.deepEqual(Object.keys(got), Object.keys(want), what);
  const values = Object.values(want);
  for (const [i, value] of Object.values(got).entries()) same(value, values[i], most, what);
}

/** @param {T} t @param {Context} c @param {"webgpu" | "cpu"} backend */
export async function recovery(t, c, backend) {
  const code = { destroy: "device-lost", trap: "internal", close: "worker-lost", terminate: "worker-lost" };
  const all = /** @type {const} */ (["destroy", "trap", "close", "terminate"]);
  const ways = all.filter((how) => how !== "destroy" || backend === "webgpu");
  for (const temperature of [0, 0.9]) {
    const params = { maxTokens: TOKENS, ignoreEos: true, temperature, seed: 5 };
    await t.test(`streams go on after losses, at temperature ${temperature}`, { timeout: 600_000 }, async (t) => {
      await c.call("loadLossy", { model: TINY, backend, sequences: 4, activations: "f32", kvType: "f32" });
      const { lost, told, ...want } = await c.call("through", PROMPT, params, "trap", []);
      assert.deepEqual([want.ids.length, want.tokens], [TOKENS, [PROMPT.length, TOKENS]]);
      assert.deepEqual([told, want.names, want.ended], [[], 1, undefined]);
      for (const how of ways) {
        // Ten in one stream, and one in another. On a GPU of software it takes seconds to begin anew: there ten devices are
        // lost, and what takes the worker comes once.
        const ten = backend === "cpu" || (how === "destroy" && temperature === 0);
        for (const n of ten ? [10, 1] : [1]) {
          const after = some(n, TOKENS - 2);
          const { lost, told, ...got } = await c.call("through", PROMPT, params, how, after);
          const [recovering, recovered] = ["recovering", "recovered"].map((phase) => `${phase} ${code[how]}`);
          t.diagnostic(`${how} after ${after}: ${told.filter((said) => said === recovered).length} recoveries`);
          same(got, want, backend === "webgpu" ? 1e-3 : 0, `${how} after ${after}`);
          assert.equal(lost, code[how], "a session is lost");
          // A fault that hits the next worker while that loads is another attempt.
          for (const [i, said] of told.entries())
            assert.ok(said === recovering || (said === recovered && told[i - 1] === recovering), `${told}`);
          assert.equal(told.at(-1), recovered);
        }
      }
    });
  }

  await t.test("an engine that breaks at once each time is given up", { timeout: 300_000 }, async () => {
    await c.call("loadLossy", { model: TINY, backend });
    const { code, message, ended } = await c.call("keepBreaking", "trap");
    assert.deepEqual([code, ended], ["internal", "internal"]);
    assert.match(message ?? "", /pagelm broke: .*close other pages/);
    await c.call("loadLossy", { model: TINY, backend, recover: false });
    const first = await c.call("keepBreaking", "trap");
    assert.deepEqual([first.code, first.told], ["internal", []]);
  });
}

/** @param {T} t @param {Context} c @param {"webgpu" | "cpu"} backend */
export async function soak(t, c, backend) {
  const models = /** @type {const} */ ([
    ["llama", 200],
    ["qwen35", 60], // recurrent states
  ]);
  for (const [name, turns] of models) {
    await t.test(`${turns} turns of ${name} with faults leave nothing behind`, { timeout: 900_000 }, async (t) => {
      const prompts = fixture(`${name}.json`).prompts.map((/** @type {{ ids: number[] }} */ p) => p.ids);
      const seed = Date.now() % 1e6;
      // On a GPU of software it takes seconds to begin anew.
      const [losses, disposals] = backend === "cpu" ? [8, 4] : [3, 1];
      const options = { model: `/golden/${name}.gguf`, backend, prompts, turns, seed, losses, disposals };
      const { wrong, counts, before, after, recovered } = await c.call("soak", options);
      t.diagnostic(`seed ${seed}: ${JSON.stringify(counts)}, ${recovered} recoveries, holds ${JSON.stringify(after)}`);
      assert.deepEqual(wrong, [], `seed ${seed}`);
      // Where the engine is a new one, it has not made everything again.
      for (const [what, bytes] of Object.entries(after.bytes))
        assert.ok(bytes <= (Object(before.bytes)[what] ?? 0), `${what}: ${bytes}, seed ${seed}`);
      assert.deepEqual([after.held, counts.lost], [{ blocks: 0, states: 0 }, losses]);
    });
  }
}
