// Downloads against a server with faults: the bytes are whole, or the error says what happened.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { serve } from "../../tools/serve.mjs";
import { bindings } from "./bindings.mjs";
import { source } from "./source.mjs";

const SIZE = 3_000_001;
const bytes = Buffer.from(Uint8Array.from({ length: SIZE }, (_, i) => (i * 7 + (i >> 8)) & 255));
const dir = mkdtempSync(join(tmpdir(), "pagelm-fetch-"));
const { Remote } = await source("worker/fetch.ts");
/** @type {Awaited<ReturnType<typeof serve>>} */
let server;

before(async () => {
  writeFileSync(join(dir, "a.bin"), bytes);
  writeFileSync(join(dir, "page.html"), "<!doctype html>");
  server = await serve({ mounts: { "/files": dir } });
});
after(async () => {
  await server.close();
  rmSync(dir, { recursive: true });
});

/** @param {string} url */
async function read(url, options = {}, start = 0, end = /** @type {number | undefined} */ (undefined)) {
  const remote = new Remote(url, { backoffMs: 1, why: bindings.whyUnreached, ...options });
  const parts = [];
  for await (const part of await remote.connect(start, end)) parts.push(Buffer.from(part));
  return { size: remote.size, body: Buffer.concat(parts) };
}

/** @typedef {Response | Error | (() => Response | Promise<Response>)} Answer */
/** A fetch that gives these answers, one after the other. @param {Answer[]} answers */
function answers(...answers) {
  /** @type {(string | undefined)[]} */
  const ranges = [];
  const fetch = async (/** @type {unknown} */ _, /** @type {RequestInit | undefined} */ init) => {
    ranges.push(new Headers(init?.headers).get("Range") ?? undefined);
    const next = answers.shift() ?? new Error("no more answers");
    if (next instanceof Error) throw next;
    return typeof next === "function" ? next() : next;
  };
  return { fetch, ranges };
}

/** Part of the file, as it is sent to who asked for a range. */
function part(/** @type {number} */ start, /** @type {number} */ end, headers = {}) {
  const range = { "content-range": `bytes ${start}-${end - 1}/${SIZE}`, "content-length": `${end - start}` };
  return new Response(bytes.subarray(start, end), { status: 206, headers: { ...range, ...headers } });
}

/** Something that comes never, until its request is given up. */
const silence = () => new Promise(() => {});

/** A body that breaks after some bytes. @param {Uint8Array} part */
function broken(part, headers = {}, status = 200) {
  const body = new ReadableStream({
    start(c) {
      c.enqueue(new Uint8Array(part));
    },
    pull(c) {
      c.error(new TypeError("network error"));
    },
  });
  return new Response(body, { status, headers });
}

test("a whole file comes whole", async () => {
  const { size, body } = await read(`${server.url}/files/a.bin`);
  assert.equal(size, SIZE);
  assert.ok(body.equals(bytes));
});

test("a broken connection goes on where it broke", async () => {
  const before = server.requests.length;
  const { body } = await read(`${server.url}/fault/flaky/files/a.bin`);
  assert.ok(body.equals(bytes));
  const asked = server.requests.slice(before);
  assert.deepEqual(
    asked.map((r) => r.status),
    [206, 206],
  );
  assert.match(asked[1]?.range ?? "", /^bytes=[1-9]\d*-$/);
});

test("a download that waited before a retry leaves no listener on its signal", async () => {
  const { fetch } = answers(new Error("no network"), new Error("no network"), new Response(bytes));
  const { signal } = new AbortController();
  const listeners = { add: 0, remove: 0 };
  for (const kind of /** @type {const} */ (["add", "remove"])) {
    const own = signal[`${kind}EventListener`].bind(signal);
    Object.assign(signal, {
      [`${kind}EventListener`]: (/** @type {[string, () => void]} */ ...given) => {
        listeners[kind]++;
        own(...given);
      },
    });
  }
  const { body } = await read("http://x/a", { fetch, signal });
  assert.ok(body.equals(bytes));
  assert.equal(listeners.remove, 2);
});

