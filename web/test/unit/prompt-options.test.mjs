// The Prompt API: constraints, tools, sampling, images, and how it becomes the page's.
import assert from "node:assert/strict";
import { test } from "node:test";
import { api, model, named, session, USER } from "./prompt.mjs";
import { calls, loader, text } from "./scripted.mjs";
import { untyped } from "./untyped.mjs";

const { languageModel, LanguageModelToolCall, LanguageModelToolError, LanguageModelToolSuccess, polyfill } = api;

test("usage is measured before it is used", async () => {
  const { session: made, asked } = await session(text("x"));
  const usage = await made.measureContextUsage("one two");
  assert.equal(usage, 3);
  assert.equal(await made.measureInputUsage([USER("one two")]), usage);
  const schema = { type: "object" };
  assert.ok((await made.measureContextUsage("one two", { responseConstraint: schema })) > usage);
  const omit = { responseConstraint: schema, omitResponseConstraintInput: true };
  assert.equal(await made.measureContextUsage("one two", omit), usage);
  assert.equal(asked().length, 0);
  assert.equal(made.contextUsage, 0);
});

test("constraints are schemas or regular expressions, told to the model unless it is omitted", async () => {
  const { session: made, asked } = await session(text('{"a":1}'));
  const schema = { type: "object", properties: { a: { type: "integer" } } };
  assert.equal(await made.prompt("JSON", { responseConstraint: schema }), '{"a":1}');
  assert.deepEqual(asked()[0].response_format, {
    type: "json_schema",
    json_schema: { name: "answer", schema, strict: true },
  });
  assert.match(asked()[0].messages[0].content, /^JSON\n\n.*"integer"/);
  await made.prompt("Mail", { responseConstraint: /^[a-z]+@x\.org$/, omitResponseConstraintInput: true });
  assert.deepEqual([asked()[1].grammar, asked()[1].grammar_type], ["[a-z]+@x\\.org", "regex"]);
  assert.equal(asked()[1].messages.at(-1).content, "Mail");
  await assert.rejects(made.prompt("x", { responseConstraint: /a/i }), named("NotSupportedError"));
  await assert.rejects(made.prompt("x", { responseConstraint: untyped("schema") }), TypeError);
  await assert.rejects(made.prompt("x", { omitResponseConstraintInput: true }), TypeError);
  const refused = await session({ error: { code: "bad-grammar", message: "`not` is not supported" } });
  await assert.rejects(refused.session.prompt("x", { responseConstraint: { not: {} } }), named("NotSupportedError"));
  const cut = await session({ ...text('{"a"'), finish: "length" });
  await assert.rejects(cut.session.prompt("x", { responseConstraint: schema }), named("SyntaxError"));
});

test("tools run, and the session knows of their calls", async () => {
  const { LanguageModel, asked } = model(calls("weather", '{"city":"Paris"}'), text("Clear."), text("Yes"));
  const ran = /** @type {unknown[]} */ ([]);
  const made = await LanguageModel.create({
    expectedOutputs: [{ type: "text" }, { type: "tool-call" }],
    expectedInputs: [{ type: "tool-response" }],
    tools: [
      {
        name: "weather",
        description: "The weather",
        inputSchema: { type: "object", properties: { city: { type: "string" } } },
        execute: async (input) => {
          ran.push(input);
          return JSON.stringify({ sky: "clear" });
        },
      },
    ],
  });
  assert.equal(await made.prompt("Weather?"), "Clear.");
  assert.deepEqual(ran, [{ city: "Paris" }]);
  assert.equal(asked()[0].tools[0].function.description, "The weather");
  await made.prompt("Sure?");
  assert.deepEqual(
    asked()[2].messages.map((/** @type {any} */ m) => m.role),
    ["user", "assistant", "tool", "assistant", "user"],
  );
});

