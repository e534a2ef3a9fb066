// A worker that is lost and another one that goes on: what the page sends again, and what its callers notice.
import assert from "node:assert/strict";
import { test } from "node:test";
import { FakePort } from "./port.mjs";
import { source } from "./source.mjs";
import { untyped } from "./untyped.mjs";

const { Client } = await source("page/client.ts");
const { Session } = await source("page/engine.ts");
const { pieces: run } = await source("page/stream.ts");
const { PagelmError } = await source("shared/errors.ts");

const INPUT = { prompt: { text: "x" }, params: { sampler: {} } };
const token = (/** @type {number} */ id) => ({ kind: "token", id, text: `t${id}` });
const turn = (ms = 0) => new Promise((resolve) => setTimeout(resolve, ms));
const lost = (code = "device-lost") =>
  /** @type {const} */ ({ op: "fatal", error: { code: /** @type {any} */ (code), place: "p", message: "gone" } });

/** An engine whose workers are fakes: `ports` has all of them, `asked` how each but the first was wanted. */
function engine({ backend = "webgpu", fails = /** @type {Error[]} */ ([]) } = {}) {
  const ports = [new FakePort()];
  const told = /** @type {string[]} */ ([]);
  const asked = /** @type {boolean[]} */ ([]);
  const client = new Client(/** @type {FakePort} */ (ports[0]));
  client.info = untyped({ backend });
  client.onRecover = ({ phase, error, attempt }) => {
    told.push(`${phase} ${error.code} ${attempt}`);
  };
  client.revive = async (_, onCpu) => {
    asked.push(onCpu);
    await turn();
    const error = fails.shift();
    if (error) throw error;
    const port = new FakePort();
    ports.push(port);
    const next = new Client(port);
    next.info = untyped({ backend: onCpu ? "cpu" : backend });
    return next;
  };
  const last = () => /** @type {FakePort} */ (ports.at(-1));
  return { client, ports, told, asked, last };
}

test("a stream goes on in another worker, which is told what was done, and gets each piece once", async () => {
  const { client, ports, told, last } = engine();
  const stream = run(client, "generate", INPUT, undefined);
  const first = stream.next();
  const [old] = /** @type {[FakePort]} */ (/** @type {unknown} */ (ports));
  for (let i = 0; i < 20; i++) old.piece(1, token(i), [3, i]);
  await first;
  for (let i = 1; i < 17; i++) await stream.next();
  const stale = old.onmessage;
  old.say(lost());
  assert.equal(old.terminated, 1);
  await turn(500);
  assert.equal(ports.length, 2);
  const again = last().asked("generate");
  assert.equal(again.id, 1);
  assert.deepEqual(again.replay, Array.from({ length: 20 }, (_, i) => [3, i]).flat());
  // Of 32 pieces 20 came, and the page granted 16 more.
  assert.equal(again.credit, 28);
  // What the old worker still says changes nothing.
  stale?.({ data: { op: "pieces", id: 1, values: [token(99)], journal: [3, 99] } });
  assert.equal(old.onmessage, null);
  last().piece(1, token(20), [3, 20]);
  last().say({ op: "done", id: 1, value: null });
  const ids = [];
  for await (const p of stream) if (p.kind === "token") ids.push(p.id);
  assert.deepEqual(
    ids.filter((id) => id !== 99),
    [17, 18, 19, 20],
  );
  assert.deepEqual(told, ["recovering device-lost 1", "recovered device-lost 1"]);
});

test("a worker is replaced three times in vain, and then the error names a remedy", async () => {
  const { client, asked, last, told } = engine({ backend: "cpu" });
  const stream = run(client, "request", untyped({ method: "POST", path: "/", body: "", attached: [] }), undefined);
  const all = stream.next();
  all.catch(() => {});
  for (let i = 0; i < 3; i++) {
    const port = last();
    // How much of a prompt was read, is no progress.
    port.piece(1, { kind: "prefill", done: 1, total: 9 });
    port.say(lost("internal"));
    // The page waits longer each time.
    while (last() === port) await turn(20);
  }
  await turn(20);
  last().say(lost("internal"));
  for (let left = 3; left--; ) await stream.next().catch(() => {});
  await assert.rejects(client.call("stats", {}), {
    code: "internal",
    place: "p",
    message: /gone; .*close other pages/,
  });
  assert.equal(client.ended?.code, "internal");
  assert.deepEqual(asked, [false, false, false]);
  assert.equal(told.length, 6);
});

