// What callers give: it works, or it is refused by name with what is allowed, before a worker hears of it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { FakePort } from "./port.mjs";
import { source } from "./source.mjs";
import { untyped } from "./untyped.mjs";

const { Client } = await source("page/client.ts");
const { Completions } = await source("page/openai.ts");
const { canRunOptions, checkMessages, checkModel, engineOptions, generateParams, testOptions } =
  await source("page/params.ts");

const HI = [{ role: /** @type {const} */ ("user"), content: "Hi" }];

/** Completions over a worker that only remembers what it was sent. */
function completions() {
  const port = new FakePort();
  const client = new Client(port);
  return { port, client, chat: Completions.over(client, "m") };
}

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

/** What the worker is asked for. @param {object} params @param {unknown} [options] */
async function create(params, options) {
  const { port, chat } = completions();
  const answer = chat.create(untyped({ messages: HI, ...params }), untyped(options)).catch((e) => {
    // The worker of this test says nothing.
    if (e.code !== "internal") throw e;
  });
  answer.catch(() => {});
  await new Promise((turn) => setTimeout(turn));
  if (port.sent.length) port.say({ op: "done", id: 1, value: null });
  await answer;
  return port.asked("generate");
}

/** Wrong for a chat: the value, its place if that is not the name, and what is said of it. */
const WRONG = /** @type {[object, RegExp, string?][]} */ ([
  [{ max_tokens: -1 }, /an integer from 0 to 4294967295, is -1/],
  [{ max_tokens: "5" }, /an integer.*, is "5"/],
  [{ max_tokens: 1.5 }, /is 1\.5/],
  [{ max_tokens: Number.POSITIVE_INFINITY }, /is Infinity/],
  [{ max_tokens: 2 ** 32 }, /is 4294967296/],
  [{ max_tokens: 5n }, /is 5n/],
  [{ max_tokens: true }, /is true/],
  [{ seed: -1 }, /an integer from 0 to 9007199254740991, is -1; without one it is drawn/],
  [{ seed: 1.5 }, /is 1\.5/],
  [{ seed: "1" }, /is "1"/],
  [{ temperature: -1 }, /a number of at least 0, is -1/],
  [{ temperature: Number.NaN }, /is NaN/],
  [{ temperature: Number.POSITIVE_INFINITY }, /is Infinity/],
  [{ temperature: 1e300 }, /is 1e\+300/],
  [{ temperature: "0" }, /is "0"/],
  [{ temperature: [] }, /is \[\]/],
  [{ top_p: 2 }, /a number from 0 to 1, is 2/],
  [{ top_p: -0.1 }, /is -0\.1/],
  [{ min_p: 1.1 }, /from 0 to 1/],
  [{ top_k: -1 }, /an integer/],
  [{ top_k: 1.5 }, /an integer/],
  [{ penalty_last_n: -1 }, /an integer/],
  [{ repeat_penalty: 0 }, /above 0, is 0/],
  [{ presence_penalty: Number.NaN }, /finite/],
  [{ frequency_penalty: "x" }, /finite/],
  [{ logit_bias: { foo: 1 } }, /token ids as names, has "foo"/],
  [{ logit_bias: { "-1": 1 } }, /has "-1"/],
  [{ logit_bias: { 1.5: 1 } }, /has "1\.5"/],
  [{ logit_bias: { 4294967296: 1 } }, /has "4294967296"/],
  [{ logit_bias: [[1, 2]] }, /an object of token ids and numbers, is \[\[1,2\]\]/],
  [{ logit_bias: { 7: "1" } }, /from -100 to 100, is "1"/, "logit_bias[7]"],
  [{ logit_bias: { 7: 101 } }, /is 101/, "logit_bias[7]"],
  [{ stop: 5 }, /a string or a list of at most 64 strings, none of them empty, is 5/],
  [{ stop: "" }, /is ""/],
  [{ stop: ["a", ""] }, /is \["a",""\]/],
  [{ stop: ["a", 1] }, /is \["a",1\]/],
  [{ stop: Array.from({ length: 65 }, String) }, /at most 64/],
  [{ signal: {} }, /an AbortSignal, is \{\}/],
  [{ signal: new AbortController() }, /an AbortSignal, is an AbortController/],
  [{ tools: [{ type: "function", function: { name: "f" } }] }, /an empty list, is .*tools are not supported yet/],
  [{ tools: {} }, /an empty list/],
  [{ tool_choice: "required" }, /"none" or "auto", is "required"/],
  [{ tool_choice: { type: "function", function: { name: "f" } } }, /"none" or "auto", is \{"type"/],
  [{ functions: [{ name: "f" }] }, /an empty list/],
  [{ function_call: { name: "f" } }, /"none" or "auto"/],
  [{ response_format: { type: "json_object" } }, /is \{"type":"json_object"\}; structured output/],
  [{ response_format: { type: "json_schema", json_schema: {} } }, /structured output/],
  [{ response_format: { type: "text", schema: {} } }, /\{"type":"text"\}/],
  [{ response_format: "text" }, /is "text"/],
  [{ logprobs: true }, /must be false, is true/],
  [{ top_logprobs: 5 }, /must be 0, is 5/],
  [{ n: 0 }, /n must be an integer from 1 to 128, is 0/],
  [{ modalities: ["audio"] }, /\["text"\]/],
  [{ audio: {} }, /must be null/],
  [{ prediction: { type: "content", content: "" } }, /must be null/],
  [{ reasoning_effort: "low" }, /must be null/],
  [{ verbosity: "low" }, /"medium"/],
  [{ web_search_options: {} }, /must be null/],
  [{ service_tier: "priority" }, /"auto" or "default"/],
  [{ store: true }, /must be false/],
  [{ metadata: "x" }, /an object/],
  [{ user: 1 }, /a string/],
  [{ parallel_tool_calls: "yes" }, /true or false/],
  [{ temprature: 0 }, /is not a known parameter; did you mean temperature\?/],
  [{ Temperature: 0 }, /did you mean temperature\?/],
  [{ temp: 0 }, /did you mean temperature\?/],
  [{ maxTokens: 1 }, /did you mean max_tokens\?/],
  [{ max_new_tokens: 1 }, /did you mean max_tokens\?/],
  [{ topP: 1 }, /did you mean top_p\?/],
  [{ stopp: "a" }, /did you mean stop\?/],
  [{ repetition_penalty: 1 }, /did you mean repeat_penalty\?/],
  [{ logitBias: {} }, /did you mean logit_bias\?/],
  [{ grammar: "root ::= x" }, /expected .*temperature/],
  [{ constructor: 1 }, /is not a known parameter/],
  [{ toString: 1 }, /is not a known parameter/],
]);

/** The package's own names of parameters that OpenAI writes in another way. */
const OWN = new Map([
  ["max_tokens", "maxTokens"],
  ["top_p", "topP"],
  ["top_k", "topK"],
  ["min_p", "minP"],
  ["repeat_penalty", "repeatPenalty"],
  ["presence_penalty", "presencePenalty"],
  ["frequency_penalty", "frequencyPenalty"],
  ["penalty_last_n", "penaltyLastN"],
  ["logit_bias", "logitBias"],
]);
const SAME = ["temperature", "seed", "stop", "signal"];

test("a chat refuses wrong parameters by name, with what was given and what is allowed", async () => {
  for (const [params, words, place] of WRONG) {
    await refused(() => create(params), place ?? Object.keys(params)[0] ?? "", words);
  }
});

test("a generation refuses the same under the package's own names, and knows no others", async () => {
  let seen = 0;
  for (const [params, words, place] of WRONG) {
    const [[name, value] = ["", null]] = Object.entries(params);
    const own = OWN.get(name) ?? (SAME.includes(name) ? name : undefined);
    if (!own) continue;
    seen++;
    await refused(() => generateParams(untyped({ [own]: value })), place?.replace(name, own) ?? own, words);
  }
  assert.ok(seen > 35, `only ${seen} parameters`);
  for (const [name, own] of OWN) {
    await refused(() => generateParams({ [name]: 1 }), name, new RegExp(`did you mean ${own}\\?`));
  }
  await refused(() => generateParams(untyped({ tools: [] })), "tools", /is not a known parameter/);
});

test("what a caller's object inherits is given too", async () => {
  await refused(() => generateParams(Object.create({ temprature: 1 })), "temprature", /did you mean temperature/);
  assert.deepEqual(generateParams(Object.create({ temperature: 1 })), { temperature: 1 });
});

test("what is null or a default of OpenAI's API is as good as nothing", async () => {
  const defaults = {
    n: 1,
    tools: [],
    tool_choice: "auto",
    parallel_tool_calls: true,
    functions: [],
    function_call: "none",
    response_format: { type: "text" },
    logprobs: false,
    top_logprobs: 0,
    modalities: ["text"],
    verbosity: "medium",
    service_tier: "auto",
    store: false,
    metadata: { a: "b" },
    user: "me",
    safety_identifier: "x",
    prompt_cache_key: "y",
  };
  const nothing = Object.fromEntries(Object.keys(defaults).map((name) => [name, null]));
  const sampling = { temperature: null, top_p: null, seed: null, stop: null, logit_bias: null, max_tokens: null };
  const more = { audio: null, prediction: null, reasoning_effort: null, web_search_options: null, signal: null };
  for (const params of [defaults, { ...nothing, ...sampling, ...more }, { temperature: undefined }]) {
    const { params: wire } = await create({ ...params, stream: null, stream_options: null, model: null });
    assert.deepEqual(Object.keys(wire), ["sampler"]);
    assert.deepEqual(Object.keys(wire.sampler), ["seed"]);
  }
});

test("parameters of a chat arrive", async () => {
  const { params } = await create({ max_completion_tokens: 7, temperature: 0, stop: "a", seed: 1, top_k: 3 });
  assert.deepEqual(params, { maxTokens: 7, stop: ["a"], sampler: { temperature: 0, topK: 3, seed: 1 } });
  assert.equal((await create({ max_tokens: 7, max_completion_tokens: 7 })).params.maxTokens, 7);
});

test("a chat refuses what only some of its parameters make wrong", async () => {
  const cases = /** @type {[object, string, RegExp][]} */ ([
    [{ max_tokens: 5, max_completion_tokens: 6 }, "max_completion_tokens", /give one of them/],
    [{ stream_options: { include_usage: true } }, "stream_options", /stream: true/],
    [
      { stream: true, stream_options: { includeUsage: true } },
      "stream_options.includeUsage",
      /did you mean include_usage/,
    ],
    [{ stream: true, stream_options: { include_usage: 1 } }, "stream_options.include_usage", /true or false/],
    [{ stream: true, stream_options: true }, "stream_options", /an object, is true/],
    [{ stream: "yes" }, "stream", /true or false/],
    [{ model: 5 }, "model", /a string/],
    [{ onPrefill: 5 }, "onPrefill", /a function/],
    [{ ignore_eos: true }, "ignore_eos", /is not a known parameter/],
    [{ prompt: "x" }, "prompt", /is not a known parameter/],
  ]);
  for (const [params, place, words] of cases) await refused(() => create(params), place, words);
  const { chat } = completions();
  for (const wrong of [undefined, null, "Hi", 5, HI])
    await refused(() => chat.create(untyped(wrong)), "the argument", /must be an object/);
});

test("messages of another shape are refused with the path", async () => {
  const user = (/** @type {unknown} */ content) => [...HI, ...HI, { role: "user", content }];
  const cases = /** @type {[object, string, RegExp][]} */ ([
    [undefined, "messages", /a list of messages, at least one, is undefined/],
    [null, "messages", /is null/],
    ["Hi", "messages", /is "Hi"/],
    [{}, "messages", /is \{\}/],
    [[], "messages", /at least one, is \[\]/],
    [["Hi"], "messages[0]", /an object, is "Hi"/],
    [[null], "messages[0]", /is null/],
    [[[]], "messages[0]", /is \[\]/],
    [new Array(1), "messages[0]", /is undefined/],
    [[{ content: "Hi" }], "messages[0].role", /"system" or .*, is undefined/],
    [[{ role: "robot", content: "Hi" }], "messages[0].role", /is "robot"/],
    [[{ role: "function", content: "Hi" }], "messages[0].role", /is "function"/],
    [[{ role: "user" }], "messages[0].content", /a string, a list of parts or null, is undefined/],
    [user(5), "messages[2].content", /is 5/],
    [user({}), "messages[2].content", /is \{\}/],
    [user([]), "messages[2].content", /at least one/],
    [user(["Hi"]), "messages[2].content[0]", /an object, is "Hi"/],
    [user([{ text: "Hi" }]), "messages[2].content[0].type", /is undefined/],
    [user([{ image_url: { url: "x" }, type: "image_url" }]), "messages[2].content[0].type", /"text", is "image_url"/],
    [
      user([{ type: "text", text: "a" }, { type: "input_audio" }]),
      "messages[2].content[1].type",
      /models read text only/,
    ],
    [user([{ type: "text" }]), "messages[2].content[0].text", /a string, is undefined/],
    [user([{ type: "text", text: null }]), "messages[2].content[0].text", /is null/],
    [
      user([{ type: "text", text: "a", cache_control: {} }]),
      "messages[2].content[0].cache_control",
      /expected type, text/,
    ],
    [[{ role: "user", content: "Hi", nam: "x" }], "messages[0].nam", /did you mean name/],
    [[{ role: "user", content: "Hi", name: 5 }], "messages[0].name", /a string/],
    [[{ role: "assistant", content: null, tool_calls: [{}] }], "messages[0].tool_calls", /not supported yet/],
    [[{ role: "assistant", content: null, refusal: "no" }], "messages[0].refusal", /must be null/],
  ]);
  for (const [messages, place, words] of cases) await refused(() => create({ messages }), place, words);
});

test("messages arrive as text", async () => {
  const part = (/** @type {string} */ text) => ({ type: "text", text });
  const { prompt } = await create({
    messages: [
      { role: "developer", content: "Be brief." },
      { role: "user", content: [part("a"), part("b")], name: "Ann" },
      { role: "assistant", content: null, refusal: null, tool_calls: [], annotations: [], audio: null },
      { role: "tool", content: "5", tool_call_id: "c" },
    ],
  });
  assert.deepEqual("chat" in prompt && prompt.chat.messages, [
    { role: "system", content: "Be brief." },
    { role: "user", content: "ab", name: "Ann" },
    { role: "assistant", content: "" },
    { role: "tool", content: "5", tool_call_id: "c" },
  ]);
});

test("messages to render may have more in them, for templates", async () => {
  const call = { role: "assistant", content: null, tool_calls: [{ function: { name: "f" } }] };
  assert.deepEqual(checkMessages([call]), [{ ...call, content: "" }]);
  await refused(() => checkMessages([]), "messages", /at least one/);
  await refused(() => checkMessages(untyped("x")), "messages", /is "x"/);
  await refused(() => checkMessages(untyped([5])), "messages[0]", /an object/);
  await refused(() => checkMessages(untyped([{}])), "messages[0].role", /a string/);
});

test("the second argument's signal stops an answer, as that of the first does", async () => {
  for (const [first, second] of [
    [true, false],
    [false, true],
    [true, true],
  ]) {
    for (const stopped of [first && 0, second && 1].filter((x) => x !== false)) {
      const { port, chat } = completions();
      const stops = [new AbortController(), new AbortController()];
      const signalled = (/** @type {number} */ i) => ({ signal: stops[i]?.signal ?? null });
      const answer = chat.create({ messages: HI, ...(first && signalled(0)) }, second ? signalled(1) : undefined);
      await new Promise((turn) => setTimeout(turn));
      stops[Number(stopped)]?.abort("enough");
      await assert.rejects(answer, { code: "aborted", name: "AbortError", cause: "enough" });
      assert.deepEqual(port.sent.at(-1), { op: "abort", target: 1 });
    }
  }
  await refused(() => create({}, { timeout: 5 }), "options.timeout", /expected signal/);
  await refused(() => create({}, { singal: null }), "options.singal", /did you mean signal/);
  await refused(() => create({}, { signal: 5 }), "options.signal", /an AbortSignal/);
  await refused(() => create({}, "x"), "options", /an object/);
  await create({}, { signal: null });
});

test("a stream that cannot start rejects at once", async () => {
  const { client, chat } = completions();
  const params = { messages: HI, stream: /** @type {const} */ (true) };
  await assert.rejects(chat.create(params, { signal: AbortSignal.abort() }), { code: "aborted" });
  const { PagelmError } = await source("shared/errors.ts");
  client.end(new PagelmError("disposed", "gone"));
  await assert.rejects(chat.create(params), { code: "disposed" });
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
    [{ temperature: 0 }, "temperature", /expected model, threads/],
  ]);
  for (const [options, place, words] of wrong) {
    await refused(() => engineOptions({ model, ...options }), place, words);
    if (["contextLength", "signal", "wasmUrl"].includes(place))
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
