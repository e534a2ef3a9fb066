// Models that a provider of the AI SDK loads: once, again after a failure, with what it tells of the download.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import {
  AbstractChat,
  convertToModelMessages,
  createProviderRegistry,
  createUIMessageStream,
  embedMany,
  generateText,
  streamText,
  toUIMessageStream,
} from "ai";
import { loader, scripted, text } from "./scripted.mjs";
import { source } from "./source.mjs";

const { createPagelm, pagelm, PagelmError } = await source("ai-sdk.ts");

test("a model that is named is loaded once, when it is first asked, and tells how far it is", async () => {
  const { create, given, made } = loader(text("Hello"));
  const told = /** @type {unknown[]} */ ([]);
  const provider = createPagelm({
    create,
    contextLength: 2048,
    onProgress: ({ loaded }, model) => void told.push([model, loaded]),
  });
  const model = provider("hf:a/b:Q4_K_M");
  assert.equal(given.length, 0);
  const raw = /** @type {any[]} */ ([]);
  const streamed = streamText({ model, prompt: "Hi", include: { rawChunks: true } });
  const [, second] = await Promise.all([
    (async () => {
      for await (const part of streamed.stream) if (part.type === "raw") raw.push(part.rawValue);
    })(),
    generateText({ model: provider("hf:a/b:Q4_K_M"), prompt: "Hi" }),
  ]);
  assert.equal(second.text, "Hello");
  assert.equal(await streamed.text, "Hello");
  assert.equal(given.length, 1);
  assert.equal(given[0]?.model, "hf:a/b:Q4_K_M");
  assert.equal(given[0]?.contextLength, 2048);
  assert.deepEqual(
    told,
    [0, 50, 100].map((loaded) => ["hf:a/b:Q4_K_M", loaded]),
  );
  const progress = raw.filter(({ type }) => type === "pagelm.progress");
  assert.deepEqual([progress[0]?.total, progress.at(-1)?.loaded], [100, 100]);
  assert.ok(raw.some(({ object }) => object === "chat.completion.chunk"));
  provider.dispose();
  assert.equal(made[0]?.engine.ended?.code, "disposed");
});

test("it is a provider of a registry, by names that have colons", async () => {
  const { create, given } = loader(text("Hello"));
  const registry = createProviderRegistry({ pagelm: createPagelm({ create }) });
  const { text: answer } = await generateText({ model: registry.languageModel("pagelm:hf:a/b:Q4_K_M"), prompt: "Hi" });
  assert.equal(answer, "Hello");
  assert.equal(given[0]?.model, "hf:a/b:Q4_K_M");
});

test("a load that failed is tried again, and an engine that broke is loaded anew", async () => {
  const load = loader(text("Hello"));
  const model = createPagelm({ create: load.create })("m.gguf");
  load.fail(new PagelmError("network", "offline"));
  await assert.rejects(generateText({ model, prompt: "Hi" }), { code: "network" });
  load.fail(null);
  assert.equal((await generateText({ model, prompt: "Hi" })).text, "Hello");
  assert.equal(load.given.length, 2);
  load.made[0]?.client.end(new PagelmError("device-lost", "gone"));
  assert.equal((await generateText({ model, prompt: "Hi" })).text, "Hello");
  assert.equal(load.given.length, 3);
});

test("an abort while the model loads ends the wait of who aborts, and no other's", async () => {
  const load = loader(text("Hello"));
  const go = load.hold();
  const model = createPagelm({ create: load.create })("m.gguf");
  const stop = new AbortController();
  const first = generateText({ model, prompt: "Hi", abortSignal: stop.signal });
  const second = generateText({ model, prompt: "Hi" });
  stop.abort();
  await assert.rejects(first, { name: "AbortError" });
  go();
  assert.equal((await second).text, "Hello");
  assert.equal(load.given.length, 1);
});

test("a chat runs in the page, with the download as a part of its own, as the README has it", async () => {
  const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
  const [, block = ""] = /(let tell = [\s\S]*?\n};)\nconst \{ messages, sendMessage/.exec(readme) ?? [];
  const given = { createPagelm, convertToModelMessages, createUIMessageStream, streamText, toUIMessageStream };
  const { create } = loader(text("Hel", "lo"));
  const made = block.replace("createPagelm({", "createPagelm({ create,");
  const transport = new Function("create", ...Object.keys(given), `${made} return transport;`)(
    create,
    ...Object.values(given),
  );
  const parts = /** @type {any[]} */ ([]);
  /** @extends {AbstractChat<import("ai").UIMessage>} */
  class TestChat extends AbstractChat {
    constructor() {
      /** @type {any} */
      const state = {
        status: "ready",
        error: undefined,
        messages: [],
        pushMessage: (/** @type {any} */ m) => state.messages.push(m),
        popMessage: () => state.messages.pop(),
        replaceMessage: (/** @type {number} */ i, /** @type {any} */ m) => {
          state.messages[i] = m;
        },
        snapshot: structuredClone,
      };
      super({ transport, state, onData: (/** @type {any} */ part) => void parts.push(part) });
    }
  }
  const chat = new TestChat();
  await chat.sendMessage({ text: "Hi" });
  assert.equal(chat.error, undefined);
  const answer = chat.messages.at(-1);
  assert.equal(answer?.role, "assistant");
  assert.equal(answer?.parts.find((part) => part.type === "text")?.text, "Hello");
  assert.deepEqual(
    parts.map(({ type, data }) => [type, data.loaded]),
    [0, 50, 100].map((loaded) => ["data-progress", loaded]),
  );
});

test("embeddings", async () => {
  const data = [0, 1].map((index) => ({ object: "embedding", index, embedding: [index, 1] }));
  const { engine, asked } = scripted({
    data: { object: "list", data, model: "m", usage: { prompt_tokens: 6, total_tokens: 6 } },
  });
  const result = await embedMany({
    model: pagelm.embeddingModel(engine),
    values: ["a", "b"],
    providerOptions: { pagelm: { dimensions: 2 } },
  });
  assert.deepEqual(result.embeddings, [
    [0, 1],
    [1, 1],
  ]);
  assert.equal(result.usage.tokens, 6);
  assert.deepEqual([asked[0].path, asked[0].input, asked[0].dimensions], ["/v1/embeddings", ["a", "b"], 2]);
  assert.throws(() => pagelm.imageModel("x"), { code: "invalid-argument" });
});