test("without execute the page is given the calls, and tells what they gave", async () => {
  const both = {
    deltas: [...text("I look.").deltas, ...calls("weather", '{"city":"Paris"}').deltas],
    finish: "tool_calls",
  };
  const { LanguageModel, asked } = model(both, text("Clear."), both, text("Sorry."));
  const tools = [{ name: "weather", description: "The weather", inputSchema: { type: "object" } }];
  const expected = {
    expectedInputs: [{ type: /** @type {const} */ ("tool-response") }],
    expectedOutputs: [{ type: /** @type {const} */ ("tool-call") }],
  };
  await assert.rejects(LanguageModel.create({ tools }), TypeError);
  const mixed = [...tools, { ...tools[0], execute: async () => "" }];
  await assert.rejects(LanguageModel.create(untyped({ ...expected, tools: mixed })), TypeError);
  const made = await LanguageModel.create({ ...expected, tools });
  const first = /** @type {any[]} */ (await made.prompt("Weather?"));
  assert.deepEqual(first[0], { type: "text", value: "I look." });
  const { type, value: call } = first[1];
  assert.ok(type === "tool-call" && call instanceof LanguageModelToolCall);
  assert.deepEqual([call.callId, call.name, call.arguments], ["call_weather", "weather", { city: "Paris" }]);
  assert.equal(asked()[0].tools[0].function.strict, true, "arguments fit the schema");
  const result = [
    { type: /** @type {const} */ ("text"), value: "It is" },
    { type: /** @type {const} */ ("object"), value: { sky: "clear" } },
  ];
  const { callId, name } = call;
  /** @param {unknown} value */
  const told = (value) => [{ role: "user", content: [{ type: "tool-response", value }] }];
  const success = new LanguageModelToolSuccess({ callId, name, result });
  assert.equal(await made.prompt(untyped(told(success))), "Clear.");
  const tool_calls = [{ id: callId, type: "function", function: { name, arguments: '{"city":"Paris"}' } }];
  assert.deepEqual(asked()[1].messages, [
    USER("Weather?"),
    { role: "assistant", content: "I look.", tool_calls },
    { role: "tool", tool_call_id: callId, content: 'It is\n{"sky":"clear"}' },
  ]);
  const pieces = [];
  for await (const piece of untyped(made.promptStreaming("And now?"))) pieces.push(piece);
  assert.deepEqual([pieces[0], pieces[1].type, pieces.length], ["I look.", "tool-call", 2]);
  await made.prompt(untyped(told(new LanguageModelToolError({ callId, name, errorMessage: "no net" }))));
  assert.equal(asked()[3].messages.at(-1).content, "error: no net");
  await assert.rejects(made.prompt(untyped(told({ callId }))), TypeError);
  const other = await LanguageModel.create();
  await assert.rejects(other.prompt(untyped(told(success))), named("NotSupportedError"));
  const shown = { type: /** @type {const} */ ("tool-call"), value: call };
  await other.append([USER("Weather?"), { role: "assistant", content: [shown] }]);
  assert.deepEqual(asked().at(-1).messages[1], { role: "assistant", content: "", tool_calls });
});

test("how much the model thinks is said for a session, or a prompt", async () => {
  const { LanguageModel, asked } = model(text("x"));
  const made = await LanguageModel.create({ thinking: { effort: "high" } });
  await made.prompt("a");
  await made.prompt("b", { thinking: { effort: "none" } });
  assert.deepEqual(
    asked().map(({ reasoning_effort }) => reasoning_effort),
    ["high", "none"],
  );
  await assert.rejects(LanguageModel.create({ thinking: { effort: untyped("huge") } }), TypeError);
  await assert.rejects(made.prompt("c", { thinking: untyped({ includeThoughts: true }) }), named("NotSupportedError"));
});

test("sampling is a mode, or what extensions may say", async () => {
  const { LanguageModel, asked } = model(text("x"));
  for (const [options, sent] of /** @type {[object, object][]} */ ([
    [{}, {}],
    [{ samplingMode: "most-predictable" }, { temperature: 0 }],
    [
      { topK: 3.7, temperature: Number.POSITIVE_INFINITY },
      { temperature: 2, top_k: 3 },
    ],
  ])) {
    const made = await LanguageModel.create(options);
    await made.prompt("a");
    const { temperature, top_k } = asked().at(-1);
    assert.deepEqual(JSON.parse(JSON.stringify({ temperature, top_k })), sent);
    assert.equal(made.samplingMode, untyped(options).samplingMode ?? (untyped(options).topK ? null : "balanced"));
  }
});

test("images go to a model that sees", async () => {
  const load = loader(text("A cat"));
  const LanguageModel = languageModel({ model: "m.gguf", mmproj: "v.gguf", unloadAfterS: 0, create: load.create });
  const made = await LanguageModel.create({ expectedInputs: [{ type: "image" }] });
  const bytes = Uint8Array.of(1, 2, 3);
  const content = [
    { type: /** @type {const} */ ("text"), value: "What?" },
    { type: /** @type {const} */ ("image"), value: bytes },
  ];
  assert.equal(await made.prompt([{ role: "user", content }]), "A cat");
  const { messages, attached } = untyped(load.made[0]).asked.at(-1);
  assert.equal(messages[0].content[1].image_url.url, "attached:0");
  assert.deepEqual(new Uint8Array(await attached[0].arrayBuffer()), bytes);
  const wrong = [{ type: /** @type {const} */ ("image"), value: untyped("cat.png") }];
  await assert.rejects(made.prompt([{ role: "user", content: wrong }]), TypeError);
});

test("the page's own LanguageModel stays where the browser has one", () => {
  const page = /** @type {{ LanguageModel?: unknown }} */ (globalThis);
  try {
    const made = polyfill({ model: "m.gguf" });
    assert.equal(page.LanguageModel, made);
    assert.equal(polyfill({ model: "other.gguf" }), made);
  } finally {
    delete page.LanguageModel;
  }
});
