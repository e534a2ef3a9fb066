// What programs do with OpenAI's API, each flow through a client library that many use. They run in a page on
// `engine.fetch` and in Node on `pagelm serve`, and give what must be equal in both.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { HumanMessage, SystemMessage, ToolMessage } from "@langchain/core/messages";
import { ChatOpenAI } from "@langchain/openai";
import { embedMany, generateText, jsonSchema, Output, stepCountIs, streamText, tool } from "ai";
import OpenAI from "openai";
import { pagelm } from "pagelm/ai-sdk";
import { runTools } from "pagelm/tools";

/** @typedef {{ baseURL: string, fetch: typeof fetch, llm: import("pagelm/ai-sdk").Llm }} Door */

/** Requests whose answers are the same whichever client asks: what is asked for, and its parameters. */
export const requests = /** @type {const} */ ([
  [
    "chat.completions",
    { messages: [{ role: "user", content: "What is the capital of France?" }], seed: 1, max_tokens: 12 },
  ],
  [
    "chat.completions",
    {
      messages: [{ role: "user", content: "Say hello" }],
      temperature: 0,
      max_tokens: 8,
      logprobs: true,
      stream: true,
      stream_options: { include_usage: true },
    },
  ],
  [
    "chat.completions",
    {
      messages: [{ role: "user", content: "Weather in Paris?" }],
      temperature: 0,
      max_tokens: 64,
      tool_choice: "required",
      tools: [
        {
          type: "function",
          function: {
            name: "get_weather",
            parameters: {
              type: "object",
              properties: { city: { type: "string" } },
              required: ["city"],
              additionalProperties: false,
            },
            strict: true,
          },
        },
      ],
    },
  ],
  [
    "chat.completions",
    {
      messages: [{ role: "user", content: "A city as JSON" }],
      temperature: 0,
      max_tokens: 64,
      response_format: {
        type: "json_schema",
        json_schema: {
          name: "city",
          schema: {
            type: "object",
            properties: { name: { type: "string", maxLength: 20 } },
            required: ["name"],
            additionalProperties: false,
          },
          strict: true,
        },
      },
    },
  ],
  ["completions", { prompt: "1, 2, 3,", temperature: 0, max_tokens: 6, echo: true }],
  ["responses", { input: "Say hello", temperature: 0, max_output_tokens: 8 }],
  ["responses", { input: "Say hello", temperature: 0, max_output_tokens: 8, stream: true }],
  ["chat.completions", { messages: [] }],
  ["embeddings", { input: "a", encoding_format: "float" }],
]);

/** What OpenAI's client for JavaScript gets for them. @param {Omit<Door, "llm">} door */
export async function answers(door) {
  const client = /** @type {any} */ (openai(door));
  const one = async (/** @type {string} */ endpoint, /** @type {any} */ params) => {
    const door = endpoint.split(".").reduce((at, name) => at[name], client);
    try {
      const made = await door.create({ model: "m", ...params });
      if (!params.stream) {
        // The client's own addition.
        const { output_text: _, ...answer } = made;
        return answer;
      }
      const parts = [];
      for await (const part of made) parts.push(part);
      return parts;
    } catch (e) {
      const { status, error } = /** @type {any} */ (e);
      if (!status) throw e;
      return { status, error };
    }
  };
  const all = [];
  for (const [endpoint, params] of requests) all.push(await one(endpoint, params));
  return all;
}

const SYSTEM = "You are a helpful assistant. Answer briefly.";
const QUESTION = "What is the capital of France?";
const ASKED = /** @type {const} */ ([
  { role: "system", content: SYSTEM },
  { role: "user", content: QUESTION },
]);
const WEATHER = "What is the weather in Paris now? Call the function get_weather.";
const PLACE = {
  type: /** @type {const} */ ("object"),
  properties: { city: { type: /** @type {const} */ ("string") } },
  required: ["city"],
  additionalProperties: false,
};
const CITY = {
  type: /** @type {const} */ ("object"),
  properties: {
    name: { type: /** @type {const} */ ("string"), maxLength: 20 },
    inhabitants: { type: /** @type {const} */ ("integer"), minimum: 0, maximum: 99999999 },
    capital: { type: /** @type {const} */ ("boolean") },
  },
  required: ["name", "inhabitants", "capital"],
  additionalProperties: false,
};
const DESCRIBE = "Describe the city Paris as JSON with name, inhabitants and capital.";

