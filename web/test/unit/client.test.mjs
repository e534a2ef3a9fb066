// The protocol from the page's side, with a worker that is a script: every request settles, once.
import assert from "node:assert/strict";
import { test } from "node:test";
import { FakePort } from "./port.mjs";
import { source } from "./source.mjs";
import { untyped } from "./untyped.mjs";

const { Client } = await source("page/client.ts");
const { pieces: run, wireParams } = await source("page/stream.ts");
const { PagelmError } = await source("shared/errors.ts");

const INPUT = { prompt: { text: "x" }, params: { sampler: {} } };
const piece = (/** @type {number} */ id) => ({ kind: "token", id, text: `t${id}` });
/** @param {import("pagelm").Piece | void} p */
const idOf = (p) => (p?.kind === "token" ? p.id : undefined);

test("an answer settles its own request only", async () => {
  const port = new FakePort();
  const client = new Client(port);
  const [a, b] = [client.call("mtp", { session: 1, next: 1 }), client.call("mtp", { session: 1, next: 2 })];
  port.say({ op: "done", id: 2, value: "second" });
  port.say({ op: "error", id: 1, error: { code: "invalid-state", place: "p", message: "m" } });
  port.say({ op: "done", id: 1, value: "too late" });
  assert.equal(await b, "second");
  await assert.rejects(a, { name: "PagelmError", code: "invalid-state", place: "p", message: "m" });
});

test("the end of the worker fails all that waits and all that comes later", async () => {
  for (const [end, code] of /** @type {const} */ ([
    [(/** @type {FakePort} */ p) => p.onerror?.({ message: "died" }), "worker-lost"],
    [(/** @type {FakePort} */ p) => p.onmessageerror?.({}), "worker-lost"],
    [
      (/** @type {FakePort} */ p) => p.say({ op: "fatal", error: { code: "internal", place: "", message: "x" } }),
      "internal",
    ],
  ])) {
    const port = new FakePort();
    const client = new Client(port);
    const waiting = [client.call("stats", {}), client.call("stats", {})];
    end(port);
    for (const w of waiting) await assert.rejects(w, { code });
    await assert.rejects(client.call("stats", {}), { code });
    assert.equal(port.terminated, 1);
  }
});

test("a signal rejects at once, tells the worker, and late answers are dropped", async () => {
  const port = new FakePort();
  const client = new Client(port);
  const stop = new AbortController();
  const call = client.call("mtp", { session: 1, next: 1 }, { signal: stop.signal });
  stop.abort();
  await assert.rejects(call, { code: "aborted" });
  assert.deepEqual(port.sent.at(-1), { op: "abort", target: 1 });
  port.say({ op: "done", id: 1, value: 1 });
  await assert.rejects(client.call("stats", {}, { signal: stop.signal }), { code: "aborted" });
  assert.equal(port.sent.length, 2);
});

test("a message that cannot be sent is the caller's error", async () => {
  const port = new FakePort();
  port.postMessage = structuredClone;
  await assert.rejects(new Client(port).call("render", { chat: { messages: untyped([() => 0]) } }), {
    code: "invalid-argument",
  });
});

test("a stream gives what came before its end, in order, and grants credit as it is read", async () => {
  const port = new FakePort();
  const pieces = run(new Client(port), "generate", INPUT, undefined);
  const first = pieces.next();
  for (let i = 0; i < 40; i++) port.piece(1, piece(i));
  port.say({ op: "done", id: 1, value: null });
  const got = [(await first).value];
  for await (const p of pieces) got.push(p);
  assert.deepEqual(
    got.map(idOf),
    Array.from({ length: 40 }, (_, i) => i),
  );
  assert.equal(port.asked("generate").credit, 32);
});

test("a stream that nobody reads gets no more credit", async () => {
  const port = new FakePort();
  const pieces = run(new Client(port), "generate", INPUT, undefined);
  const first = pieces.next();
  for (let i = 0; i < 32; i++) port.piece(1, piece(i));
  await first;
  await new Promise((done) => setTimeout(done, 5));
  assert.equal(port.sent.length, 1);
  for (let i = 1; i < 16; i++) await pieces.next();
  assert.deepEqual(port.sent[1], { op: "credit", target: 1, pieces: 16 });
});

test("leaving the loop stops the generation", async () => {
  const port = new FakePort();
  const pieces = run(new Client(port), "generate", INPUT, undefined);
  const first = pieces.next();
  port.piece(1, piece(0));
  await first;
  await pieces.return();
  assert.deepEqual(port.sent.at(-1), { op: "abort", target: 1 });
});

test("an error ends a stream after its last piece, an abort before", async () => {
  const port = new FakePort();
  const client = new Client(port);
  const failing = run(client, "generate", INPUT, undefined);
  const first = failing.next();
  port.piece(1, piece(0));
  port.say({ op: "error", id: 1, error: { code: "device-lost", place: "", message: "" } });
  assert.equal(idOf((await first).value), 0);
  await assert.rejects(failing.next(), { code: "device-lost" });

  const stop = new AbortController();
  const stopped = run(client, "generate", INPUT, stop.signal);
  const begun = stopped.next();
  for (let i = 0; i < 3; i++) port.piece(2, piece(i));
  await begun;
  stop.abort();
  await assert.rejects(stopped.next(), { code: "aborted" });
});

test("disposal rejects what runs", async () => {
  const port = new FakePort();
  const client = new Client(port);
  const running = client.call("stats", {});
  client.end(new PagelmError("disposed", "gone"));
  await assert.rejects(running, { code: "disposed" });
  assert.equal(port.terminated, 1);
});

test("parameters cross without gaps, and always with a seed", () => {
  const wire = wireParams({ temperature: 0, stop: "a", logitBias: { 7: -100 }, topK: null, maxTokens: 9 });
  assert.equal(typeof wire.sampler.seed, "number");
  wire.sampler.seed = 1;
  assert.deepEqual(wire, { sampler: { temperature: 0, logitBias: [[7, -100]], seed: 1 }, stop: ["a"], maxTokens: 9 });
});
