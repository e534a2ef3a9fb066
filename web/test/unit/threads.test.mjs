// Which build runs and how many threads, from the worker's side; and how the page starts and ends its workers.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { serve } from "../../tools/serve.mjs";
import { source } from "./source.mjs";
import { untyped } from "./untyped.mjs";

/** @typedef {import("pagelm").WasmBuild} WasmBuild */

const { startThreads, startWasm } = await source("worker/wasm.ts");
const { Script } = await source("page/script.ts");
const { Workers } = await source("page/workers.ts");

// What a page and a worker have and Node has not.
Object.assign(globalThis, { self: globalThis, location: new URL("http://page.example/") });

/** An engine's module that wants threads. @param {number} wanted @param {() => number} running */
const module = (wanted, running) =>
  /** @type {import("../../src/worker/bindings.d.ts").Bindings} */ (
    untyped({ threadsWanted: () => wanted, closeThreads: running, default: async () => {} })
  );

test("the best build that script and folder have is taken, and why not a better one", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "pagelm-builds-"));
  const server = await serve({ mounts: { "/": dir } });
  t.after(async () => {
    await server.close();
    rmSync(dir, { recursive: true });
  });
  t.mock.method(console, "warn", () => {});
  const wasm = Uint8Array.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);
  const scripts = { base: module(0, () => 1), threads: module(2, () => 3) };
  const start = (/** @type {WasmBuild[]} */ builds) =>
    startWasm(scripts, { builds, folder: `${server.url}/`, threads: 3, whyOneThread: null, stop: undefined });
  const all = /** @type {WasmBuild[]} */ (["threads-relaxed", "threads", "relaxed", "base"]);

  writeFileSync(join(dir, "pagelm-base.wasm"), wasm);
  const base = await start(all);
  assert.equal(base.build, "base");
  assert.match(base.whyOneThread ?? "", /lacks the build threads-relaxed/);
  await assert.rejects(start(["threads"]), { code: "engine-not-loaded", message: /404/ });
  writeFileSync(join(dir, "pagelm-threads.wasm"), "<!doctype html>");
  assert.equal((await start(all)).build, "base");
  writeFileSync(join(dir, "pagelm-threads.wasm"), wasm);
  const threads = await start(all);
  assert.deepEqual([threads.build, threads.whyOneThread], ["threads", null]);
});

/** Starts threads of which each does what it is told. @param {((port: MessagePort) => void)[]} threads @param {number} run @param {object} memory */
const lend = (threads, run, memory = {}) => {
  const wasm = module(threads.length, () => run);
  const started = untyped({ wasm, build: "threads", module: {}, memory, threads: 9, whyOneThread: null });
  return startThreads(started, (/** @type {MessagePort[]} */ ports) => ports.map((port, i) => threads[i]?.(port)));
};
const say = (/** @type {object} */ message) => (/** @type {MessagePort} */ port) => {
  port.postMessage(message);
  port.close();
};
const running = say({ op: "running" });
const broken = say({ op: "fatal", error: { code: "internal", place: "", message: "no room" } });

test("how many threads run is what the module says, and why some do not what they said", async (t) => {
  t.mock.method(console, "warn", () => {});
  assert.deepEqual(await lend([], 1), { threads: 1, why: null });
  assert.deepEqual(await lend([running, running], 3), { threads: 3, why: null });
  assert.deepEqual(await lend([running, broken], 2), { threads: 2, why: "1 of 2 threads did not start: no room" });
  const { why } = await lend([(port) => port.close()], 1, () => "not to be shared");
  assert.match(why ?? "", /^1 of 1 threads did not start: .*could not be cloned/);
});

test("a thread that says nothing is waited for ten seconds", async (t) => {
  t.mock.method(console, "warn", () => {});
  t.mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  const lent = lend([running, (port) => port.close()], 2);
  for (let turns = 0; turns < 50; turns++) await new Promise((resolve) => setImmediate(resolve));
  t.mock.timers.tick(10_000);
  assert.deepEqual(await lent, { threads: 2, why: "1 of 2 threads did not start: it did not run within 10 s" });
});

/** @typedef {{ op: string }} Sent what a worker is told */