test("a server that ignores ranges sends the start again, and it is skipped", async () => {
  const { fetch, ranges } = answers(
    broken(bytes.subarray(0, 70_000), { "content-length": `${SIZE}` }),
    new Response(bytes, { headers: { "content-length": `${SIZE}` } }),
  );
  const { body } = await read("http://x/a", { fetch });
  assert.ok(body.equals(bytes));
  assert.deepEqual(ranges, ["bytes=0-", "bytes=70000-"]);
});

test("an answer that ends early without an error is noticed by its length", async () => {
  const { fetch } = answers(
    new Response(bytes.subarray(0, 1000), { headers: { "content-length": `${SIZE}` } }),
    new Response(bytes.subarray(1000), {
      status: 206,
      headers: { "content-range": `bytes 1000-${SIZE - 1}/${SIZE}`, "content-length": `${SIZE - 1000}` },
    }),
  );
  const { body } = await read("http://x/a", { fetch });
  assert.ok(body.equals(bytes));
});

test("a connection that breaks again and again is a network error with the place", async () => {
  const part = () => broken(bytes.subarray(0, 10), { "content-length": `${SIZE}` });
  const { fetch } = answers(part(), new TypeError("down"), new TypeError("down"), new TypeError("down"));
  await assert.rejects(read("http://x/a", { fetch, tries: 3 }), (/** @type {import("pagelm").PagelmError} */ e) => {
    assert.equal(e.name, "PagelmError");
    assert.equal(e.code, "network");
    assert.match(e.message, /at byte 10 of 3000001/);
    assert.equal(e.place, "http://x/a");
    return true;
  });
});

test("a file that changed in between is refused", async () => {
  const { fetch } = answers(
    broken(bytes.subarray(0, 10), { "content-length": `${SIZE}`, etag: '"1"' }),
    new Response(bytes.subarray(10), { status: 206, headers: { etag: '"2"' } }),
  );
  await assert.rejects(read("http://x/a", { fetch }), { code: "model-changed" });
});

test("an error status is told with its number and address, at once", async () => {
  const url = `${server.url}/files/none.bin`;
  await assert.rejects(read(url), { code: "http-status", place: url, message: /404/ });
});

test("a busy server is asked again", async () => {
  const { fetch } = answers(new Response("busy", { status: 503 }), new Response(bytes));
  assert.ok((await read("http://x/a", { fetch })).body.equals(bytes));
  const busy = answers(...Array.from({ length: 9 }, () => new Response("busy", { status: 503 })));
  await assert.rejects(read("http://x/a", { fetch: busy.fetch }), { code: "http-status", message: /503/ });
});

test("a web page is no model", async () => {
  await assert.rejects(read(`${server.url}/files/page.html`), { code: "not-gguf" });
});

test("a server that cannot be reached is a network error", async () => {
  await assert.rejects(read("http://127.0.0.1:9/a", { tries: 2 }), { code: "network" });
});

test("a connection that brings nothing counts as broken", async () => {
  const silent = () => new Response(new ReadableStream({}), { headers: { "content-length": "10" } });
  const { fetch } = answers(silent, silent);
  await assert.rejects(read("http://x/a", { fetch, tries: 2, stallMs: 20 }), {
    code: "network",
    message: /nothing came/,
  });
});

test("a signal ends a download and the wait between tries", async () => {
  const stop = new AbortController();
  const slow = read(`${server.url}/fault/slow/files/a.bin?ms=20`, { signal: stop.signal });
  setTimeout(() => stop.abort(), 60);
  await assert.rejects(slow, { code: "aborted" });
  const { fetch } = answers(new TypeError("down"));
  const waiting = read("http://x/a", { fetch, backoffMs: 60_000, signal: AbortSignal.timeout(20) });
  await assert.rejects(waiting, { code: "aborted" });
});