const openai = (/** @type {Omit<Door, "llm">} */ { baseURL, fetch }) =>
  new OpenAI({ baseURL, fetch, apiKey: "-", dangerouslyAllowBrowser: true, maxRetries: 0 });
const compatible = (/** @type {Omit<Door, "llm">} */ { baseURL, fetch }) =>
  createOpenAICompatible({ name: "pagelm", baseURL, fetch, apiKey: "-", supportsStructuredOutputs: true })("m");
const langchain = (/** @type {Door} */ { baseURL, fetch }, maxTokens = 24, modelKwargs = {}) =>
  new ChatOpenAI({
    model: "m",
    apiKey: "-",
    temperature: 0,
    maxTokens,
    modelKwargs,
    maxRetries: 0,
    configuration: { baseURL, fetch, dangerouslyAllowBrowser: true },
  });

/** How an abort shows, and how much came before it. @param {(signal: AbortSignal, seen: () => void) => Promise<unknown>} run */
async function aborted(run) {
  const stop = new AbortController();
  let seen = 0;
  try {
    await run(stop.signal, () => {
      if (++seen === 3) stop.abort();
    });
    return { seen, error: "none" };
  } catch (e) {
    return { seen, error: e instanceof Error ? e.name : String(e) };
  }
}

/**
 * Flows of the AI SDK, over HTTP and by the package's own provider. @param {string} name
 * @param {(door: Door) => import("ai").LanguageModel} model
 */
function ofAiSdk(name, model) {
  return {
    async [`${name}: text`](/** @type {Door} */ door) {
      const { text, finishReason, usage } = await generateText({
        model: model(door),
        system: SYSTEM,
        prompt: QUESTION,
        temperature: 0,
        maxOutputTokens: 24,
      });
      return { text, finishReason, in: usage.inputTokens, out: usage.outputTokens };
    },

    async [`${name}: stream`](/** @type {Door} */ door) {
      const { textStream, finishReason } = streamText({
        model: model(door),
        system: SYSTEM,
        prompt: QUESTION,
        temperature: 0,
        maxOutputTokens: 24,
      });
      let text = "";
      for await (const part of textStream) text += part;
      return { text, finish: await finishReason };
    },

    async [`${name}: tools`](/** @type {Door} */ door) {
      const asked = /** @type {string[]} */ ([]);
      const { text, steps } = await generateText({
        model: model(door),
        prompt: WEATHER,
        temperature: 0,
        maxOutputTokens: 48,
        stopWhen: stepCountIs(3),
        tools: {
          get_weather: tool({
            description: "The weather in a city now",
            inputSchema: jsonSchema(PLACE),
            execute: async (/** @type {{ city: string }} */ { city }) => {
              asked.push(city);
              return "sunny, 21 degrees";
            },
          }),
        },
      });
      return { asked, text, steps: steps.map(({ finishReason }) => finishReason) };
    },

    async [`${name}: structured output`](/** @type {Door} */ door) {
      const { output } = await generateText({
        model: model(door),
        prompt: DESCRIBE,
        temperature: 0,
        maxOutputTokens: 80,
        output: Output.object({ schema: jsonSchema(CITY) }),
      });
      return output;
    },

    async [`${name}: abort`](/** @type {Door} */ door) {
      return aborted(async (abortSignal, seen) => {
        const errors = /** @type {unknown[]} */ ([]);
        const stream = streamText({
          model: model(door),
          prompt: QUESTION,
          maxOutputTokens: 400,
          abortSignal,
          providerOptions: { pagelm: { ignore_eos: true } },
          onError: ({ error }) => void errors.push(error),
        });
        for await (const part of stream.fullStream) {
          if (part.type === "text-delta") seen();
          if (part.type === "abort") throw new DOMException("stopped", "AbortError");
        }
        if (errors.length) throw errors[0];
      });
    },
  };
}

