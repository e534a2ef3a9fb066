// Which files a model has: by the names of split files, in a folder, and by the shorthand of the hub.
import assert from "node:assert/strict";
import { test } from "node:test";
import { bindings } from "./bindings.mjs";
import { source } from "./source.mjs";

const { partsOf: parts } = await source("worker/source.ts");
const partsOf = parts.bind(null, Promise.resolve({ wasm: bindings }));

const FILES = [
  "README.md",
  "model-Q4_K_M.gguf",
  "model-IQ4_XS.gguf",
  "BF16/model-BF16-00001-of-00002.gguf",
  "BF16/model-BF16-00002-of-00002.gguf",
  "mmproj-model-F16.gguf",
];

/** A hub that lists these files. */
function hub(files = FILES) {
  const asked = /** @type {string[]} */ ([]);
  const fetch = async (/** @type {string} */ url) => {
    asked.push(url);
    const list = files.map((path) => ({ type: "file", path, lfs: { oid: `sum of ${path}` } }));
    return Response.json(list);
  };
  return { asked, fetch: /** @type {typeof globalThis.fetch} */ (/** @type {unknown} */ (fetch)) };
}

test("a shorthand becomes addresses and sums", async () => {
  const { asked, fetch } = hub();
  /** @param {string} model @param {object} [more] */
  const parts = (model, more) => partsOf(model, { cache: true, ...more }, null, { fetch });
  assert.deepEqual(await parts("hf:o/r:Q4_K_M"), [
    {
      url: "https://huggingface.co/o/r/resolve/main/model-Q4_K_M.gguf",
      blob: null,
      name: "model-Q4_K_M.gguf",
      sha256: "sum of model-Q4_K_M.gguf",
    },
  ]);
  const split = await parts("hf:o/r@v2/BF16/model-BF16-00002-of-00002.gguf", { hub: "https://mirror.example/" });
  const base = "https://mirror.example/o/r/resolve/v2/BF16/model-BF16-0000";
  assert.deepEqual(
    split.map((p) => p.url),
    [`${base}1-of-00002.gguf`, `${base}2-of-00002.gguf`],
  );
  assert.deepEqual(asked, [
    "https://huggingface.co/api/models/o/r/tree/main?recursive=true",
    "https://mirror.example/api/models/o/r/tree/v2?recursive=true",
  ]);
  const refused = { code: "invalid-argument", place: "model" };
  await assert.rejects(parts("hf:o/r/none.gguf"), {
    ...refused,
    message: /o\/r@main has no none\.gguf; it has model-/,
  });
  await assert.rejects(parts("hf:o/r:Q4_K"), {
    ...refused,
    message: /has 0 files of Q4_K; name one of Q4_K_M, IQ4_XS/,
  });
  for (const bad of ["hf:o", "hf:o/r:", "hf:"]) await assert.rejects(parts(bad), refused);
});

test("a mirror without lists has the files all the same", async () => {
  const fetch = async () => new Response("", { status: 404 });
  const found = await partsOf("hf:o/r/a b.gguf", { cache: true }, null, { fetch });
  assert.deepEqual(
    found.map((p) => [p.url, p.sha256]),
    [["https://huggingface.co/o/r/resolve/main/a%20b.gguf", null]],
  );
  await assert.rejects(partsOf("hf:o/r:Q4_0", { cache: true }, null, { fetch }), { code: "http-status" });
});

test("any part of a split model names all of them", async () => {
  const all = [1, 2, 3].map((i) => `https://x/q/m-Q4_K_M-0000${i}-of-00003.gguf?download=true`);
  const sha256 = "0".repeat(64);
  for (const one of all) {
    const found = await partsOf(one, { cache: true, sha256 }, null, {});
    assert.deepEqual(
      found.map((p) => [p.url, p.sha256]),
      all.map((url) => [url, null]),
    );
  }
  // The sum that a page gives is that of a whole file.
  const [whole] = await partsOf("https://x/a.gguf", { cache: true, sha256 }, null, {});
  assert.equal(whole?.sha256, sha256);
});

test("a folder has one model", async () => {
  const folder = (/** @type {string[]} */ names) =>
    /** @type {FileSystemDirectoryHandle} */ (
      /** @type {unknown} */ ({
        kind: "directory",
        name: "models",
        async *values() {
          for (const name of names) yield { kind: "file", name, getFile: async () => new File([], name) };
        },
      })
    );
  const found = await partsOf(
    folder(["m-00002-of-00002.gguf", "notes.txt", "m-00001-of-00002.gguf"]),
    { cache: true },
    null,
    {},
  );
  assert.deepEqual(
    found.map((p) => p.name),
    ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"],
  );
  await assert.rejects(partsOf(folder(["a.gguf", "b.gguf"]), { cache: true }, null, {}), {
    message: /folder models has 2/,
  });
});
