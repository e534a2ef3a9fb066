// The AI SDK itself on an engine that answers as a script says.
import assert from "node:assert/strict";
import { test } from "node:test";
import { generateText, isStepCount, jsonSchema, Output, streamObject, streamText, ToolLoopAgent, tool } from "ai";
import { calls, scripted, text } from "./scripted.mjs";
import { source } from "./source.mjs";
import { untyped } from "./untyped.mjs";

const { pagelm } = await source("ai-sdk.ts");

// Warnings are looked at in results.
untyped(globalThis).AI_SDK_LOG_WARNINGS = false;

const THINKS = {
  deltas: [{ reasoning_content: "Capital" }, { reasoning_content: "s." }, { content: "Par" }, { content: "is" }],
};
const weather = (/** @type {unknown[]} */ ran = []) =>
  tool({
    description: "The weather in a city",
    inputSchema: jsonSchema({ type: "object", properties: { city: { type: "string" } }, required: ["city"] }),
    execute: async (input) => {
      ran.push(input);
      return { sky: "clear" };
    },
  });

test("text, reasoning, usage with the cache, and the speeds", async () => {
  const { engine, asked } = scripted(THINKS);
  const result = await generateText({ model: pagelm(engine), instructions: "Be brief.", prompt: "Capital of France?" });
  assert.equal(result.text, "Paris");
  assert.equal(result.reasoningText, "Capitals.");
  assert.equal(result.finishReason, "stop");
  const { inputTokens, outputTokens, totalTokens, inputTokenDetails, outputTokenDetails } = result.usage;
  assert.deepEqual([inputTokens, outputTokens, totalTokens], [12, 5, 17]);
  assert.deepEqual([inputTokenDetails.cacheReadTokens, inputTokenDetails.noCacheTokens], [4, 8]);
  assert.deepEqual([outputTokenDetails.reasoningTokens, outputTokenDetails.textTokens], [2, 3]);
  assert.equal(result.providerMetadata?.pagelm?.decodeTokensPerS, 50);
  assert.deepEqual(result.warnings, []);
  assert.deepEqual(asked, [
    {
      path: "/v1/chat/completions",
      attached: [],
      stream: false,
      messages: [
        { role: "system", content: "Be brief." },
        { role: "user", content: "Capital of France?" },
      ],
    },
  ]);
});

test("settings reach the engine, and what it cannot heed is warned of", async () => {
  const { engine, asked } = scripted(text("x"));
  const { warnings } = await generateText({
    model: pagelm(engine),
    prompt: "Hi",
    maxOutputTokens: 9,
    temperature: 0.5,
    topP: 0.9,
    topK: 7,
    presencePenalty: 0.1,
    frequencyPenalty: 0.2,
    seed: 3,
    stopSequences: ["\n"],
    reasoning: "low",
    providerOptions: { pagelm: { min_p: 0.05, chat_template_kwargs: { a: 1 } } },
    tools: {
      old: tool({ inputSchema: jsonSchema({ type: "object" }), inputExamples: [{ input: {} }], strict: true }),
      web: { type: "provider", isProviderExecuted: true, id: "x.search", args: {}, inputSchema: jsonSchema({}) },
    },
    toolChoice: "none",
  });
  const { messages: _, tools, path: __, attached: ___, ...settings } = asked[0];
  assert.deepEqual(settings, {
    stream: false,
    max_tokens: 9,
    temperature: 0.5,
    top_p: 0.9,
    top_k: 7,
    presence_penalty: 0.1,
    frequency_penalty: 0.2,
    seed: 3,
    stop: ["\n"],
    reasoning_effort: "low",
    tool_choice: "none",
    min_p: 0.05,
    chat_template_kwargs: { a: 1 },
  });
  assert.deepEqual(tools, [
    { type: "function", function: { name: "old", parameters: { type: "object" }, strict: true } },
  ]);
  assert.deepEqual(
    warnings?.map((w) => untyped(w).feature),
    ["inputExamples of tool old", "tool x.search"],
  );
});

