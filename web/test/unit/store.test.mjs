// What is stored of a download, whatever became of it: the bytes are right, and none is paid for twice.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { serve } from "../../tools/serve.mjs";
import { bindings } from "./bindings.mjs";
import { FakeStorage } from "./opfs.mjs";
import { source } from "./source.mjs";

const BLOCK = 1 << 20;
const starting = Promise.resolve({ wasm: bindings });
const SIZE = 7 * BLOCK + 12_345;
const BLOCKS = 8;
const bytes = Buffer.from(Uint8Array.from({ length: SIZE }, (_, i) => (i * 7 + (i >> 8) + (i >> 20)) & 255));
const SHA256 = createHash("sha256").update(bytes).digest("hex");
const dir = mkdtempSync(join(tmpdir(), "pagelm-store-"));
const { ModelFiles, removeModel, storedModels, modelFiles } = await source("worker/files.ts");
const { download } = await source("worker/download.ts");
const { line: record } = await source("shared/lines.ts");
const { readLog } = await source("worker/log.ts");
const { stableUrl } = await source("shared/stable-url.ts");

/** @type {Awaited<ReturnType<typeof serve>>} */
let server;
before(async () => {
  writeFileSync(join(dir, "a.gguf"), bytes);
  for (let i = 0; i < 3; i++) {
    writeFileSync(join(dir, `m-0000${i + 1}-of-00003.gguf`), bytes.subarray((i * SIZE) / 3, ((i + 1) * SIZE) / 3));
  }
  server = await serve({ mounts: { "/files": dir } });
});
after(async () => {
  await server.close();
  rmSync(dir, { recursive: true });
});

/** @typedef {Parameters<typeof ModelFiles.open>[1]} Source @typedef {Partial<Parameters<typeof ModelFiles.open>[2]>} Options */
/**
 * Loads as the engine does; `stopAt` leaves after so many bytes, as when the page is closed.
 * @param {string} model @param {Partial<Omit<Source, "fetch">> & Omit<Options, "headers"> & { stopAt?: number, spread?: boolean }} options
 */
async function load(
  model,
  { stopAt = Number.POSITIVE_INFINITY, cache = true, sha256, headers, spread, ...options } = {},
) {
  const files = await ModelFiles.open(
    model,
    { cache, ...(sha256 && { sha256 }), ...(headers && { headers }) },
    { write: true, starting, backoffMs: 1, ...options },
  );
  const body = [];
  let seen = 0;
  try {
    for (const feed of files.feeds) {
      feed.spread = spread ?? false;
      const parts = Buffer.alloc(feed.size ?? SIZE);
      let end = 0;
      for await (const piece of feed.pieces()) {
        parts.set(piece.bytes, piece.offset);
        end = Math.max(end, piece.offset + piece.bytes.length);
        seen += piece.bytes.length;
        if (seen >= stopAt) return { body: Buffer.alloc(0), ...files.source };
      }
      body.push(parts.subarray(0, end));
    }
    return { body: Buffer.concat(body), ...files.source };
  } finally {
    files.close();
  }
}

const url = (/** @type {string} */ path) => server.url + path;
const A = "/files/a.gguf";

test("what was loaded once is read, and nobody is asked again", async (t) => {
  const storage = new FakeStorage().install(t);
  const first = await load(url(A));
  assert.ok(first.body.equals(bytes));
  assert.deepEqual([first.network, first.cache, first.stored, first.whyNotStored], [SIZE, 0, true, null]);
  const asked = server.requests.length;
  const second = await load(url(A));
  assert.ok(second.body.equals(bytes));
  assert.deepEqual([second.network, second.cache, second.stored], [0, SIZE, true]);
  assert.equal(server.requests.length, asked);
  assert.equal(storage.flushes, 0, "a load does not wait for the disk");
});