test("a signal's reason goes with its error", async () => {
  const { PagelmError, abortError } = await source("shared/errors.ts");
  const stopped = (/** @type {AbortSignal} */ signal) => abortError(signal);
  const plain = stopped(AbortSignal.abort());
  assert.ok(plain instanceof PagelmError);
  assert.deepEqual(
    [plain.code, plain.name, /** @type {Error} */ (plain.cause).name],
    ["aborted", "AbortError", "AbortError"],
  );
  const own = new Error("enough");
  const named = stopped(AbortSignal.abort(own));
  assert.deepEqual([named.code, named.name, named.cause], ["aborted", "AbortError", own]);
  const late = AbortSignal.timeout(1);
  await new Promise((done) => setTimeout(done, 20));
  assert.deepEqual([stopped(late).code, stopped(late).name], ["aborted", "TimeoutError"]);
  // What comes from the worker knows no reason.
  assert.equal(PagelmError.from({ code: "aborted", place: "", message: "m" }).name, "AbortError");
  assert.equal(PagelmError.from({ code: "network", place: "", message: "m" }).name, "PagelmError");
});

test("a file that a server sends in parts is joined, and its length is that of the whole", async () => {
  const cuts = [0, 1_000_000, 1_000_010, 1_000_020, 1_000_030, 1_000_040, 1_000_050, 3_000_000, SIZE];
  const parts = cuts.slice(1).map((end, i) => part(cuts[i] ?? 0, end));
  const { fetch, ranges } = answers(...parts);
  const { size, body } = await read("http://x/a", { fetch, backoffMs: 60_000 });
  assert.equal(size, SIZE);
  assert.ok(body.equals(bytes));
  assert.deepEqual(ranges, ["bytes=0-", ...cuts.slice(1, -1).map((at) => `bytes=${at}-`)]);
});

test("parts are joined where the server hides their place, or does not know the length", async () => {
  const hidden = (/** @type {number} */ start, /** @type {number} */ end) =>
    new Response(bytes.subarray(start, end), { status: 206, headers: { "content-length": `${end - start}` } });
  const open = (/** @type {number} */ start, /** @type {number} */ end) =>
    part(start, end, { "content-range": `bytes ${start}-${end - 1}/*` });
  for (const give of [hidden, open]) {
    const { fetch } = answers(give(0, 2_000_000), give(2_000_000, SIZE), new Response(null, { status: 416 }));
    const { size, body } = await read("http://x/a", { fetch, backoffMs: 60_000 });
    assert.equal(size, undefined);
    assert.ok(body.equals(bytes));
  }
});

test("a part that breaks, that is another one, or that is empty is not the end", async () => {
  const { fetch, ranges } = answers(
    broken(bytes.subarray(0, 10), { "content-range": `bytes 0-999/${SIZE}` }, 206),
    part(10, 1000),
    part(1000, SIZE),
  );
  assert.ok((await read("http://x/a", { fetch })).body.equals(bytes));
  assert.deepEqual(ranges, ["bytes=0-", "bytes=10-", "bytes=1000-"]);
  const other = answers(part(0, 1000), part(500, 1000));
  await assert.rejects(read("http://x/a", { fetch: other.fetch }), {
    code: "http-status",
    message: /from byte 500 on, not from 1000/,
  });
  const unasked = answers(part(500, 1000));
  await assert.rejects(read("http://x/a", { fetch: unasked.fetch }), {
    code: "http-status",
    message: /from byte 500 on/,
  });
  const empty = () => new Response("", { status: 206, headers: { "content-length": "0" } });
  const none = answers(part(0, 1000), empty, empty, empty);
  await assert.rejects(read("http://x/a", { fetch: none.fetch, tries: 3 }), {
    code: "network",
    message: /at byte 1000/,
  });
});