test("a stream has parts that the AI SDK puts together, reasoning before text", async () => {
  const { engine, asked } = scripted(THINKS);
  const { stream, ...result } = streamText({ model: pagelm(engine), prompt: "Capital?" });
  const kinds = [];
  for await (const part of stream) kinds.push(part.type);
  assert.deepEqual(kinds, [
    "start",
    "start-step",
    "reasoning-start",
    "reasoning-delta",
    "reasoning-delta",
    "reasoning-end",
    "text-start",
    "text-delta",
    "text-delta",
    "text-end",
    "finish-step",
    "finish",
  ]);
  assert.equal(asked[0].stream, true);
  assert.deepEqual(asked[0].stream_options, { include_usage: true });
  assert.ok(result);
});

test("tools run until the model answers, in whole answers, in streams and in agents", async () => {
  const script = () => scripted({ ...calls("weather", '{"city"', ':"Paris"}') }, text("It is ", "clear."));
  for (const run of [
    (/** @type {any} */ given) => generateText({ ...given, prompt: "Weather?", stopWhen: isStepCount(3) }),
    async (/** @type {any} */ given) => {
      const result = streamText({ ...given, prompt: "Weather?", stopWhen: isStepCount(3) });
      return { text: await result.text, steps: await result.steps };
    },
    (/** @type {any} */ given) => new ToolLoopAgent(given).generate({ prompt: "Weather?" }),
  ]) {
    const { engine, asked } = script();
    const ran = /** @type {unknown[]} */ ([]);
    const result = await run({ model: pagelm(engine), tools: { weather: weather(ran) } });
    assert.equal(result.text, "It is clear.");
    assert.deepEqual(ran, [{ city: "Paris" }]);
    assert.deepEqual(
      result.steps.map((/** @type {any} */ step) => step.finishReason),
      ["tool-calls", "stop"],
    );
    assert.deepEqual(asked[1].messages.slice(-2), [
      {
        role: "assistant",
        content: null,
        tool_calls: [
          { id: "call_weather", type: "function", function: { name: "weather", arguments: '{"city":"Paris"}' } },
        ],
      },
      { role: "tool", tool_call_id: "call_weather", content: '{"sky":"clear"}' },
    ]);
  }
});

test("structured output asks for the schema, whole and streamed", async () => {
  const schema = {
    type: /** @type {const} */ ("object"),
    properties: { name: { type: /** @type {const} */ ("string") } },
  };
  const answer = text('{"name"', ':"Paris"}');
  const whole = scripted(answer);
  const output = Output.object({ schema: jsonSchema(schema), name: "city", description: "A city" });
  const result = await generateText({ model: pagelm(whole.engine), prompt: "A city", output });
  assert.deepEqual(result.output, { name: "Paris" });
  assert.deepEqual(whole.asked[0].response_format, {
    type: "json_schema",
    json_schema: { name: "city", description: "A city", schema, strict: true },
  });
  const streamed = scripted(answer);
  const { partialOutputStream } = streamText({ model: pagelm(streamed.engine), prompt: "A city", output });
  const partial = [];
  for await (const part of partialOutputStream) partial.push(part);
  assert.deepEqual(partial.at(-1), { name: "Paris" });
  const object = streamObject({ model: pagelm(scripted(answer).engine), prompt: "A city", schema: jsonSchema(schema) });
  const objects = [];
  for await (const part of object.partialObjectStream) objects.push(part);
  assert.deepEqual([objects.at(-1), await object.object], [{ name: "Paris" }, { name: "Paris" }]);
  const any = scripted(text("{}"));
  await generateText({ model: pagelm(any.engine), prompt: "JSON", output: Output.json() });
  assert.deepEqual(any.asked[0].response_format, { type: "json_object" });
});

test("images go to the engine as they are, texts as texts, and other files are refused", async () => {
  const { engine, asked } = scripted(text("A cat"));
  const ask = (/** @type {any[]} */ ...content) =>
    generateText({ model: pagelm(engine), messages: [{ role: "user", content }], maxRetries: 0 });
  const bytes = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10);
  await ask({ type: "text", text: "What?" }, { type: "file", data: bytes, mediaType: "image/png" });
  const [{ messages, attached }] = asked;
  assert.deepEqual(messages[0].content, [
    { type: "text", text: "What?" },
    { type: "image_url", image_url: { url: "attached:0" } },
  ]);
  assert.deepEqual(new Uint8Array(await attached[0].arrayBuffer()), bytes);
  assert.equal(attached[0].type, "image/png");
  const url = new URL("https://example.org/cat.png");
  await ask({ type: "file", data: url, mediaType: "image/png", providerOptions: { pagelm: { detail: "low" } } });
  assert.deepEqual(asked[1].messages[0].content, [{ type: "image_url", image_url: { url: url.href, detail: "low" } }]);
  await ask({ type: "file", data: new TextEncoder().encode("héllo"), mediaType: "text/plain" });
  assert.equal(asked[2].messages[0].content, "héllo");
  await assert.rejects(ask({ type: "file", data: Uint8Array.of(1, 2, 3), mediaType: "audio/wav" }), {
    code: "invalid-argument",
    place: "prompt[0].content[0]",
    message: /audio\/wav; expected an image/,
  });
});