test("a download waits for the disk", async (t) => {
  const storage = new FakeStorage().install(t);
  const task = { signal: new AbortController().signal, pieces: () => {}, threads: () => {} };
  const request = /** @type {any} */ ({ model: url(A), source: { cache: true }, verify: false });
  const { source: from } = await download(/** @type {any} */ (starting), request, /** @type {any} */ (task));
  assert.deepEqual([from.network, from.stored], [SIZE, true]);
  assert.equal(storage.flushes, 2, "of the bytes and of the log");
});

test("a file is opened and asked for while the module is on its way", async (t) => {
  new FakeStorage().install(t);
  for (const path of [A, "/files/m-00002-of-00003.gguf"]) {
    const asked = server.requests.length;
    let come = (/** @type {{ wasm: typeof bindings }} */ _) => {};
    const late = new Promise((/** @type {(module: { wasm: typeof bindings }) => void} */ resolve) => {
      come = resolve;
    });
    const loaded = load(url(path), { starting: late });
    // The parts of a split model are named by the module.
    const whole = path === A;
    for (const end = Date.now() + 500; Date.now() < end && server.requests.length === asked; )
      await new Promise((resolve) => setTimeout(resolve, 5));
    assert.equal(server.requests.length - asked, whole ? 1 : 0);
    come({ wasm: bindings });
    const { body, stored } = await loaded;
    assert.deepEqual([body.equals(bytes), stored], [true, true]);
  }
});

test("a module that does not come ends a load", async (t) => {
  new FakeStorage().install(t);
  const none = Promise.reject(new Error("no module"));
  none.catch(() => {});
  await assert.rejects(load(url(A), { starting: none }), { message: "no module" });
});

test("a load of what is stored can be stopped, and lets the worker's messages in", async (t) => {
  new FakeStorage().install(t);
  await load(url(A));
  const stop = new AbortController();
  // As a message would.
  setImmediate(() => stop.abort());
  const files = await ModelFiles.open(url(A), { cache: true }, { write: true, starting, signal: stop.signal });
  t.after(() => files.close());
  let seen = 0;
  const read = async () => {
    for await (const { bytes } of files.feeds[0]?.pieces() ?? []) seen += bytes.length;
  };
  await assert.rejects(read(), { code: "aborted" });
  assert.ok(seen < SIZE);
});

test("a page that was killed anywhere goes on there", async (t) => {
  const storage = new FakeStorage().install(t);
  let fetched = 0;
  for (let i = 0; ; i++) {
    const { network, body, stored } = await load(url(`/fault/slow${A}?bytes=65536&ms=0`), {
      stopAt: 1 + ((i * 2_345_678) % (3 * BLOCK)) + (i + 1) * BLOCK,
    });
    storage.kill();
    fetched += network;
    if (!stored) continue;
    assert.ok(body.equals(bytes));
    break;
  }
  // At most the block that was not whole is lost with each page.
  assert.ok(fetched <= SIZE + 8 * BLOCK, `${fetched}`);
});

test("whatever a crash leaves of the log and the bytes, the model is whole", async (t) => {
  const storage = new FakeStorage().install(t);
  await load(url(A));
  const [log, data] = [storage.only(".log"), storage.only(".gguf")];
  const [whole, stored] = [log.bytes, data.bytes];
  for (let i = 0; i < 20; i++) {
    // The log is cut anywhere, and so are the bytes: neither need have reached the disk before the other.
    log.bytes = whole.slice(0, Math.floor((whole.length * i) / 19));
    data.bytes = stored.slice(0, Math.floor((SIZE * ((i * 7) % 20)) / 19));
    const again = await load(url(A));
    assert.ok(again.body.equals(bytes), `cut ${i}`);
    assert.ok(again.stored);
    const third = await load(url(A));
    assert.equal(third.network, 0);
    assert.ok(third.body.equals(bytes));
  }
});

test("a flipped bit costs its block, and no more", async (t) => {
  const storage = new FakeStorage().install(t);
  await load(url(A));
  for (const at of [0, 3 * BLOCK + 5, SIZE - 1]) {
    const data = storage.only(".gguf").bytes;
    data[at] = (data[at] ?? 0) ^ 1;
    const again = await load(url(A));
    assert.ok(again.body.equals(bytes));
    assert.equal(again.network, Math.min(BLOCK, SIZE - Math.floor(at / BLOCK) * BLOCK));
    assert.equal((await load(url(A))).network, 0);
  }
});

