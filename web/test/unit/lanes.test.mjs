// Generations beside each other in the worker, on an engine that says what a test lets it say.
import assert from "node:assert/strict";
import { test } from "node:test";
import { source } from "./source.mjs";
import { untyped } from "./untyped.mjs";

/** @typedef {import("../../src/shared/types.ts").Piece} Piece */
/** @typedef {import("../../src/worker/bindings.d.ts").Engine} Engine */

const sent = /** @type {{ id: number, values: Piece[] }[]} */ ([]);
// What a worker has; Node does not end while a port of its own has a listener.
Object.assign(globalThis, {
  self: { postMessage: (/** @type {{ id: number, values: Piece[] }} */ message) => sent.push(message) },
  MessageChannel: class {
    port1 = { onmessage: /** @type {(() => void) | null} */ (null), close: () => {} };
    port2 = { postMessage: () => setImmediate(() => this.port1.onmessage?.()) };
  },
});
const { Lanes } = await source("worker/lanes.ts");
const { Task } = await source("worker/task.ts");

/** An engine whose generations each have so many tokens; `log` has which of them were asked for. */
function engineOf(/** @type {Record<number, number>} */ tokens, /** @type {Record<number, string>} */ failing = {}) {
  const log = /** @type {number[][]} */ ([]);
  const stopped = /** @type {number[]} */ ([]);
  const engine = {
    next: async (/** @type {Uint32Array} */ wanted) => {
      log.push([...wanted]);
      return [...wanted].map((id) => {
        const left = tokens[id] ?? 0;
        tokens[id] = left - 1;
        if (left > 0) return { id, pieces: [{ kind: "token", id: left, text: "" }], done: false, error: null };
        const code = failing[id];
        return { id, pieces: code ? [] : [{ kind: "done" }], done: true, error: code ? { code } : null };
      });
    },
    stop: (/** @type {number} */ id) => stopped.push(id),
  };
  return { engine: /** @type {Engine} */ (untyped(engine)), log, stopped };
}

const lanes = () => new Lanes(async (work) => work());
const task = (/** @type {number} */ id, credit = 99) => new Task(untyped({ op: "generate", id, credit }));
const soon = () => new Promise((resolve) => setTimeout(resolve, 5));

test("generations are stepped together, and one that fails leaves the others", async () => {
  const { engine, log } = engineOf({ 1: 3, 2: 1, 3: 2 }, { 2: "cache-full" });
  const all = lanes();
  const [one, two, three] = [1, 2, 3].map((id) => all.run(engine, id, task(10 + id)));
  await assert.rejects(/** @type {Promise<null>} */ (two), { code: "cache-full" });
  assert.deepEqual(await Promise.all([one, three]), [null, null]);
  assert.deepEqual(log, [[1, 2, 3], [1, 2, 3], [1, 3], [1]]);
  const kinds = (/** @type {number} */ id) =>
    sent.filter((m) => m.id === id).flatMap((m) => m.values.map((value) => value.kind));
  assert.deepEqual(kinds(11), ["token", "token", "token", "done"]);
  assert.deepEqual(kinds(12), ["token"]);
  // After all have ended another one starts anew.
  await all.run(engine, 4, task(14));
});

test("a generation without credit is left out until it gets some", async () => {
  const { engine, log } = engineOf({ 1: 3, 2: 2 });
  const all = lanes();
  const slow = task(21, 1);
  const one = all.run(engine, 1, slow);
  await all.run(engine, 2, task(22));
  assert.deepEqual(log, [[1, 2], [2], [2]]);
  await soon();
  assert.equal(log.length, 3, "nothing is asked for that nobody takes");
  slow.give(5);
  await one;
  assert.deepEqual(log.slice(3), [[1], [1], [1]]);
});

test("a generation that is stopped is stopped in the engine too, and the others go on", async () => {
  const { engine, log, stopped } = engineOf({ 1: 50, 2: 4 });
  const all = lanes();
  const [first, waiting] = [task(31), task(33, 0)];
  const ends = [all.run(engine, 1, first), all.run(engine, 3, waiting)].map((end) =>
    assert.rejects(end, { code: "aborted" }),
  );
  const two = all.run(engine, 2, task(32));
  while (log.length < 2) await new Promise((resolve) => setImmediate(resolve));
  first.abort.abort();
  await two;
  waiting.abort.abort();
  await Promise.all(ends);
  assert.deepEqual(stopped, [1, 3]);
  assert.ok(log.filter((ids) => ids.includes(1)).length < 5);
  assert.ok(log.every((ids) => !ids.includes(3)));
});

test("an abort gives up a step that runs in slices, and others begin it again", async () => {
  const { engine, log } = engineOf({ 1: 50, 2: 3 });
  const all = lanes();
  const first = task(41);
  const next = engine.next.bind(engine);
  let slices = 0;
  // A long step: only one of its slices is left when it is given up.
  engine.next = async (wanted, pause) => {
    for (let left = 3; left > 0; left--) {
      slices++;
      if (slices === 5) first.abort.abort();
      if (await pause()) return [];
    }
    return next(wanted, pause);
  };
  const ended = assert.rejects(all.run(engine, 1, first), { code: "aborted" });
  await all.run(engine, 2, task(42));
  await ended;
  assert.equal(slices, 3 + 2 + 3 * 3);
  assert.deepEqual(log, [[1, 2], [2], [2], [2]]);
});