test("a server that ignores ranges goes on after parts too", async () => {
  const { fetch } = answers(part(0, 1000), new Response(bytes, { headers: { "content-length": `${SIZE}` } }));
  assert.ok((await read("http://x/a", { fetch })).body.equals(bytes));
});

test("a wait that a busy server asks for is kept, and is not endless", async () => {
  for (const status of [429, 503]) {
    for (const form of ["seconds", "date"]) {
      const asked = form === "seconds" ? "1" : new Date(Date.now() + 2000).toUTCString();
      const { fetch } = answers(new Response("", { status, headers: { "retry-after": asked } }), new Response(bytes));
      let stalls = 0;
      const startedAt = performance.now();
      const { body } = await read("http://x/a", { fetch, onStall: () => stalls++ });
      assert.ok(body.equals(bytes));
      assert.ok(performance.now() - startedAt >= 950, `${asked}: ${performance.now() - startedAt} ms`);
      assert.equal(stalls, 1);
    }
  }
  const hour = answers(new Response("", { status: 429, headers: { "retry-after": "3600" } }));
  const refused = { code: "http-status", message: /429.*asked to wait 3600 s \(Retry-After\)/ };
  await assert.rejects(read("http://x/a", { fetch: hour.fetch }), refused);
  assert.equal(hour.ranges.length, 1);
});

test("waits are read as seconds and as dates", async () => {
  const { retryAfter } = await source("worker/reasons.ts");
  const now = Date.parse("2026-01-01T00:00:00Z");
  const read = (/** @type {string | null} */ header) => retryAfter(header, now);
  assert.deepEqual(
    [null, "", "soon", "-5", "0", " 7 ", "Thu, 01 Jan 2026 00:00:09 GMT", "Wed, 31 Dec 2025 00:00:00 GMT"].map(read),
    [undefined, undefined, undefined, undefined, 0, 7000, 9000, 0],
  );
});

test("a stall is noticed after 15 s, told, and tried again; bytes end it", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  const turn = () => new Promise((next) => setImmediate(next));
  const pass = async (/** @type {number} */ ms) => {
    for (let i = 0; i < 5; i++) await turn();
    t.mock.timers.tick(ms);
    for (let i = 0; i < 5; i++) await turn();
  };
  let stalls = 0;
  const mute = new ReadableStream({ start: (c) => c.enqueue(new Uint8Array(bytes.subarray(0, 10))) });
  const { fetch, ranges } = answers(
    silence,
    new Response(mute, { headers: { "content-length": `${SIZE}` } }),
    part(10, SIZE),
  );
  const whole = read("http://x/a", { fetch, onStall: () => stalls++ });
  await pass(14_999);
  assert.deepEqual([stalls, ranges.length], [0, 1]);
  await pass(1);
  assert.ok(stalls >= 1);
  for (let i = 0; i < 8; i++) await pass(10); // it also looks for what a policy forbids
  assert.equal(ranges.length, 2);
  stalls = 0;
  await pass(15_000);
  assert.ok(stalls >= 1, "a second silence is told as early");
  await pass(15_000);
  for (let i = 0; i < 8; i++) await pass(10); // it also looks for what a policy forbids
  assert.ok((await whole).body.equals(bytes));
  assert.deepEqual(ranges, ["bytes=0-", "bytes=0-", "bytes=10-"]);
});

test("the time in which a page was frozen is no silence of the server", async (t) => {
  // A timer that is late comes once, however late it is.
  const ticks = /** @type {Set<() => void>} */ (new Set());
  const start = (/** @type {() => void} */ tick) => ticks.add(tick) && tick;
  t.mock.method(globalThis, "setInterval", start);
  t.mock.method(globalThis, "clearInterval", (/** @type {() => void} */ tick) => ticks.delete(tick));
  const tick = () => [...ticks].map((f) => f());
  let stalls = 0;
  const comes = /** @type {{ now?: ReadableStreamDefaultController }} */ ({});
  const body = new ReadableStream({
    start: (c) => {
      comes.now = c;
    },
  });
  const { fetch, ranges } = answers(new Response(body, { headers: { "content-length": `${SIZE}` } }));
  const whole = read("http://x/a", { fetch, onStall: () => stalls++ });
  while (!ticks.size || !comes.now) await new Promise(setImmediate);
  // Three parts of the time that a server has; then the page stands still, and data comes after its timers.
  for (let i = 0; i < 3; i++) tick();
  await new Promise(setImmediate);
  assert.equal(stalls, 0);
  comes.now.enqueue(new Uint8Array(bytes));
  comes.now.close();
  assert.ok((await whole).body.equals(bytes));
  assert.deepEqual([stalls, ranges.length, ticks.size], [0, 1, 0]);
});