test("tokens are progress: a stream may be lost as often as it comes further", async () => {
  const { client, last, ports } = engine({ backend: "cpu" });
  const stream = run(client, "generate", INPUT, undefined);
  const all = (async () => {
    const ids = [];
    for await (const p of stream) if (p.kind === "token") ids.push(p.id);
    return ids;
  })();
  await turn();
  for (let i = 0; i < 8; i++) {
    last().piece(1, token(i), [3, i]);
    last().say(lost());
    await turn(500);
  }
  assert.equal(ports.length, 9);
  last().say({ op: "done", id: 1, value: null });
  assert.deepEqual(await all, [0, 1, 2, 3, 4, 5, 6, 7]);
});

test("a load that fails counts, and after two losses of a GPU the CPU is asked for", async () => {
  const failure = new PagelmError("no-gpu", "there is none now");
  const { client, asked, last } = engine({ fails: [failure] });
  const call = client.call("stats", {});
  last().say(lost());
  await turn(1500);
  assert.deepEqual(asked, [false, true]);
  assert.equal(client.info.backend, "cpu");
  last().say({ op: "done", id: 1, value: "s" });
  assert.equal(await call, "s");
});

test("two losses with an answer between them leave the GPU in use", async () => {
  const { client, asked, last } = engine();
  for (const id of [1, 2]) {
    const stream = run(client, "generate", INPUT, undefined);
    const end = stream.next();
    last().say(lost());
    await turn(500);
    last().piece(id, token(1), [3, 1]);
    last().say({ op: "done", id, value: null });
    await end;
    await turn();
  }
  assert.deepEqual(asked, [false, false]);
});

test("sessions are lost with their worker, and new ones are opened", async () => {
  const { client, last } = engine();
  const session = Session.over(client, 1);
  const calls = [session.prefill([1]), session.fork()].map((call) =>
    assert.rejects(call, { code: "device-lost", message: /session is lost.*snapshot/ }),
  );
  const opening = client.call("openSession", {});
  last().say(lost());
  await Promise.all(calls);
  await turn(500);
  assert.deepEqual(
    last().sent.map((m) => m.op),
    ["openSession"],
  );
  await assert.rejects(session.decode(1), { code: "device-lost" });
  await session.close();
  assert.equal(last().sent.length, 1, "another session may have its number");
  last().say({ op: "done", id: 3, value: 1 });
  const other = Session.over(client, await opening);
  const logits = other.decode(5);
  last().say({ op: "done", id: 4, value: new Float32Array(2) });
  assert.equal((await logits).length, 2);
});

test("what is asked and stopped while there is no worker is sent and not sent", async () => {
  const { client, last } = engine();
  last().say(lost());
  const stop = new AbortController();
  const stopped = client.call("stats", {}, { signal: stop.signal });
  const asked = client.call("tokenize", { text: "x", options: { addSpecial: false, parseSpecial: false } });
  stop.abort();
  await assert.rejects(stopped, { code: "aborted" });
  await turn(500);
  assert.deepEqual(
    last().sent.map((m) => m.op),
    ["tokenize"],
  );
  last().say({ op: "done", id: 2, value: "ids" });
  assert.equal(await asked, "ids");
});

test("an engine that is disposed of while it is made again stays disposed of", async () => {
  const { client, last, ports } = engine();
  const call = client.call("stats", {});
  last().say(lost());
  client.end(new PagelmError("disposed", "gone"));
  await assert.rejects(call, { code: "disposed" });
  await turn(500);
  assert.deepEqual(
    ports.map((port) => port.terminated > 0),
    [true, true],
  );
});