/** Workers as the browser makes them: `refuse` says why one does not start; `null`: it says nothing. @param {(url: string) => unknown} refuse */
function browser(refuse) {
  const made =
    /** @type {{ url: string, options: WorkerOptions, sent: Sent[], ended: boolean, onmessage: (event: object) => void, onerror: (event: object) => void }[]} */ ([]);
  Object.assign(globalThis, {
    Worker: class {
      sent = /** @type {Sent[]} */ ([]);
      ended = false;
      onmessage = (/** @type {object} */ _) => {};
      onerror = (/** @type {object} */ _) => {};
      postMessage = (/** @type {Sent} */ m) => this.sent.push(m);
      terminate = () => {
        this.ended = true;
      };
      /** @param {unknown} url @param {WorkerOptions} options */
      constructor(url, options) {
        const why = refuse(String(url));
        if (why instanceof Error) throw why;
        made.push(Object.assign(this, { url: String(url), options }));
        if (why === undefined) setTimeout(() => this.onmessage({ data: { op: "hello" } }));
        else if (why) setTimeout(() => this.onerror(why));
      }
    },
  });
  return made;
}
const event = { message: "", preventDefault: () => {} };

test("a worker starts by the plain way, or imported by a blob, and threads go the way that worked", async () => {
  const plain = browser(() => undefined);
  await new Script("/w.js").start();
  assert.deepEqual(
    plain.map((w) => w.url),
    ["/w.js"],
  );
  for (const refused of [event, new DOMException("other origin", "SecurityError")]) {
    const made = browser((url) => (url.startsWith("blob:") ? undefined : refused));
    const script = new Script("https://cdn.example/w.js");
    await script.start();
    await script.start();
    const blobs = made.filter((w) => w.url.startsWith("blob:"));
    assert.equal(made.length, refused === event ? 3 : 2);
    assert.match(await (await fetch(blobs[1]?.url ?? "")).text(), /import\("https:\/\/cdn\.example\/w\.js"\)/);
    assert.deepEqual(blobs[0]?.options, { type: "module" });
  }
});

test("a worker that does not start is an error with its address, and leaves nothing", async () => {
  const made = browser(() => event);
  await assert.rejects(new Script("/none.js").start(), {
    code: "engine-not-loaded",
    place: "http://page.example/none.js",
    message: /did not load; .*workerUrl/,
  });
  assert.ok(made.length === 2 && made.every((w) => w.ended));
});

test("another script than the package's is told from it", async () => {
  const made = browser(() => null);
  const started = new Script("/other.js").start();
  made[0]?.onmessage({ data: "ready" });
  await assert.rejects(started, { code: "engine-not-loaded", message: /not the package/ });
  assert.ok(made[0]?.ended);
});

test("a script that says nothing is given up after a minute, and at once by the signal", async (t) => {
  const made = browser(() => null);
  const stop = new AbortController();
  const stopped = new Script("/a.js").start(stop.signal);
  stop.abort();
  await assert.rejects(stopped, { code: "aborted" });
  t.mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  const silent = new Script("/a.js").start();
  t.mock.timers.tick(60_000);
  await assert.rejects(silent, { code: "engine-not-loaded", message: /said nothing in 60 s/ });
  assert.ok(made.every((w) => w.ended));
});

test("a thread that fails takes the engine with it, for all wait for each", async () => {
  const made = browser(() => undefined);
  const script = new Script("/w.js");
  const workers = new Workers(script, await script.start(), undefined);
  const { port1 } = new MessageChannel();
  made[0]?.onmessage({ data: { op: "threads", ports: [port1] } });
  while (!made[1]?.sent.length) await new Promise(setImmediate);
  const told = /** @type {unknown[]} */ ([]);
  workers.onerror = (event) => told.push(event.message);
  workers.onmessage = ({ data }) => told.push(data);
  made[1].onerror(untyped({ message: "out of memory" }));
  const fatal = { op: "fatal", error: { code: "internal", place: "", message: "it broke" } };
  made[1].onmessage(untyped({ data: fatal }));
  assert.deepEqual(told, ["out of memory", fatal]);
  // Who has ended the engine hears nothing more.
  workers.onerror = null;
  made[1].onerror(untyped({ message: "late" }));
  assert.equal(told.length, 2);
  port1.close();
});

test("the end of an engine raises its flag, tells it, and ends all workers a moment later", async (t) => {
  const made = browser(() => undefined);
  const script = new Script("/w.js");
  const engine = await script.start();
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const workers = new Workers(script, engine, stop);
  const { port1, port2 } = new MessageChannel();
  made[0]?.onmessage({ data: { op: "threads", ports: [port1, port2] } });
  while (made.length < 3 || made.some((w, i) => i > 0 && w.sent.length === 0)) await new Promise(setImmediate);
  assert.deepEqual(
    made.slice(1).map((w) => w.sent[0]?.op),
    ["thread", "thread"],
  );
  t.mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  workers.terminate();
  assert.equal(stop[0], 1);
  assert.deepEqual(made[0]?.sent, [{ op: "end" }]);
  assert.ok(made.every((w) => !w.ended));
  t.mock.timers.tick(100);
  assert.ok(made.every((w) => w.ended));
  port1.close();
});