test("a server that never answers is given up soon, with what may be wrong", async () => {
  await assert.rejects(read("http://127.0.0.1:9/a"), {
    code: "network",
    message: /after 3 tries: .*is there a server at http:\/\/127\.0\.0\.1:9, and may this page read its files \(CORS/,
  });
});

test("a server that answers others only is told from one that is not there", async () => {
  const asked = /** @type {(RequestInit | undefined)[]} */ ([]);
  const fetch = async (/** @type {unknown} */ _, /** @type {RequestInit | undefined} */ init) => {
    asked.push(init);
    if (init?.mode === "no-cors") return new Response(null);
    throw new TypeError("Failed to fetch");
  };
  await assert.rejects(read("http://x/a", { fetch }), {
    code: "network",
    message: /the server answers, but not to pages of .*CORS.*Access-Control-Allow-Origin/,
  });
  assert.deepEqual(
    asked.map((init) => init?.method ?? "GET"),
    ["GET", "GET", "GET", "HEAD"],
  );
});

test("what keeps a page from a server is named where it can be known", async (t) => {
  const down = () => answers(...Array.from({ length: 9 }, () => new TypeError("Failed to fetch"))).fetch;
  const page = (/** @type {string} */ name, /** @type {unknown} */ value) => {
    const before = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true });
    t.after(() =>
      before ? Object.defineProperty(globalThis, name, before) : Reflect.deleteProperty(globalThis, name),
    );
  };
  const says = (/** @type {string} */ url, /** @type {RegExp} */ message) =>
    assert.rejects(read(url, { fetch: down() }), { code: "network", message });
  page("origin", "https://page");
  await says("https://page/a", /is the server at https:\/\/page running\?/);
  await says("http://other/a", /a page over https cannot fetch over http/);
  await says("http://localhost:1/a", /is there a server/);
  await says("blob:https://page/x", /is blob: data that can still be read\?/);
  page("navigator", { onLine: false });
  await says("https://other/a", /this device is offline/);
});

test("a content security policy is named at once, and nothing is tried again", async (t) => {
  const events = new EventTarget();
  for (const name of /** @type {const} */ (["addEventListener", "removeEventListener"])) {
    Object.defineProperty(globalThis, name, { value: events[name].bind(events), configurable: true });
    t.after(() => Reflect.deleteProperty(globalThis, name));
  }
  const tell = (/** @type {string} */ disposition) =>
    events.dispatchEvent(
      Object.assign(new Event("securitypolicyviolation"), { disposition, effectiveDirective: "connect-src" }),
    );
  const forbidden = (/** @type {string} */ disposition) => {
    setTimeout(() => tell(disposition));
    return Promise.reject(new TypeError("Failed to fetch"));
  };
  const { fetch, ranges } = answers(() => forbidden("enforce"), new Error("asked again"));
  await assert.rejects(read("https://models.example/a.gguf", { fetch }), {
    code: "network",
    message: /content security policy .* allow https:\/\/models\.example in connect-src/,
  });
  assert.equal(ranges.length, 1);
  // One that only reports forbids nothing.
  const reported = answers(() => forbidden("report"), new Response(bytes));
  assert.ok((await read("http://x/a", { fetch: reported.fetch })).body.equals(bytes));
});