test("without recovery the first loss is the end", async () => {
  const { client, last, told } = engine();
  client.revive = undefined;
  const call = client.call("stats", {});
  last().say(lost());
  await assert.rejects(call, { code: "device-lost", message: "gone" });
  assert.deepEqual(told, []);
});

/** Locks that a test gives. @param {import("node:test").TestContext} t @param {string[]} held */
function fakeLocks(t, held = []) {
  const asked = /** @type {{ name: string, signal: AbortSignal, got: () => void }[]} */ ([]);
  const request = async (
    /** @type {string} */ name,
    /** @type {{ signal: AbortSignal }} */ { signal },
    got = () => {},
  ) => asked.push({ name, signal, got });
  const listeners = /** @type {[() => void, AbortSignal][]} */ ([]);
  const values = {
    navigator: { locks: { request, query: async () => ({ held: held.map((name) => ({ name })) }) } },
    addEventListener: (
      /** @type {string} */ type,
      /** @type {() => void} */ f,
      { signal = new AbortController().signal },
    ) => {
      assert.equal(type, "beforeunload");
      listeners.push([f, signal]);
    },
  };
  for (const [name, value] of Object.entries(values)) {
    const before = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true });
    t.after(() =>
      before ? Object.defineProperty(globalThis, name, before) : Reflect.deleteProperty(globalThis, name),
    );
  }
  return {
    asked,
    leave: () => {
      for (const [listen, signal] of listeners) if (!signal.aborted) listen();
    },
  };
}

test("a worker that ends without a word is noticed by its lock, and only while it is in use", async (t) => {
  const { asked } = fakeLocks(t);
  const { client, told, ports } = engine();
  client.watch("a");
  await turn();
  assert.deepEqual(
    asked.map(({ name }) => name),
    ["pagelm a"],
  );
  asked[0]?.got();
  await turn(500);
  assert.deepEqual(told, ["recovering worker-lost 1", "recovered worker-lost 1"]);
  // The page ended that one itself by now.
  asked[0]?.got();
  await turn(500);
  assert.equal(ports.length, 2);
});

test("a thread that ends without a word is noticed by its lock", async (t) => {
  const { asked } = fakeLocks(t, ["pagelm a 0.5", "pagelm b", "pagelm a"]);
  const { client, told } = engine();
  client.watch("a");
  await turn();
  const thread = asked.find(({ name }) => name === "pagelm a 0.5");
  assert.ok(asked.every(({ name }) => name.startsWith("pagelm a")));
  thread?.got();
  await turn(500);
  assert.deepEqual(told, ["recovering worker-lost 1", "recovered worker-lost 1"]);
});

test("before a page is left an idle worker gives its lock back, and takes it again a while later", async (t) => {
  const { asked, leave } = fakeLocks(t);
  const { client, told, ports } = engine();
  const port = /** @type {import("./port.mjs").FakePort} */ (ports[0]);
  const lives = () => port.sent.flatMap((m) => (m.op === "life" ? [m] : []));
  client.watch("a");
  await turn();
  // Not while something runs.
  const { result } = client.start("stats", {});
  leave();
  assert.deepEqual([lives(), asked[0]?.signal.aborted], [[], false]);
  port.say({ op: "done", id: port.asked("stats").id, value: null });
  await result;

  t.mock.timers.enable({ apis: ["setTimeout"] });
  leave();
  leave();
  assert.deepEqual(
    lives().map(({ life }) => life),
    [""],
  );
  assert.equal(asked[0]?.signal.aborted, true);
  port.say({ op: "done", id: lives()[0]?.id ?? 0, value: undefined });
  t.mock.timers.tick(5000);
  assert.equal(lives()[1]?.life, "a");
  port.say({ op: "done", id: lives()[1]?.id ?? 0, value: undefined });
  t.mock.timers.reset();
  await turn();
  assert.equal(asked.at(-1)?.signal.aborted, false);
  assert.ok(asked.length > 1);
  asked.at(-1)?.got();
  await turn(500);
  assert.deepEqual(told, ["recovering worker-lost 1", "recovered worker-lost 1"]);
});