/** Flows by name. @type {Record<string, (door: Door) => Promise<unknown>>} */
export const flows = {
  async "openai: models"(door) {
    const ids = [];
    for await (const { id, object, owned_by } of openai(door).models.list())
      ids.push({ id: typeof id, object, owned_by });
    return ids;
  },

  async "openai: chat"(door) {
    const body = await openai(door).chat.completions.create({
      model: "m",
      messages: [...ASKED],
      temperature: 0,
      max_completion_tokens: 24,
      logprobs: true,
      top_logprobs: 2,
    });
    const { choices, usage, model, object } = body;
    const [choice] = choices;
    const likely = choice?.logprobs?.content?.map(({ token, top_logprobs }) => [token, top_logprobs.length]);
    const counts = [usage?.prompt_tokens, usage?.completion_tokens, usage?.total_tokens];
    return { model, object, message: choice?.message, finish: choice?.finish_reason, likely, counts };
  },

  async "openai: several answers"(door) {
    const params = { model: "m", messages: [...ASKED], n: 2, seed: 7, temperature: 0.7, max_tokens: 8 };
    const { choices } = await openai(door).chat.completions.create(params);
    return choices.map(({ index, message, finish_reason }) => [index, message.content !== "", finish_reason]);
  },

  async "openai: stream"(door) {
    const stream = openai(door).chat.completions.stream({
      model: "m",
      messages: [...ASKED],
      temperature: 0,
      max_tokens: 24,
      stop: ["."],
      stream_options: { include_usage: true },
    });
    let text = "";
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
    const { choices, usage } = await stream.finalChatCompletion();
    return {
      text,
      message: choices[0]?.message.content,
      finish: choices[0]?.finish_reason,
      out: usage?.completion_tokens,
    };
  },

  async "openai: structured output"(door) {
    const { choices } = await openai(door).chat.completions.parse({
      model: "m",
      messages: [{ role: "user", content: DESCRIBE }],
      temperature: 0,
      max_tokens: 80,
      response_format: { type: "json_schema", json_schema: { name: "city", strict: true, schema: CITY } },
    });
    return JSON.parse(choices[0]?.message.content ?? "");
  },

  async "openai: tools"(door) {
    const asked = /** @type {string[]} */ ([]);
    const runner = openai(door).chat.completions.runTools(
      {
        model: "m",
        messages: [{ role: "user", content: WEATHER }],
        temperature: 0,
        max_tokens: 48,
        stream: true,
        tools: [
          {
            type: "function",
            function: {
              name: "get_weather",
              description: "The weather in a city now",
              parameters: PLACE,
              parse: JSON.parse,
              function: (/** @type {{ city: string }} */ { city }) => {
                asked.push(city);
                return "sunny, 21 degrees";
              },
            },
          },
        ],
      },
      { maxChatCompletions: 2 },
    );
    return { asked, text: await runner.finalContent(), roles: runner.messages.map(({ role }) => role) };
  },

  async "pagelm: tools"(door) {
    const asked = /** @type {string[]} */ ([]);
    const params = {
      model: "m",
      messages: [{ role: /** @type {const} */ ("user"), content: WEATHER }],
      temperature: 0,
      max_tokens: 48,
      tools: [
        {
          type: /** @type {const} */ ("function"),
          function: { name: "get_weather", description: "The weather in a city now", parameters: PLACE, strict: true },
          execute: (/** @type {{ city: string }} */ { city }) => {
            asked.push(city);
            return "sunny, 21 degrees";
          },
        },
      ],
    };
    for await (const event of runTools(openai(door), params, { maxRounds: 2 }))
      if (event.type === "done")
        return { asked, text: event.content, roles: event.messages.map(({ role }) => role), rounds: event.rounds };
  },

  async "openai: abort"(door) {
    return aborted(async (signal, seen) => {
      const params = { model: "m", messages: [...ASKED], max_tokens: 400, ignore_eos: true };
      for await (const _ of await openai(door).chat.completions.create({ ...params, stream: true }, { signal })) seen();
    });
  },

  async "openai: errors"(door) {
    const client = openai(door);
    const calls = {
      type: () => client.chat.completions.create(/** @type {never} */ ({ model: "m", messages: 5 })),
      range: () => client.chat.completions.create({ model: "m", messages: [...ASKED], temperature: -1 }),
      schema: () =>
        client.chat.completions.create({
          model: "m",
          messages: [...ASKED],
          response_format: { type: "json_schema", json_schema: { name: "x", schema: { type: "nonsense" } } },
        }),
      long: () => client.completions.create({ model: "m", prompt: "word ".repeat(5000) }),
      embeddings: () => client.embeddings.create({ model: "m", input: "a" }),
      path: () => client.files.list(),
    };
    const all = /** @type {Record<string, unknown>} */ ({});
    for (const [name, call] of Object.entries(calls)) {
      all[name] = await call().then(
        () => "taken",
        (e) => ({
          known: e instanceof OpenAI.APIError,
          status: e.status,
          code: e.code,
          param: e.param,
          type: e.type,
          message: e.message,
        }),
      );
    }
    return all;
  },

  async "openai: completions"(door) {
    const params = { model: "m", prompt: "def add(a, b):\n    return", temperature: 0, max_tokens: 6, echo: true };
    const { choices } = await openai(door).completions.create(params);
    const fill = { model: "m", prompt: "def add(a, b):\n    return ", suffix: "\n\nprint(add(1, 2))", temperature: 0 };
    const filled = await openai(door).completions.create({ ...fill, max_tokens: 6 });
    return [choices[0]?.text, filled.choices[0]?.text];
  },

  async "openai: responses"(door) {
    const client = openai(door);
    const params = { model: "m", instructions: SYSTEM, input: QUESTION, temperature: 0, max_output_tokens: 24 };
    const { output_text, status } = await client.responses.create(params);
    const events = [];
    let text = "";
    for await (const event of await client.responses.create({ ...params, stream: true })) {
      if (event.type === "response.output_text.delta") text += event.delta;
      else events.push(event.type);
    }
    return { output_text, status, text, events };
  },

  ...ofAiSdk("ai", compatible),
  ...ofAiSdk("pagelm/ai-sdk", ({ llm }) => pagelm(llm)),

  async "langchain: chat"(door) {
    const answer = await langchain(door).invoke([new SystemMessage(SYSTEM), new HumanMessage(QUESTION)]);
    return answer.content;
  },

  async "langchain: stream"(door) {
    let text = "";
    for await (const { content } of await langchain(door).stream([
      ["system", SYSTEM],
      ["human", QUESTION],
    ]))
      text += content;
    return text;
  },

  async "langchain: tools"(door) {
    const parameters = PLACE;
    const model = langchain(door).bindTools([
      { type: "function", function: { name: "get_weather", description: "The weather in a city now", parameters } },
    ]);
    const question = new HumanMessage(WEATHER);
    const answer = await model.invoke([question]);
    const calls = answer.tool_calls ?? [];
    const results = calls.map(({ id }) => new ToolMessage({ content: "sunny, 21 degrees", tool_call_id: id ?? "" }));
    const last = await model.invoke([question, answer, ...results]);
    return { calls: calls.map(({ name, args }) => ({ name, args })), text: last.content };
  },

  async "langchain: structured output"(door) {
    const options = { name: "city", method: /** @type {const} */ ("jsonSchema"), strict: true };
    return langchain(door, 80).withStructuredOutput(CITY, options).invoke(DESCRIBE);
  },

  async "langchain: abort"(door) {
    return aborted(async (signal, seen) => {
      const model = langchain(door, 400, { ignore_eos: true });
      for await (const _ of await model.stream(QUESTION, { signal })) seen();
    });
  },
};

/** Texts as vectors, by the clients that make them. @param {Door} door @param {string[]} texts */
export async function embedded({ llm, ...door }, texts) {
  // This client asks for base64 and decodes it.
  const { data, usage } = await openai(door).embeddings.create({ model: "m", input: texts });
  const model = createOpenAICompatible({ name: "pagelm", ...door, apiKey: "-" }).textEmbeddingModel("m");
  const { embeddings } = await embedMany({ model, values: texts });
  const { embeddings: provider } = await embedMany({ model: pagelm.embeddingModel(llm), values: texts });
  const vectors = data.map(({ embedding }) => embedding);
  return { openai: vectors, ai: embeddings, provider, tokens: usage.total_tokens };
}