test("torn lines of a log cost no other line", () => {
  const meta = {
    url: "u",
    model: "m",
    part: 0,
    parts: 1,
    name: "n",
    version: null,
    size: 9,
    sha256: null,
    checked: false,
  };
  const records = [record(meta), record([0, "aa"]), record([1, "bb"]), record([0]), record([2, "cc"])];
  const whole = readLog(records.join(""));
  assert.deepEqual(whole, {
    meta,
    blocks: new Map([
      [1, "bb"],
      [2, "cc"],
    ]),
  });
  for (let cut = 0; cut < records.join("").length; cut++) {
    const torn = records.join("").slice(0, cut);
    // What is written after the crash is read.
    const log = readLog(torn + records[0] + record([7, "dd"]));
    assert.equal(log?.blocks.get(7), "dd", `cut ${cut}`);
    for (const [i, digest] of log?.blocks ?? []) if (i !== 7) assert.equal(digest, ["aa", "bb", "cc"][i]);
  }
});

test("a full disk does not end a load, and is told", async (t) => {
  const storage = new FakeStorage().install(t);
  storage.promised = Number.POSITIVE_INFINITY;
  storage.quota = SIZE / 2;
  const first = await load(url(A));
  assert.ok(first.body.equals(bytes));
  assert.equal(first.stored, false);
  assert.match(first.whyNotStored ?? "", /QuotaExceededError/);
  // What there was room for is kept.
  storage.quota = Number.POSITIVE_INFINITY;
  const second = await load(url(A));
  assert.ok(second.body.equals(bytes));
  assert.ok(second.stored && second.cache >= 3 * BLOCK);
});

test("what cannot fit is not begun to be stored", async (t) => {
  const storage = new FakeStorage().install(t);
  storage.quota = SIZE - 1;
  const { body, whyNotStored } = await load(url(A));
  assert.ok(body.equals(bytes));
  assert.match(whyNotStored ?? "", /needs 7352377 bytes more, the browser gives 73\d+/);
  assert.ok(storage.used < 1000);
});

test("a browser that gives no storage, or takes it away, is no obstacle", async (t) => {
  const storage = new FakeStorage().install(t);
  await load(url(A), { stopAt: 3 * BLOCK });
  let writes = 0;
  storage.onWrite = () => {
    if (++writes === 6) for (const file of storage.files.values()) file.gone = true;
  };
  const { body, whyNotStored } = await load(url(A));
  assert.ok(body.equals(bytes));
  assert.match(whyNotStored ?? "", /InvalidStateError/);

  Object.assign(navigator.storage, { getDirectory: () => Promise.reject(new Error("not in private windows")) });
  const none = await load(url(A));
  assert.ok(none.body.equals(bytes));
  assert.match(none.whyNotStored ?? "", /not in private windows/);
  assert.match((await load(url(A), { cache: false })).whyNotStored ?? "", /cache is false/);
});

test("two pages at once pay once, also if the first is killed", async (t) => {
  const storage = new FakeStorage().install(t);
  const slow = url(`/fault/slow${A}?bytes=262144&ms=5`);
  let waits = 0;
  const onWait = () => waits++;
  const both = await Promise.all([load(slow, { onWait }), load(slow, { onWait }), load(slow, { onWait })]);
  for (const { body } of both) assert.ok(body.equals(bytes));
  assert.equal(
    both.reduce((sum, { network }) => sum + network, 0),
    SIZE,
  );
  assert.ok(waits >= 1);

  await removeModel(slow);
  const killed = load(slow, { stopAt: 4 * BLOCK });
  await new Promise((begun) => setTimeout(begun, 100));
  const second = load(slow);
  const [{ network: first }, { network, cache, body }] = await Promise.all([killed, second]);
  storage.kill();
  assert.ok(body.equals(bytes));
  assert.ok(cache >= 3 * BLOCK && first + network <= SIZE + BLOCK + 262_144, `${first} ${network} ${cache}`);
});

