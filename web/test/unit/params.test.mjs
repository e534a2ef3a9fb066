// What callers give: it works, or it is refused by name with what is allowed, before a worker hears of it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { source } from "./source.mjs";
import { untyped } from "./untyped.mjs";

const { canRunOptions, checkMessages, checkModel, engineOptions, generateParams, testOptions } =
  await source("page/params.ts");

/** Refused as an argument, at this place, with words that match. @param {() => unknown} call @param {string} place @param {RegExp} words */
async function refused(call, place, words) {
  await assert.rejects(
    async () => call(),
    (/** @type {import("pagelm").PagelmError} */ e) => {
      assert.equal(e.code, "invalid-argument", `${e.stack}`);
      assert.equal(e.place, place, e.message);
      assert.ok(e.message.startsWith(place), e.message);
      assert.match(e.message, words);
      return true;
    },
  );
}

/** Wrong for a generation: the value, its place if that is not the name, and what is said of it. */
const WRONG = /** @type {[object, RegExp, string?][]} */ ([
  [{ maxTokens: -1 }, /an integer from 0 to 4294967295, is -1/],
  [{ maxTokens: "5" }, /an integer.*, is "5"/],
  [{ maxTokens: 1.5 }, /is 1\.5/],
  [{ maxTokens: Number.POSITIVE_INFINITY }, /is Infinity/],
  [{ maxTokens: 2 ** 32 }, /is 4294967296/],
  [{ maxTokens: 5n }, /is 5n/],
  [{ maxTokens: true }, /is true/],
  [{ seed: -1 }, /an integer from 0 to 9007199254740991, is -1; without one it is drawn/],
  [{ seed: 1.5 }, /is 1\.5/],
  [{ seed: "1" }, /is "1"/],
  [{ temperature: -1 }, /a number of at least 0, is -1/],
  [{ temperature: Number.NaN }, /is NaN/],
  [{ temperature: Number.POSITIVE_INFINITY }, /is Infinity/],
  [{ temperature: 1e300 }, /is 1e\+300/],
  [{ temperature: "0" }, /is "0"/],
  [{ temperature: [] }, /is \[\]/],
  [{ topP: 2 }, /a number from 0 to 1, is 2/],
  [{ topP: -0.1 }, /is -0\.1/],
  [{ minP: 1.1 }, /from 0 to 1/],
  [{ topK: -1 }, /an integer/],
  [{ topK: 1.5 }, /an integer/],
  [{ penaltyLastN: -1 }, /an integer/],
  [{ repeatPenalty: 0 }, /above 0, is 0/],
  [{ presencePenalty: Number.NaN }, /finite/],
  [{ frequencyPenalty: "x" }, /finite/],
  [{ logitBias: { foo: 1 } }, /token ids as names, has "foo"/],
  [{ logitBias: { "-1": 1 } }, /has "-1"/],
  [{ logitBias: { 1.5: 1 } }, /has "1\.5"/],
  [{ logitBias: { 4294967296: 1 } }, /has "4294967296"/],
  [{ logitBias: [[1, 2]] }, /an object of token ids and numbers, is \[\[1,2\]\]/],
  [{ logitBias: { 7: "1" } }, /from -100 to 100, is "1"/, "logitBias[7]"],
  [{ logitBias: { 7: 101 } }, /is 101/, "logitBias[7]"],
  [{ logprobs: 21 }, /from 0 to 20/],
  [{ stop: 5 }, /a string or a list of at most 64 strings, none of them empty, is 5/],
  [{ stop: "" }, /is ""/],
  [{ stop: ["a", ""] }, /is \["a",""\]/],
  [{ stop: ["a", 1] }, /is \["a",1\]/],
  [{ stop: Array.from({ length: 65 }, String) }, /at most 64/],
  [{ signal: {} }, /an AbortSignal, is \{\}/],
  [{ signal: new AbortController() }, /an AbortSignal, is an AbortController/],
  [{ temprature: 0 }, /is not a known parameter; did you mean temperature\?/],
  [{ Temperature: 0 }, /did you mean temperature\?/],
  [{ temp: 0 }, /did you mean temperature\?/],
  [{ max_tokens: 1 }, /did you mean maxTokens\?/],
  [{ max_new_tokens: 1 }, /did you mean maxTokens\?/],
  [{ top_p: 1 }, /did you mean topP\?/],
  [{ stopp: "a" }, /did you mean stop\?/],
  [{ repetition_penalty: 1 }, /did you mean repeatPenalty\?/],
  [{ logit_bias: {} }, /did you mean logitBias\?/],
  [{ tools: [] }, /is not a known parameter/],
  [{ constructor: 1 }, /is not a known parameter/],
  [{ toString: 1 }, /is not a known parameter/],
]);

