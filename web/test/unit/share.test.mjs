// Tabs that share an engine: which one has it, who goes on when that one goes, and what each page notices.
import assert from "node:assert/strict";
import { test } from "node:test";
import { FakePort } from "./port.mjs";
import { browser, held } from "./several.mjs";
import { source } from "./source.mjs";
import { untyped } from "./untyped.mjs";

const { tabs } = await source("share.ts");
const { Client } = await source("page/client.ts");
const { pieces: run } = await source("page/stream.ts");
const { PagelmError } = await source("shared/errors.ts");

/** @typedef {import("../../src/page/client.ts").Port} Port */

const INPUT = { prompt: { text: "x" }, params: { sampler: {} } };
const LOAD = {
  model: "https://models/a.gguf",
  source: { cache: true },
  wasm: { builds: ["base"], threads: 1 },
  backend: "auto",
  options: { contextLength: 64 },
};
const token = (/** @type {number} */ id) => ({ kind: "token", id, text: `t${id}` });
const settle = async () => {
  for (let i = 0; i < 20; i++) await new Promise((done) => setImmediate(done));
};

/** Holds a lock as long as it lives, as workers do. */
class Worker extends FakePort {
  /** Whether it takes long to end. */
  lingers = false;
  end = () => {};

  /** @override @param {import("../../src/shared/protocol.ts").ToWorker} message */
  postMessage(message) {
    super.postMessage(message);
    if (message.op !== "load") return;
    const lives = new Promise((end) => {
      this.end = () => end(undefined);
    });
    navigator.locks.request(`pagelm ${message.life}`, () => lives);
  }

  /** @override */
  terminate() {
    super.terminate();
    if (!this.lingers) this.end();
  }
}

/** What opens tabs with an engine each, whose workers are fakes. @param {import("node:test").TestContext} t */
function pages(t) {
  const open = browser(t);
  return async ({ load = {}, share = undefined, fails = false, info = {} } = /** @type {any} */ ({})) => {
    const tab = open();
    const ports = /** @type {Worker[]} */ ([]);
    const roles = /** @type {string[]} */ ([]);
    const start = async () => {
      if (fails) throw new PagelmError("engine-not-loaded", "no script here");
      const port = new Worker();
      const { say } = port;
      port.say = (data) => tab.run(() => say.call(port, data));
      ports.push(port);
      return port;
    };
    const made = share ?? tabs({ onRole: (role) => roles.push(role) });
    const seat = tab.run(() => /** @type {Port} */ (made(/** @type {never} */ (start))));
    const client = new Client(seat);
    const loading = tab.run(() => client.call("load", untyped({ ...LOAD, ...load })));
    loading.then(
      (got) => Object.assign(client, { info: got }),
      () => {},
    );
    await settle();
    const end = () => tab.run(() => client.end(new PagelmError("disposed", "gone")));
    const loaded = async () => {
      const port = /** @type {Worker} */ (ports.at(-1));
      port.say({ op: "done", id: 0, value: { backend: "cpu", ...info } });
      await settle();
      return port;
    };
    return {
      tab,
      client,
      seat,
      ports,
      roles,
      loading,
      loaded,
      end,
      made,
      call: (/** @type {any[]} */ ...given) => tab.run(() => /** @type {any} */ (client).call(...given)),
    };
  };
}

/** Takes so many tokens of a stream. @param {AsyncGenerator<any>} stream @param {number} n */
async function take(stream, n) {
  const ids = [];
  while (ids.length < n) ids.push((await stream.next()).value?.id);
  return ids;
}

test("the first tab has the engine, and the others use it", async (t) => {
  const open = pages(t);
  const first = await open();
  const port = await first.loaded();
  const second = await open();
  assert.deepEqual([first.roles, second.roles], [["leader"], ["follower"]]);
  assert.deepEqual([first.ports.length, second.ports.length], [1, 0]);
  assert.deepEqual(await second.loading, { backend: "cpu" });
  const answer = second.call("tokenize", { text: "x", options: {} });
  await settle();
  const { id } = port.asked("tokenize");
  port.say({ op: "done", id, value: new Uint32Array([1, 2]) });
  assert.deepEqual(await answer, new Uint32Array([1, 2]));
  const refused = second.call("render", { chat: { messages: [() => {}] } });
  await assert.rejects(refused, { code: "invalid-argument", message: /clone/ });
});

