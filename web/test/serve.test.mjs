// The faults that the test server makes are those that it says: other tests rely on them.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { serve } from "../tools/serve.mjs";

const bytes = Buffer.from(Uint8Array.from({ length: 300_000 }, (_, i) => i * 7));
const dir = mkdtempSync(join(tmpdir(), "pagelm-serve-"));
/** @type {Awaited<ReturnType<typeof serve>>} */
let server;

before(async () => {
  writeFileSync(join(dir, "a.bin"), bytes);
  server = await serve({ mounts: { "/files": dir } });
});
after(async () => {
  await server.close();
  rmSync(dir, { recursive: true });
});

/** @param {string} path @param {Record<string, string>} [headers] */
const get = (path, headers = {}) => fetch(server.url + path, { headers });
/** @param {Response} response */
const body = async (response) => Buffer.from(await response.arrayBuffer());

test("serves files, isolated, and nothing outside its folders", async () => {
  const whole = await get("/files/a.bin");
  assert.equal(whole.headers.get("cross-origin-embedder-policy"), "require-corp");
  assert.equal(whole.headers.get("cross-origin-opener-policy"), "same-origin");
  assert.deepEqual(await body(whole), bytes);
  assert.equal((await get("/files/..%2f..%2fetc/passwd")).status, 404);
  assert.equal((await get("/other")).status, 404);
});

test("serves ranges", async () => {
  const part = await get("/files/a.bin", { range: "bytes=100-199" });
  assert.equal(part.status, 206);
  assert.equal(part.headers.get("content-range"), "bytes 100-199/300000");
  assert.deepEqual(await body(part), bytes.subarray(100, 200));
  assert.deepEqual(await body(await get("/files/a.bin", { range: "bytes=-10" })), bytes.subarray(-10));
  assert.deepEqual(await body(await get("/files/a.bin", { range: "bytes=299990-" })), bytes.subarray(-10));
  assert.equal((await get("/files/a.bin", { range: "bytes=300000-" })).status, 416);
  const changed = await get("/files/a.bin", { range: "bytes=0-9", "if-range": '"another"' });
  assert.equal(changed.status, 200);
  await changed.body?.cancel();
});

test("cuts the connection halfway", async () => {
  const response = await get("/fault/truncate/files/a.bin");
  assert.equal(response.headers.get("content-length"), "300000");
  let got = 0;
  await assert.rejects(async () => {
    for await (const part of /** @type {AsyncIterable<Uint8Array>} */ (response.body)) got += part.length;
  });
  assert.equal(got, 150_000);
});

test("cuts the first connection only", async () => {
  await assert.rejects(async () => body(await get("/fault/flaky/files/a.bin")));
  assert.deepEqual(await body(await get("/fault/flaky/files/a.bin")), bytes);
});

test("answers with garbage, the whole file, slowly, or not at all", async () => {
  const garbage = await body(await get("/fault/garbage/files/a.bin"));
  assert.equal(garbage.length, bytes.length);
  assert.notDeepEqual(garbage.subarray(0, 64), bytes.subarray(0, 64));
  const whole = await get("/fault/norange/files/a.bin", { range: "bytes=100-199" });
  assert.equal(whole.status, 200);
  assert.equal(whole.headers.get("accept-ranges"), null);
  assert.deepEqual(await body(whole), bytes);
  const start = performance.now();
  assert.deepEqual(await body(await get("/fault/slow/files/a.bin?bytes=100000&ms=30")), bytes);
  assert.ok(performance.now() - start >= 55, "three pieces, two pauses between them");
  server.allow(1000);
  const dripping = await fetch(`${server.url}/fault/slow/files/a.bin?ms=0`);
  const reader = dripping.body?.getReader();
  for (let got = 0; got < 1001; ) got += (await reader?.read())?.value?.length ?? assert.fail("it ended");
  const { sent } = server.requests.at(-1) ?? assert.fail("it was not asked");
  assert.ok(sent > 1000 && sent < 10_000, `${sent} bytes were sent`);
  await reader?.cancel();
  server.allow(Number.POSITIVE_INFINITY);
  assert.equal((await get("/fault/404/files/a.bin")).status, 404);
});
