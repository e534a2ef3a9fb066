// The page's own fetch function, as the worker calls it over the protocol.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { source } from "./source.mjs";

const { serveFetch } = await source("page/fetch.ts");
const { Task } = await source("worker/task.ts");
/** @typedef {import("../../src/shared/types.ts").FetchFunction} FetchFunction */

/**
 * The function that the worker has where the page has this one. @param {import("node:test").TestContext} t
 * @param {FetchFunction} get
 */
function worker(t, get) {
  const over = new AbortController();
  const postMessage = (/** @type {import("../../src/page/fetch.ts").Asked} */ asked) => {
    assert.deepEqual([asked.op, asked.id], ["fetch", 7]);
    serveFetch(get, structuredClone(asked, { transfer: [asked.port] }), over.signal);
  };
  const before = Object.getOwnPropertyDescriptor(globalThis, "self");
  Object.defineProperty(globalThis, "self", { value: { postMessage }, configurable: true });
  t.after(() =>
    before ? Object.defineProperty(globalThis, "self", before) : Reflect.deleteProperty(globalThis, "self"),
  );
  const task = new Task(/** @type {import("../../src/shared/protocol.ts").Request} */ ({ id: 7, op: "storedModels" }));
  // A connection aborts its requests once it is done with them.
  const done = new AbortController();
  t.after(() => done.abort());
  /** @type {FetchFunction} */
  const fetch = (url, init) => task.fetch(url, { signal: done.signal, ...init });
  return { fetch, over };
}

/** A body whose pieces lie in memory that is used again. @param {number} n */
function pieces(n, cancelled = () => {}) {
  const memory = new Uint8Array(1000);
  let at = 0;
  return new ReadableStream(
    {
      pull(to) {
        if (at === n) return to.close();
        memory.fill(at++);
        to.enqueue(memory.subarray(100, 110));
      },
      cancel: cancelled,
    },
    { highWaterMark: 0 },
  );
}

test("an answer has the status, the headers and all bytes", async (t) => {
  const { fetch } = worker(t, async (url, init) => {
    assert.deepEqual([url, new Headers(init.headers).get("range"), init.method], ["https://x/a", "bytes=0-9", "HEAD"]);
    return new Response(pieces(5), { status: 206, statusText: "Part", headers: { ETag: '"1"' } });
  });
  const response = await fetch("https://x/a", { method: "HEAD", headers: { Range: "bytes=0-9" } });
  assert.deepEqual([response.status, response.statusText, response.headers.get("etag")], [206, "Part", '"1"']);
  const body = new Uint8Array(await response.arrayBuffer());
  assert.deepEqual(
    body,
    Uint8Array.from({ length: 50 }, (_, i) => Math.floor(i / 10)),
  );
});

test("an answer may have no body", async (t) => {
  const { fetch } = worker(t, async () => new Response(null, { status: 304 }));
  const response = await fetch("https://x/a", {});
  assert.deepEqual([response.status, response.body], [304, null]);
});

test("an error is told, before and after the first bytes", async (t) => {
  const early = worker(t, () => Promise.reject(new Error("no token")));
  await assert.rejects(early.fetch("https://x/a", {}), /no token/);
  const failing = new ReadableStream({ pull: (to) => to.error(new Error("cut")) });
  const late = worker(t, async () => new Response(failing));
  await assert.rejects((await late.fetch("https://x/a", {})).text(), /cut/);
});

test("what is no answer is refused", async (t) => {
  for (const [wrong, shown] of /** @type {const} */ ([
    [undefined, "undefined"],
    ["text", '"text"'],
  ])) {
    const { fetch } = worker(t, /** @type {FetchFunction} */ (/** @type {unknown} */ (async () => wrong)));
    const message = `fetch must return a Response, returned ${shown}`;
    await assert.rejects(fetch("https://x/a", {}), { code: "invalid-argument", place: "fetch", message });
  }
});

test("a stopped request stops, whether the function heeds its signal or not, and its body is left", async (t) => {
  for (const heeds of [true, false]) {
    let stopped = false;
    const { fetch } = worker(t, (_, { signal }) => {
      signal?.addEventListener("abort", () => {
        stopped = true;
      });
      return new Promise((_, reject) => heeds && signal?.addEventListener("abort", () => reject(signal.reason)));
    });
    const stop = new AbortController();
    const answer = fetch("https://x/a", { signal: stop.signal });
    stop.abort();
    await assert.rejects(answer, { name: "AbortError" });
    await sleep(20);
    assert.ok(stopped);
  }
  let cancelled = false;
  const body = pieces(1e9, () => {
    cancelled = true;
  });
  const { fetch } = worker(t, async () => new Response(body));
  const reader = (await fetch("https://x/a", {})).body?.getReader();
  await reader?.read();
  await reader?.cancel();
  await sleep(20);
  assert.ok(cancelled);
});

test("a request ends with the page's", async (t) => {
  let stopped = false;
  const { fetch, over } = worker(t, (_, { signal }) => {
    signal?.addEventListener("abort", () => {
      stopped = true;
    });
    return Promise.reject(new Error("no"));
  });
  await assert.rejects(fetch("https://x/a", {}));
  over.abort();
  assert.ok(stopped);
});