for (const way of /** @type {const} */ (["crash", "dispose", "freeze"]))
  test(`streams go on, each token once, when the tab with the engine goes: ${way}`, async (t) => {
    const open = pages(t);
    const first = await open();
    const port = await first.loaded();
    const [second, third] = [await open(), await open()];
    const own = first.tab.run(() => run(first.client, "generate", INPUT, undefined));
    const stream = second.tab.run(() => run(second.client, "generate", INPUT, undefined));
    const taking = take(stream, 20);
    const taken = take(own, 3);
    taken.catch(() => {});
    await settle();
    const [a, b] = port.sent.filter(({ op }) => op === "generate").map((m) => /** @type {any} */ (m).id);
    for (let i = 0; i < 20; i++) port.piece(b, token(i), [3, i]);
    for (let i = 0; i < 3; i++) port.piece(a, token(i), [3, i]);
    await settle();
    // What was on its way when the tab went comes again.
    port.piece(b, token(20), [3, 20]);
    if (way === "crash") first.tab.crash();
    if (way === "dispose") first.end();
    if (way === "freeze") first.tab.fire("freeze");
    await settle();
    assert.equal(port.terminated, way === "crash" ? 0 : 1);
    const next = [second, third].find(({ ports }) => ports.length === 1);
    assert.ok(next, "one of the others has it");
    assert.equal(second.ports.length + third.ports.length, 1);
    const new_ = await next.loaded();
    const [again, ...more] = new_.sent.filter(({ op }) => op === "generate").map((m) => /** @type {any} */ (m));
    assert.deepEqual(more, []);
    const come = again.replay.length / 2;
    assert.ok(come === 20 || come === 21, `${come}`);
    for (let i = come; i < 30; i++) new_.piece(again.id, token(i), [3, i]);
    new_.say({ op: "done", id: again.id, value: null });
    await settle();
    const all = await taking;
    for await (const piece of stream) all.push(/** @type {any} */ (piece).id);
    assert.deepEqual(
      all,
      Array.from({ length: 30 }, (_, i) => i),
    );
    if (way !== "freeze") return;
    assert.deepEqual(held().filter((name) => name.startsWith("pagelm share")).length, 1);
    first.tab.fire("resume");
    await settle();
    assert.deepEqual(first.roles, ["leader", "follower"]);
    const back = new_.sent
      .filter(({ op }) => op === "generate")
      .map((m) => /** @type {any} */ (m))
      .at(-1);
    assert.deepEqual(back.replay, [3, 0, 3, 1, 3, 2]);
    assert.deepEqual(await taken, [0, 1, 2]);
  });

test("a page that is put aside whole leaves, and one that is closed needs not", async (t) => {
  const open = pages(t);
  const first = await open();
  const port = await first.loaded();
  first.tab.fire("pagehide", { persisted: false });
  assert.equal(port.terminated, 0);
  first.tab.fire("pagehide", { persisted: true });
  await settle();
  assert.deepEqual([port.terminated, held()], [1, []]);
  for (const name of ["resume", "pageshow"]) first.tab.fire(name);
  await settle();
  assert.deepEqual([first.ports.length, first.roles], [2, ["leader", "leader"]]);
});

test("the next tab begins only when the worker of the one before is gone", async (t) => {
  const open = pages(t);
  const first = await open();
  const port = await first.loaded();
  const second = await open();
  port.lingers = true;
  first.end();
  await settle();
  assert.equal(second.ports.length, 0);
  port.end();
  await settle();
  assert.equal(second.ports.length, 1);
});

test("a tab in which the model does not load leaves it to the next", async (t) => {
  const open = pages(t);
  const [broken, other] = [await open({ fails: true }), await open()];
  await assert.rejects(broken.loading, { code: "engine-not-loaded" });
  broken.end();
  await settle();
  await other.loaded();
  assert.deepEqual(await other.loading, { backend: "cpu" });
  assert.deepEqual([broken.roles, other.roles], [[], ["leader"]]);
});

