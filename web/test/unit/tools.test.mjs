// Tools that run by themselves: what the model is told, and that it ends.
import assert from "node:assert/strict";
import { test } from "node:test";
import { source } from "./source.mjs";

const { defineTool, generateObject, runTools } = await source("tools.ts");

/** @typedef {import("../../src/tools.ts").RunnableTool} RunnableTool */
/** @typedef {import("../../src/tools.ts").RunToolsParams} RunToolsParams */
/** @typedef {Record<string, unknown>} Delta */

/** What answers with these deltas, one list after the other, and remembers what it was asked. */
function llm(/** @type {Delta[][]} */ answers) {
  /** @type {any[]} */
  const asked = [];
  const create = async (/** @type {any} */ params, /** @type {any} */ options) => {
    asked.push(structuredClone(params));
    options.signal?.throwIfAborted();
    const deltas = answers[Math.min(asked.length, answers.length) - 1] ?? [];
    return (async function* () {
      for (const delta of deltas) yield { choices: [{ index: 0, delta }] };
      yield { choices: [], usage: {} };
    })();
  };
  return { asked, chat: { completions: { create } } };
}

const call = (/** @type {number} */ index, /** @type {string} */ name, /** @type {string[]} */ ...pieces) => [
  { tool_calls: [{ index, id: `call_${index}`, type: "function", function: { name, arguments: "" } }] },
  ...pieces.map((piece) => ({ tool_calls: [{ index, function: { arguments: piece } }] })),
];
const tool = (/** @type {string} */ name, /** @type {RunnableTool["execute"]} */ execute) => ({
  type: /** @type {const} */ ("function"),
  function: { name, parameters: { type: "object" }, strict: true },
  execute,
});
const messages = [{ role: /** @type {const} */ ("user"), content: "Hi" }];

async function events(
  /** @type {ReturnType<typeof llm>} */ model,
  /** @type {RunToolsParams} */ params,
  /** @type {import("../../src/tools.ts").RunToolsOptions} */ options = {},
) {
  /** @type {any[]} */
  const all = [];
  for await (const event of runTools(model, params, options)) if (event.type !== "chunk") all.push(event);
  return all;
}

test("calls of one answer run side by side, and the model is told what they gave, in their order", async () => {
  const model = llm([
    [
      { role: "assistant", reasoning_content: "Two." },
      { content: "I lo" },
      { content: "ok." },
      ...call(0, "slow", '{"a"', ":1}"),
      ...call(1, "fast"),
    ],
    [{ content: "Done." }],
  ]);
  /** @type {unknown[]} */
  const ran = [];
  const slow = tool("slow", async (args) => {
    await new Promise((done) => setTimeout(done, 5));
    ran.push(["slow", args]);
    return { sum: args.a + 1 };
  });
  const fast = tool("fast", (args) => {
    ran.push(["fast", args]);
  });
  const all = await events(model, { messages, tools: [slow, fast], tool_choice: "required", temperature: 0 });
  assert.deepEqual(ran, [
    ["fast", {}],
    ["slow", { a: 1 }],
  ]);
  assert.deepEqual(
    all.map(({ type, content }) => [type, content]),
    [
      ["call", undefined],
      ["call", undefined],
      ["result", '{"sum":2}'],
      ["result", "done"],
      ["done", "Done."],
    ],
  );
  const { messages: kept, rounds } = all.at(-1);
  assert.equal(rounds, 2);
  const function0 = { name: "slow", arguments: '{"a":1}' };
  assert.deepEqual(kept.slice(1), [
    {
      role: "assistant",
      content: "I look.",
      reasoning_content: "Two.",
      tool_calls: [
        { id: "call_0", type: "function", function: function0 },
        { id: "call_1", type: "function", function: { name: "fast", arguments: "" } },
      ],
    },
    { role: "tool", content: '{"sum":2}', tool_call_id: "call_0" },
    { role: "tool", content: "done", tool_call_id: "call_1" },
    { role: "assistant", content: "Done." },
  ]);
  const [first, second] = model.asked;
  assert.deepEqual(
    [first.stream, first.temperature, first.tool_choice, second.tool_choice],
    [true, 0, "required", "auto"],
  );
  assert.deepEqual(
    first.tools,
    [slow, fast].map(({ execute: _, ...rest }) => rest),
  );
  assert.deepEqual(second.messages, kept.slice(0, 4));
  assert.equal(messages.length, 1, "the caller's list stays as it is");
});

