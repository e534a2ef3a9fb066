// Whose requests run on a shared engine, and whose answers are whose.
import assert from "node:assert/strict";
import { test } from "node:test";
import { FakePort } from "./port.mjs";
import { source } from "./source.mjs";
import { untyped } from "./untyped.mjs";

const { Hub, TURN } = await source("share-hub.ts");

/** @typedef {{ replay: number[], pieces: number[], end?: string }} Asked */

/** An engine with room for so many generations, which brings each of those that run a piece in each step. */
function shared(sequences = 2) {
  const port = new FakePort();
  const failed = /** @type {unknown[]} */ ([]);
  const load = untyped({ op: "load", id: 7, life: "l", options: { sequences } });
  const hub = new Hub(port, load, (error) => failed.push(error));
  /** What the worker has: how far each run is. @type {Map<number, { done: number, credit: number }>} */
  const runs = new Map();
  let read = 0;
  const listen = () => {
    for (const message of port.sent.slice(read)) {
      if (message.op === "generate") runs.set(message.id, { done: message.replay.length, credit: message.credit });
      else if (message.op === "abort") runs.delete(message.target);
      else if (message.op === "credit") /** @type {any} */ (runs.get(message.target)).credit += message.pieces;
    }
    read = port.sent.length;
  };
  const steps = (n = 1) => {
    for (let i = 0; i < n; i++) {
      listen();
      assert.ok(runs.size <= sequences, `${runs.size} at once`);
      for (const [id, run] of [...runs]) {
        if (run.credit <= 0 || !runs.has(id)) continue;
        run.credit--;
        port.piece(id, run.done, [run.done++]);
        listen();
      }
    }
  };
  /** A tab, whose page takes pieces as they come unless it waits. */
  const tab = () => {
    const asked = /** @type {Record<number, Asked>} */ ({});
    const said = /** @type {any[]} */ ([]);
    const link = hub.attach((/** @type {any} */ message) => {
      said.push(message);
      if (message.op !== "pieces") return;
      asked[message.id]?.pieces.push(...message.values);
    });
    const ask = (/** @type {number} */ id, credit = 1e6) => {
      asked[id] = { replay: [], pieces: [] };
      link.postMessage(untyped({ op: "generate", id, prompt: { text: "x" }, params: {}, credit, replay: [] }));
      return /** @type {Asked} */ (asked[id]);
    };
    return { ask, link, said };
  };
  return { port, hub, tab, steps, runs, failed };
}

const counted = (/** @type {Asked[]} */ ...all) => all.map(({ pieces }) => pieces.length);
/** Each piece came once, in its order. @param {Asked[]} all */
const whole = (...all) => {
  for (const { pieces } of all)
    assert.deepEqual(
      pieces,
      pieces.map((_, i) => i),
    );
};

test("a tab with one request runs at once beside one with many, which goes on where it was", () => {
  const { tab, steps } = shared();
  const [many, one] = [tab(), tab()];
  const a = [1, 2, 3, 4].map((id) => many.ask(id));
  steps(10);
  assert.deepEqual(counted(...a), [10, 10, 0, 0]);
  const b = one.ask(1);
  steps(10);
  assert.equal(b.pieces.length, 10);
  assert.equal(
    counted(...a).reduce((x, y) => x + y),
    30,
  );
  steps(4 * TURN);
  // Each tab has one of two places.
  assert.equal(b.pieces.length, 10 + 4 * TURN);
  assert.equal(
    counted(...a).reduce((x, y) => x + y),
    30 + 4 * TURN,
  );
  whole(b, ...a);
});

test("tabs that share one place take turns", () => {
  const { tab, steps } = shared(1);
  const all = [tab(), tab(), tab()].map((tab) => tab.ask(1));
  steps(TURN / 2);
  assert.deepEqual(counted(...all), [TURN / 2, 0, 0]);
  steps(TURN * 6);
  for (const n of counted(...all)) assert.ok(n >= 2 * TURN, `${counted(...all)}`);
  whole(...all);
});

test("a tab that runs alone is not interrupted by its own requests", () => {
  const { tab, steps, port } = shared(1);
  const { ask } = tab();
  const [a, b] = [ask(1), ask(2)];
  steps(3 * TURN);
  assert.deepEqual(counted(a, b), [3 * TURN, 0]);
  assert.ok(!port.sent.some(({ op }) => op === "abort"));
});

test("a generation whose pieces nobody takes makes way, and goes on when they are taken", () => {
  const { tab, steps } = shared(1);
  const [slow, quick] = [tab(), tab()];
  const a = slow.ask(9, 5);
  steps(20);
  assert.equal(a.pieces.length, 5);
  const b = quick.ask(9);
  steps(20);
  assert.deepEqual(counted(a, b), [5, 20]);
  slow.link.postMessage({ op: "credit", target: 9, pieces: 16 });
  steps(TURN - 20);
  assert.deepEqual(counted(a, b), [5, TURN]);
  steps(20);
  assert.deepEqual(counted(a, b), [21, TURN + 4]);
  whole(a, b);
});

test("what a worker still says of a generation that made way is not said twice", () => {
  const { tab, steps, port } = shared(1);
  const [one, two] = [tab(), tab()];
  const a = one.ask(1);
  steps(TURN);
  const first = port.asked("generate").id;
  two.ask(1);
  port.piece(first, 999, [999]);
  port.say({ op: "error", id: first, error: { code: "aborted", place: "", message: "stopped" } });
  steps(2 * TURN);
  whole(a);
  assert.equal(one.said.filter(({ op }) => op !== "pieces").length, 0);
});