test("a file that changed on its server is loaded anew, and nothing of the old one stays", async (t) => {
  const storage = new FakeStorage().install(t);
  const file = join(dir, "b.gguf");
  writeFileSync(file, bytes);
  await load(url("/files/b.gguf"), { stopAt: 3 * BLOCK });
  const other = Buffer.from(bytes).reverse();
  await new Promise((go) => setTimeout(go, 20));
  writeFileSync(file, other);
  await assert.rejects(load(url("/files/b.gguf")), { code: "model-changed" });
  assert.equal(storage.files.size, 0);
  assert.ok((await load(url("/files/b.gguf"))).body.equals(other));
});

test("a file without the sum that is expected is refused and forgotten", async (t) => {
  const storage = new FakeStorage().install(t);
  await assert.rejects(load(url(A), { sha256: "0".repeat(64) }), { code: "bad-checksum", message: new RegExp(SHA256) });
  assert.equal(storage.files.size, 0);
  for (const spread of [false, true]) {
    await removeModel(url(A));
    assert.ok((await load(url(A), { sha256: SHA256, spread })).stored);
    const [{ files }] = /** @type {[Awaited<ReturnType<typeof storedModels>>[0]]} */ (await storedModels());
    assert.equal(files[0]?.sha256, SHA256);
  }
  // It was stored under another sum.
  await assert.rejects(load(url(A), { sha256: "1".repeat(64) }), { code: "bad-checksum" });
  // Also where nothing can be stored.
  await assert.rejects(load(url(A), { sha256: "0".repeat(64), cache: false }), { code: "bad-checksum" });
});

test("a file that another site shares by its sum is not fetched, and what is fetched is shared", async (t) => {
  const shared = /** @type {Map<string, Uint8Array<ArrayBuffer>>} */ (new Map());
  const asked = /** @type {unknown[]} */ ([]);
  const crossOriginStorage = {
    async requestFileHandle(/** @type {{ value: string }} */ { value }, /** @type {object} */ options) {
      asked.push(options);
      if (!shared.has(value) && !options) throw new Error("NotFoundError");
      const parts = /** @type {Uint8Array<ArrayBuffer>[]} */ ([]);
      return {
        getFile: async () => new File([shared.get(value) ?? ""], value),
        createWritable: async () => ({
          write: async (/** @type {Uint8Array<ArrayBuffer>} */ part) => parts.push(part.slice()),
          close: async () => shared.set(value, new Uint8Array(Buffer.concat(parts))),
        }),
      };
    },
  };
  /** A site of its own, with this browser. */
  const visit = () => {
    new FakeStorage().install(t);
    Object.assign(navigator, { crossOriginStorage });
  };
  visit();
  assert.equal((await load(url(A))).network, SIZE);
  assert.equal(asked.length, 0, "without a sum nothing is asked for");
  visit();
  assert.equal((await load(url(A), { sha256: SHA256 })).network, SIZE);
  assert.ok(bytes.equals(shared.get(SHA256) ?? Buffer.alloc(0)));
  assert.deepEqual(asked.splice(0), [undefined, { create: true, origins: "*" }]);
  visit();
  const { body, network, file, stored } = await load(url(A), { sha256: SHA256 });
  assert.ok(body.equals(bytes));
  assert.deepEqual([network, file, stored], [0, SIZE, true]);
  assert.deepEqual(asked.splice(0), [undefined]);
  assert.equal((await load(url(A), { sha256: SHA256 })).cache, SIZE);
  assert.deepEqual(asked, []);
  // What only some may read is shared with this site alone.
  visit();
  shared.clear();
  await load(url(A), { sha256: SHA256, headers: { Authorization: "Bearer 1" } });
  assert.deepEqual(asked.splice(0), [undefined, { create: true }]);
  visit();
  shared.set(SHA256, new Uint8Array(SIZE));
  await assert.rejects(load(url(A), { sha256: SHA256 }), { code: "bad-checksum" });
});