test("a conversation that other models had is told as far as it can be", async () => {
  const { engine, asked } = scripted(text("ok"));
  const tool = (/** @type {any} */ output) => ({ type: "tool-result", toolCallId: "1", toolName: "t", output });
  const { warnings } = await generateText({
    model: pagelm(engine),
    messages: untyped([
      { role: "user", content: "a" },
      {
        role: "assistant",
        content: [
          { type: "reasoning", text: "hm" },
          { type: "text", text: "b" },
          { type: "file", data: Uint8Array.of(1), mediaType: "image/png" },
          { type: "tool-call", toolCallId: "1", toolName: "t", input: { x: 1 } },
        ],
      },
      {
        role: "tool",
        content: [
          tool({
            type: "content",
            value: [
              { type: "text", text: "x" },
              { type: "text", text: "y" },
            ],
          }),
        ],
      },
    ]),
  });
  assert.deepEqual(asked[0].messages.slice(1), [
    {
      role: "assistant",
      content: "b",
      reasoning_content: "hm",
      tool_calls: [{ id: "1", type: "function", function: { name: "t", arguments: '{"x":1}' } }],
    },
    { role: "tool", tool_call_id: "1", content: "x\ny" },
  ]);
  assert.equal(warnings?.length, 1);
  assert.match(untyped(warnings?.[0]).feature, /^file in an answer/);
});

test("an abort ends the generation and shows as one, before and while the answer comes", async () => {
  const { engine, stopped } = scripted({ ...text("a", "b"), hang: true });
  const stop = new AbortController();
  const result = streamText({ model: pagelm(engine), prompt: "Hi", abortSignal: stop.signal });
  const kinds = [];
  for await (const part of result.stream) {
    kinds.push(part.type);
    if (part.type === "text-delta") stop.abort();
  }
  assert.equal(kinds.at(-1), "abort");
  assert.ok(!kinds.includes("error"));
  assert.ok(stopped());
  const whole = scripted({ hang: true });
  const late = new AbortController();
  setTimeout(() => late.abort(), 20);
  const waits = generateText({ model: pagelm(whole.engine), prompt: "Hi", abortSignal: late.signal });
  await assert.rejects(waits, { name: "AbortError" });
  assert.ok(whole.stopped());
});

test("who leaves a stream stops it", async () => {
  const { engine, stopped } = scripted({ ...text("a", "b"), hang: true });
  const { stream } = await pagelm(engine).doStream({
    prompt: [{ role: "user", content: [{ type: "text", text: "Hi" }] }],
  });
  const reader = stream.getReader();
  while ((await reader.read()).value?.type !== "text-delta");
  await reader.cancel();
  assert.ok(stopped());
});

test("an error is that of the engine, and is not tried again", async () => {
  const { engine, asked } = scripted({
    error: { code: "context_length_exceeded", message: "too long", param: "messages" },
  });
  await assert.rejects(generateText({ model: pagelm(engine), prompt: "Hi" }), {
    code: "context-overflow",
    message: "too long",
    place: "messages",
  });
  assert.equal(asked.length, 1);
  const broken = scripted({ ...text("a"), breaks: "device-lost" });
  const errors = /** @type {any[]} */ ([]);
  const result = streamText({
    model: pagelm(broken.engine),
    prompt: "Hi",
    onError: ({ error }) => void errors.push(error),
  });
  const kinds = [];
  for await (const part of result.stream) kinds.push(part.type);
  assert.ok(kinds.includes("error"), `${kinds}`);
  assert.deepEqual(
    errors.map(({ code }) => code),
    ["device-lost"],
  );
});