test("answers, aborts and errors reach the tab that asked, by its own numbers", () => {
  const { tab, port, steps } = shared();
  const [one, two] = [tab(), tab()];
  one.link.postMessage(untyped({ op: "tokenize", id: 5, text: "a" }));
  two.link.postMessage(untyped({ op: "tokenize", id: 5, text: "b" }));
  const [a, b] = port.sent.filter(({ op }) => op === "tokenize").map((m) => /** @type {any} */ (m).id);
  port.say({ op: "done", id: b, value: "B" });
  port.say({ op: "error", id: a, error: { code: "io", place: "", message: "A" } });
  assert.deepEqual(two.said, [{ op: "done", id: 5, value: "B" }]);
  assert.equal(one.said[0].error.message, "A");
  one.ask(6);
  steps();
  one.link.postMessage({ op: "abort", target: 6 });
  one.link.postMessage({ op: "abort", target: 60 });
  assert.deepEqual(port.sent.at(-1), { op: "abort", target: b + 1 });
});

test("many texts are embedded in parts, with those of others between them", () => {
  const { tab, port } = shared();
  const [one, two] = [tab(), tab()];
  one.link.postMessage(
    untyped({ op: "embed", id: 1, texts: Array.from({ length: 40 }, (_, i) => `${i}`), params: {} }),
  );
  two.link.postMessage(untyped({ op: "embed", id: 1, texts: ["x"], params: {} }));
  const order = [];
  for (let i = 0; i < port.sent.length; i++) {
    const message = /** @type {any} */ (port.sent[i]);
    if (message.op !== "embed") continue;
    order.push(message.texts.length);
    port.say({ op: "done", id: message.id, value: { embeddings: message.texts, tokens: message.texts.length } });
  }
  assert.deepEqual(order, [16, 1, 16, 8]);
  const { embeddings, tokens } = one.said[0].value;
  assert.deepEqual([one.said.length, embeddings.length, embeddings[39], tokens], [1, 40, "39", 40]);
  assert.deepEqual(two.said[0].value, { embeddings: ["x"], tokens: 1 });
  one.link.postMessage(untyped({ op: "embed", id: 2, texts: Array(40).fill("y"), params: {} }));
  one.link.postMessage({ op: "abort", target: 2 });
  const { target } = /** @type {any} */ (port.sent.at(-1));
  port.say({ op: "done", id: target, value: { embeddings: [], tokens: 0 } });
  assert.deepEqual(port.sent.at(-1), { op: "abort", target });
});

test("a tab that goes ends what it began, and nothing else", () => {
  const { tab, port, steps } = shared();
  const [stays, goes] = [tab(), tab()];
  const opened = (/** @type {number} */ value) =>
    port.say({ op: "done", id: /** @type {any} */ (port.sent.at(-1)).id, value });
  for (const [{ link }, number] of /** @type {const} */ ([
    [stays, 1],
    [goes, 2],
    [goes, 3],
  ])) {
    link.postMessage({ op: "openSession", id: 40 + number });
    opened(number);
  }
  goes.link.postMessage({ op: "closeSession", id: 50, session: 2 });
  opened(0);
  const a = stays.ask(1);
  const b = goes.ask(1);
  goes.link.postMessage({ op: "openSession", id: 51 });
  const late = /** @type {any} */ (port.sent.at(-1)).id;
  steps(5);
  goes.link.close();
  port.say({ op: "done", id: late, value: 4 });
  steps(5);
  assert.deepEqual(counted(a, b), [10, 5]);
  const closed = port.sent.flatMap((m) => (m.op === "closeSession" ? [m.session] : []));
  assert.deepEqual(closed, [2, 3, 4]);
});

test("tabs that come while the model loads hear of it, and those that come later too", async (t) => {
  const locks = /** @type {string[]} */ ([]);
  const request = async (/** @type {string} */ name) => locks.push(name);
  const query = async () => ({ held: [{ name: "pagelm l 0.5" }, { name: "pagelm other" }] });
  Object.defineProperty(globalThis, "navigator", { value: { locks: { request, query } }, configurable: true });
  t.after(() => Reflect.deleteProperty(globalThis, "navigator"));
  const { tab, port, failed } = shared();
  assert.equal(port.asked("load").id, 0);
  const [early, late] = [tab(), tab()];
  early.link.postMessage(untyped({ op: "load", id: 3 }));
  port.say({ op: "pieces", id: 0, values: ["half"], journal: [] });
  port.say({ op: "done", id: 0, value: "info" });
  late.link.postMessage(untyped({ op: "load", id: 4 }));
  assert.deepEqual(early.said, [
    { op: "pieces", id: 3, values: ["half"], journal: [] },
    { op: "done", id: 3, value: "info" },
  ]);
  assert.deepEqual(late.said, [{ op: "done", id: 4, value: "info" }]);
  await new Promise(setImmediate);
  // The worker's, and that of a thread.
  assert.deepEqual([locks, failed], [["pagelm l", "pagelm l 0.5"], []]);
  port.say({ op: "fatal", error: { code: "device-lost", place: "", message: "gone" } });
  port.onerror?.({ message: "x" });
  for (const { said } of [early, late]) {
    const codes = said.flatMap((m) => (m.op === "fatal" ? [m.error.code] : []));
    assert.deepEqual(codes, ["device-lost", "worker-lost"]);
  }
});

test("a model that does not load is told, and a message that cannot be sent is refused", () => {
  const { tab, port, failed } = shared();
  const { link, said } = tab();
  port.postMessage = () => {
    throw new TypeError("could not be cloned");
  };
  link.postMessage(untyped({ op: "render", id: 8 }));
  assert.deepEqual([said[0].id, said[0].error.code], [8, "invalid-argument"]);
  const error = /** @type {const} */ ({ code: "not-gguf", place: "", message: "no" });
  port.say({ op: "error", id: 0, error });
  assert.deepEqual(failed, [error]);
});