test("a signature that is new each time does not hide what is stored", async (t) => {
  new FakeStorage().install(t);
  await load(url(`${A}?X-Amz-Signature=1&X-Amz-Date=2&id=7`));
  assert.equal((await load(url(`${A}?id=7&X-Amz-Signature=9&X-Amz-Expires=5`))).network, 0);
  assert.equal((await load(url(`${A}?id=8`))).network, SIZE);
  const azure = "https://x/a.gguf?sv=1&sig=2&se=3&sp=r&sr=b";
  assert.equal(stableUrl(azure), "https://x/a.gguf");
  assert.equal(stableUrl("https://x/a?Expires=1&Signature=2&Key-Pair-Id=3&v=4#frag"), "https://x/a?v=4");
});

test("a file that is known by its sum is found under another address", async (t) => {
  new FakeStorage().install(t);
  await load(url(A), { sha256: SHA256 });
  assert.equal((await load(url(`/fault/slow${A}`), { sha256: SHA256 })).network, 0);
});

test("several connections share a slow download, and their bytes come to the right places", async (t) => {
  new FakeStorage().install(t);
  const before = server.requests.length;
  const slow = url(`/fault/slow${A}?bytes=65536&ms=25`);
  const { body, stored } = await load(slow, { spread: true, segment: BLOCK, sha256: SHA256 });
  assert.ok(body.equals(bytes) && stored);
  const asked = server.requests.slice(before);
  assert.ok(asked.length >= 3 && asked.every((r) => r.status === 206));
  assert.equal((await load(slow)).network, 0);
});

test("the parts of a split model are stored and found together", async (t) => {
  const storage = new FakeStorage().install(t);
  const first = await load(url("/files/m-00002-of-00003.gguf"));
  assert.ok(first.body.equals(bytes) && first.stored);
  assert.equal(storage.files.size, 6);
  const [model] = /** @type {[Awaited<ReturnType<typeof storedModels>>[0]]} */ (await storedModels());
  assert.deepEqual([model.files.length, model.bytes, model.size, model.complete], [3, SIZE, SIZE, true]);
  assert.equal((await load(url("/files/m-00001-of-00003.gguf"))).network, 0);
  const names = (await modelFiles(model.model)).map((f) => f.name);
  assert.deepEqual(
    names,
    [1, 2, 3].map((i) => `m-0000${i}-of-00003.gguf`),
  );
  assert.equal(await removeModel(model.model), SIZE);
  assert.equal(storage.files.size, 0);
});

test("a damaged file is repaired by reading all of it, and what it is is told", async (t) => {
  const storage = new FakeStorage().install(t);
  await load(url(A));
  const data = storage.only(".gguf").bytes;
  data[5 * BLOCK] = (data[5 * BLOCK] ?? 0) ^ 255;
  const { network, stored } = await load(url(A), { verify: true });
  assert.deepEqual([network, stored], [BLOCK, true]);
  assert.equal((await storedModels())[0]?.files[0]?.sha256, SHA256);
});

test("files of the user become what comes from an address", async (t) => {
  new FakeStorage().install(t);
  const { file, stored } = await load(url(A), { blobs: [new Blob([bytes])] });
  assert.deepEqual([file, stored], [SIZE, true]);
  const { network, body } = await load(url(A));
  assert.equal(network, 0);
  assert.ok(body.equals(bytes));
});

test("a server without ranges, or that does not say how long a file is, can be stored too", async (t) => {
  const storage = new FakeStorage().install(t);
  const norange = url(`/fault/norange${A}`);
  await load(norange, { stopAt: 3 * BLOCK });
  const again = await load(norange);
  assert.ok(again.body.equals(bytes) && again.stored);
  const body = () => new Response(new Blob([bytes]).stream());
  const open = { fetch: async () => body() };
  const { stored, body: got } = await load("http://x/open.gguf", open);
  assert.ok(got.equals(bytes) && stored);
  assert.equal((await load("http://x/open.gguf", open)).network, 0);
  assert.equal(storage.files.size, 4);
  assert.equal(BLOCKS, Math.ceil(SIZE / BLOCK));
});