test("a worker that is lost is lost for all tabs, which begin again, on the CPU too", async (t) => {
  const open = pages(t);
  const first = await open();
  const port = await first.loaded();
  const second = await open();
  const call = second.call("stats", {});
  const failed = first.call("stats", {});
  port.say({ op: "fatal", error: { code: "device-lost", place: "", message: "gone" } });
  // These clients have nothing that revives them.
  await Promise.all([call, failed].map((lost) => assert.rejects(lost, { code: "device-lost" })));
  await settle();
  assert.deepEqual(held(), []);
  const again = await open({ share: first.made, load: { backend: "cpu" } });
  await again.loaded();
  const auto = await open();
  assert.deepEqual(auto.roles, ["follower"]);
  const cpu = await open({ load: { backend: "cpu" } });
  assert.deepEqual(cpu.roles, ["leader"]);
});

test("sessions end with the tab that has them, and their numbers are their own", async (t) => {
  const open = pages(t);
  const first = await open();
  const port = await first.loaded();
  const second = await open();
  /** @param {FakePort} to */
  const answer = async (to, /** @type {unknown} */ value) => {
    await settle();
    const asked = /** @type {any} */ (to.sent.at(-1));
    to.say({ op: "done", id: asked.id, value });
    return asked;
  };
  const opening = second.call("openSession", {});
  await answer(port, 77);
  const session = await opening;
  const forking = second.call("openSession", { fork: session });
  assert.equal((await answer(port, 78)).fork, 77);
  const fork = await forking;
  const decoding = second.call("prefill", { session: fork, ids: new Uint32Array([1]) });
  assert.equal((await answer(port, new Float32Array(2))).session, 78);
  await decoding;
  first.tab.crash();
  await settle();
  const next = await second.loaded();
  await assert.rejects(second.call("prefill", { session, ids: new Uint32Array([1]) }), {
    code: "worker-lost",
    message: /open another one/,
  });
  await second.call("closeSession", { session });
  const reopening = second.call("openSession", {});
  await answer(next, 77);
  assert.notEqual(await reopening, session);
});

test("a page with a fetch function of its own begins anew where it must be asked", async (t) => {
  const open = pages(t);
  const first = await open();
  await first.loaded();
  const second = await open({ load: { source: { cache: true, fetch: true } } });
  assert.deepEqual(second.roles, ["follower"]);
  const call = second.call("stats", {});
  first.tab.crash();
  await assert.rejects(call, { code: "worker-lost", message: /the tab that had the engine is gone/ });
});

test("who asks for something else has an engine of its own, and signatures of addresses do not matter", async (t) => {
  const open = pages(t);
  const first = await open();
  await first.loaded();
  for (const [load, role] of /** @type {const} */ ([
    [{ model: "https://models/a.gguf?X-Amz-Signature=2" }, "follower"],
    [{ model: "https://models/b.gguf" }, "leader"],
    [{ model: ["https://models/a.gguf"] }, "follower"],
    [{ options: { contextLength: 65 } }, "leader"],
    [{ wasm: { builds: ["base"], threads: 2 } }, "leader"],
    [{ mmproj: "https://models/b.gguf" }, "leader"],
    [{ backend: "webgpu" }, "leader"],
    [{ wasm: { builds: ["base"], threads: 1, folder: "/elsewhere/" } }, "follower"],
  ]))
    assert.deepEqual((await open({ load })).roles, [role], JSON.stringify(load));
});

test("what cannot be shared is refused, with words", async (t) => {
  assert.throws(() => tabs(untyped({ onrole: 1 })), { code: "invalid-argument", message: /no option onrole/ });
  assert.throws(() => tabs(untyped({ onRole: 1 })), { code: "invalid-argument", message: /must be a function/ });
  const open = pages(t);
  for (const model of [new Blob(["x"]), "blob:https://x/1", ["https://models/a.gguf", new Blob(["x"])]])
    await assert.rejects((await open({ load: { model } })).loading, {
      code: "invalid-argument",
      message: /models\.import/,
    });
  const request = async () => {
    throw new DOMException("storage is blocked", "SecurityError");
  };
  Object.defineProperty(globalThis, "navigator", { value: { locks: { request } }, configurable: true, writable: true });
  await assert.rejects((await open()).loading, {
    code: "invalid-argument",
    message: /no Web Lock.*storage is blocked/,
  });
  Object.defineProperty(globalThis, "navigator", { value: {}, configurable: true, writable: true });
  await assert.rejects((await open()).loading, { code: "invalid-argument", message: /Web Locks.*https/ });
});
