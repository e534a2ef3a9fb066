// Which files a model has: by the names of split files, in a folder, and by the shorthand of the hub.
import assert from "node:assert/strict";
import { test } from "node:test";
import { source } from "./source.mjs";

const { choose, partsOf, siblings } = await source("worker/source.ts");
/** @typedef {import("pagelm").PagelmError} PagelmError */

test("any part of a split model names all of them", () => {
  const all = [1, 2, 3].map((i) => `https://x/q/m-Q4_K_M-0000${i}-of-00003.gguf?download=true`);
  for (const one of all) assert.deepEqual(siblings(one), all);
  assert.deepEqual(siblings("https://x/a.gguf"), ["https://x/a.gguf"]);
  assert.deepEqual(siblings("https://x/m-00001-of-00001.gguf"), ["https://x/m-00001-of-00001.gguf"]);
});

const FILES = [
  "README.md",
  "model-Q4_K_M.gguf",
  "model-IQ4_XS.gguf",
  "model-UD-Q4_K_XL.gguf",
  "model-Q4_0.gguf",
  "model-Q4_0_4_4.gguf",
  "model-Q6_K_L.gguf",
  "model-MXFP4.gguf",
  "model-MXFP4_MOE.gguf",
  "model.Q5_K_S.gguf",
  "BF16/model-BF16-00001-of-00002.gguf",
  "BF16/model-BF16-00002-of-00002.gguf",
  "mmproj-model-F16.gguf",
  "model-draft-Q8_0.gguf",
  "model-imatrix.gguf",
];
const ggufs = FILES.filter((f) => f.endsWith(".gguf"));

test("a quantisation is taken by its whole name, and never a file that is beside the model", () => {
  /** @param {string} tag */
  const taken = (tag) => choose(ggufs, "it", tag)[0];
  assert.deepEqual(taken("Q4_K_M"), ["model-Q4_K_M.gguf"]);
  assert.deepEqual(taken("q4_0"), ["model-Q4_0.gguf"]);
  assert.deepEqual(taken("UD-Q4_K_XL"), ["model-UD-Q4_K_XL.gguf"]);
  assert.deepEqual(taken("Q6_K_L"), ["model-Q6_K_L.gguf"]);
  assert.deepEqual(taken("MXFP4"), ["model-MXFP4.gguf"]);
  assert.deepEqual(taken("MXFP4_MOE"), ["model-MXFP4_MOE.gguf"]);
  assert.deepEqual(taken("Q5_K_S"), ["model.Q5_K_S.gguf"]);
  assert.deepEqual(taken("BF16"), ["BF16/model-BF16-00001-of-00002.gguf", "BF16/model-BF16-00002-of-00002.gguf"]);
  for (const none of ["F16", "Q8_0", "Q4_K", "K_M", "Q6_K", "XS", "Q4_K_XL"]) {
    assert.throws(
      () => taken(none),
      (/** @type {PagelmError} */ e) => {
        assert.equal(e.code, "invalid-argument");
        assert.match(e.message, /has 0 files of .* name one of Q4_K_M, IQ4_XS, UD-Q4_K_XL/);
        return true;
      },
    );
  }
  assert.deepEqual(choose(["mmproj-a.gguf", "a.gguf"], "it"), [["a.gguf"]]);
  assert.throws(() => choose(["a.gguf", "b.gguf"], "it"), {
    message: /it has 2 models: name one of a\.gguf, b/,
  });
});

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
  await assert.rejects(parts("hf:o/r/none.gguf"), { code: "http-status", message: /there is no none\.gguf in it/ });
  for (const bad of ["hf:o", "hf:o/r:", "hf:"]) await assert.rejects(parts(bad), { code: "invalid-argument" });
});

test("a mirror without lists has the files all the same", async () => {
  const fetch = async () => new Response("", { status: 404 });
  const parts = await partsOf("hf:o/r/a.gguf", { cache: true }, null, { fetch });
  assert.deepEqual(
    parts.map((p) => [p.url, p.sha256]),
    [["https://huggingface.co/o/r/resolve/main/a.gguf", null]],
  );
  await assert.rejects(partsOf("hf:o/r:Q4_0", { cache: true }, null, { fetch }), { code: "http-status" });
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