test("a generation refuses wrong parameters by name, with what was given and what is allowed", async () => {
  for (const [params, words, place] of WRONG) {
    await refused(() => generateParams(untyped(params)), place ?? Object.keys(params)[0] ?? "", words);
  }
});

test("what a caller's object inherits is given too", async () => {
  await refused(() => generateParams(Object.create({ temprature: 1 })), "temprature", /did you mean temperature/);
  assert.deepEqual(generateParams(Object.create({ temperature: 1 })), { temperature: 1 });
});

test("messages to render may have more in them, for templates", async () => {
  const call = { role: "assistant", content: null, tool_calls: [{ function: { name: "f" } }] };
  assert.deepEqual(checkMessages([call]), [{ ...call, content: "" }]);
  await refused(() => checkMessages([]), "messages", /at least one/);
  await refused(() => checkMessages(untyped("x")), "messages", /is "x"/);
  await refused(() => checkMessages(untyped([5])), "messages[0]", /an object/);
  await refused(() => checkMessages(untyped([{}])), "messages[0].role", /a string/);
});

test("a model is checked before anything is fetched", async () => {
  const wrong = /** @type {[unknown, RegExp][]} */ ([
    [undefined, /must be a URL, a File or Blob, a list of them or a folder, is undefined/],
    [null, /is null/],
    [5, /is 5/],
    [true, /is true/],
    ["", /is ""/],
    ["  ", /is " {2}"/],
    ["http://", /is "http:\/\/"/],
    ["http://[", /is "http:/],
    [new ArrayBuffer(8), /is an ArrayBuffer; wrap it: new Blob/],
    [new Uint8Array(8), /is a Uint8Array; wrap it/],
    [new Response(""), /is a Response; give its address/],
    [new ReadableStream(), /is a ReadableStream/],
    [{ url: "http://a/b" }, /is \{"url"/],
    [() => "x", /is a function/],
    ["ftp://a/b", /pages cannot fetch from ftp:; give an https address/],
    ["C:\\models\\a.gguf", /c:/],
    [new URL("file:///a"), /file:/],
    ["https://me:secret@a/b.gguf", /user name or password/],
  ]);
  // Each file of a list.
  await refused(() => checkModel(untyped(["http://a/1", 5])), "model[1]", /is 5/);
  await refused(() => checkModel([]), "model", /at least one/);
  for (const [model, words] of wrong) {
    await refused(() => checkModel(untyped(model)), "model", words);
    await refused(() => engineOptions(untyped({ model })), "model", words);
  }
  const right = [
    "http://a/b.gguf",
    new URL("https://a/b"),
    new Blob([]),
    new File([], "a"),
    "blob:http://a/b",
    "data:,x",
    "hf:owner/name/file.gguf",
    "hf:owner/name@v2:Q4_K_M",
    ["http://a/1", new URL("http://a/2"), new Blob([])],
  ];
  for (const model of right) checkModel(model);
});

test("options of an engine are refused by name", async () => {
  const model = "http://a/b.gguf";
  const wrong = /** @type {[object, string, RegExp][]} */ ([
    [{ backend: "gpu" }, "backend", /"auto" or "webgpu" or "cpu" or "reference", is "gpu"/],
    [{ contextLength: 0 }, "contextLength", /an integer from 1/],
    [{ contextLength: "4096" }, "contextLength", /is "4096"/],
    [{ contextLength: 1.5 }, "contextLength", /an integer/],
    [{ threads: 0 }, "threads", /an integer from 1/],
    [{ activations: "f16" }, "activations", /"q8" or "f32"/],
    [{ kvType: "q4_0" }, "kvType", /"f32" or "f16" or "q8_0"/],
    [{ mtp: 1 }, "mtp", /true or false/],
    [{ tune: "off" }, "tune", /true or false/],
    [{ memoryLimit: -1 }, "memoryLimit", /an integer/],
    [{ memoryLimit: "1 GB" }, "memoryLimit", /an integer/],
    [{ wasmBuild: "simd" }, "wasmBuild", /"base"/],
    [{ wasmUrl: "http://" }, "wasmUrl", /a URL/],
    [{ workerUrl: "" }, "workerUrl", /a URL/],
    [{ kernels: "hardware" }, "kernels", /is not a known parameter/],
    [{ signal: 5 }, "signal", /an AbortSignal/],
    [{ onProgress: "x" }, "onProgress", /a function/],
    [{ context_length: 5 }, "context_length", /did you mean contextLength/],
    [{ nCtx: 5 }, "nCtx", /is not a known parameter/],
    [{ onprogress: () => {} }, "onprogress", /did you mean onProgress/],
    [{ temperature: 0 }, "temperature", /expected model, tune/],
  ]);
  for (const [options, place, words] of wrong) {
    await refused(() => engineOptions({ model, ...options }), place, words);
    if (["contextLength", "threads", "signal", "wasmUrl"].includes(place))
      await refused(() => canRunOptions(options), place, words);
  }
  for (const options of [undefined, null, model, 5, [model]]) {
    await refused(() => engineOptions(untyped(options)), "the argument", /must be an object/);
  }
  assert.deepEqual(testOptions(untyped({ model, kernels: "hardware" })), { model, kernels: "hardware" });
  await refused(() => testOptions(untyped({ model, kernels: "all" })), "kernels", /"hardware" or "software"/);
  await refused(() => engineOptions(untyped({ modle: model })), "modle", /did you mean model/);
  await refused(() => canRunOptions(untyped({ zzz: 2 })), "zzz", /expected backend/);
  const all = { model, backend: null, threads: undefined, signal: new AbortController().signal, wasmUrl: "http://a/" };
  assert.deepEqual(engineOptions(untyped(all)), { model, signal: all.signal, wasmUrl: "http://a/" });
});

test("the file for images is named, or found beside a model of a hub", async () => {
  const { wireModels } = await source("page/engine.ts");
  const beside = (/** @type {string} */ model) => wireModels(model, true).mmproj;
  assert.equal(beside("hf:a/b/c.gguf"), "hf:a/b:mmproj");
  assert.equal(beside("hf:a/b@v1:Q4_0"), "hf:a/b@v1:mmproj");
  assert.equal(beside("hf:a/b"), "hf:a/b:mmproj");
  assert.equal(wireModels("https://a/b.gguf", "https://a/mmproj.gguf").mmproj, "https://a/mmproj.gguf");
  assert.deepEqual(wireModels("https://a/b.gguf"), { model: "https://a/b.gguf", mmproj: undefined });
  await refused(() => engineOptions(untyped({ model: "https://a/b", mmproj: false })), "mmproj", /must be a URL/);
  await refused(() => engineOptions(untyped({ model: "https://a/b", imageRows: 0 })), "imageRows", /from 1 to/);
});

test("a session begins with a snapshot or with what was left, not with both", async () => {
  const { sessionOptions } = await source("page/params.ts");
  const restore = new Uint8Array(1);
  assert.deepEqual(sessionOptions({ restore, last: false }), { restore, last: false });
  assert.deepEqual(sessionOptions({ last: true }), { last: true });
  await refused(() => sessionOptions(untyped({ restore, last: true })), "last", /beside restore/);
});