test("what goes wrong in a tool is told to the model", async () => {
  const model = llm([
    [...call(0, "none", "{}"), ...call(1, "throws", "{}"), ...call(2, "throws", '{"a":')],
    [{ content: "Sorry." }],
  ]);
  const throws = tool("throws", () => {
    throw new Error("no such city");
  });
  const all = await events(model, { messages, tools: [throws] });
  const results = all.filter(({ type }) => type === "result");
  assert.ok(results.every(({ failed }) => failed));
  assert.match(results[0].content, /^error: there is no tool none; there are throws$/);
  assert.equal(results[1].content, "error: no such city");
  assert.match(results[2].content, /^error: .*JSON/);
  assert.equal(all.at(-1).content, "Sorry.");
});

test("it ends: the last time the model may call nothing", async () => {
  const model = llm([call(0, "again", "{}")]);
  const again = tool("again", () => "x");
  const ends = events(model, { messages, tools: [again] }, { maxRounds: 3 });
  // A model that calls even so is not asked for ever.
  const all = await ends;
  assert.deepEqual(
    model.asked.map((a) => a.tool_choice),
    [undefined, "auto", "none"],
  );
  assert.equal(all.at(-1).type, "done");
  assert.equal(all.filter(({ type }) => type === "call").length, 2);
  await assert.rejects(events(model, { messages, tools: [again] }, { maxRounds: 0 }), { place: "maxRounds" });
});

test("a signal ends it, also while a tool runs that does not look at it", async () => {
  const stop = new AbortController();
  const model = llm([call(0, "stops", "{}"), [{ content: "never" }]]);
  const seen = /** @type {(AbortSignal | null)[]} */ ([]);
  const stops = tool("stops", (_, { signal }) => {
    seen.push(signal);
    stop.abort();
    return "x";
  });
  await assert.rejects(events(model, { messages, tools: [stops], signal: stop.signal }), { name: "AbortError" });
  assert.equal(seen[0], stop.signal);
  assert.equal(model.asked.length, 1);
});

test("a tool is described by its schema, and strict unless that is off", () => {
  const parameters = /** @type {const} */ ({ type: "object", properties: { a: { type: "number" } } });
  const execute = (/** @type {{ a?: number }} */ { a }) => a;
  const described = defineTool({ name: "f", description: "F", parameters, execute });
  assert.deepEqual(described, {
    type: "function",
    function: { name: "f", description: "F", parameters, strict: true },
    execute,
  });
  assert.equal(defineTool({ name: "f", parameters, strict: false, execute }).function.strict, false);
});

test("an object is asked for by its schema; a cut answer has none", async () => {
  const schema = /** @type {const} */ ({ type: "object", properties: { a: { type: "number" } }, required: ["a"] });
  for (const [finish_reason, content, want] of [
    ["stop", '{"a": 1}', { a: 1 }],
    ["length", '{"a": 1', null],
  ]) {
    /** @type {any[]} */
    const asked = [];
    const completion = { choices: [{ index: 0, finish_reason, message: { role: "assistant", content } }] };
    const create = async (/** @type {any[]} */ ...args) => {
      asked.push(args);
      return completion;
    };
    const options = { signal: null };
    const got = await generateObject(
      { chat: { completions: { create } } },
      { schema, messages, max_tokens: 9 },
      options,
    );
    assert.deepEqual(got, { object: want, completion });
    const response_format = { type: "json_schema", json_schema: { name: "answer", schema, strict: true } };
    assert.deepEqual(asked, [[{ messages, max_tokens: 9, response_format }, options]]);
  }
});
