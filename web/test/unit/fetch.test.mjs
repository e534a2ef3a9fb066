// Downloads against a server with faults: the bytes are whole, or the error says what happened.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { serve } from "../serve.mjs";
import { source } from "./source.mjs";

const SIZE = 3_000_001;
const bytes = Buffer.from(Uint8Array.from({ length: SIZE }, (_, i) => (i * 7 + (i >> 8)) & 255));
const dir = mkdtempSync(join(tmpdir(), "pagelm-fetch-"));
const { openSource } = await source("loader/fetch.ts");
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

/** @param {string | Blob} model */
async function read(model, options = {}) {
  const opened = await openSource(model, { backoffMs: 1, ...options });
  const parts = [];
  for await (const part of opened.pieces()) parts.push(part);
  return { size: opened.size, body: Buffer.concat(parts) };
}

/** A fetch that gives these answers, one after the other. @param {(Response | Error | (() => Response))[]} answers */
function answers(...answers) {
  /** @type {(string | undefined)[]} */
  const ranges = [];
  const fetch = async (/** @type {string} */ _, /** @type {any} */ init) => {
    ranges.push(init.headers.Range);
    const next = answers.shift() ?? new Error("no more answers");
    if (next instanceof Error) throw next;
    return typeof next === "function" ? next() : next;
  };
  return { fetch, ranges };
}

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

test("a Blob comes whole", async () => {
  const { size, body } = await read(new Blob([bytes]));
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
    [200, 206],
  );
  assert.match(asked[1]?.range ?? "", /^bytes=[1-9]\d*-$/);
});

test("a server that ignores ranges sends the start again, and it is skipped", async () => {
  const { fetch, ranges } = answers(
    broken(bytes.subarray(0, 70_000), { "content-length": `${SIZE}` }),
    new Response(bytes, { headers: { "content-length": `${SIZE}` } }),
  );
  const { body } = await read("http://x/a", { fetch });
  assert.ok(body.equals(bytes));
  assert.deepEqual(ranges, [undefined, "bytes=70000-"]);
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
  await assert.rejects(read("http://x/a", { fetch, tries: 3 }), (/** @type {any} */ e) => {
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
