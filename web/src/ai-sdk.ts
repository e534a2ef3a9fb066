// A provider of the AI SDK: `pagelm/ai-sdk`, a separate entry point. Of that package it needs the types only.
import type {
  EmbeddingModelV4,
  EmbeddingModelV4CallOptions,
  LanguageModelV4,
  LanguageModelV4CallOptions,
  LanguageModelV4Content,
  LanguageModelV4FinishReason,
  LanguageModelV4StreamPart,
  LanguageModelV4Usage,
  ProviderV4,
} from "@ai-sdk/provider";
import { asked } from "./ai-sdk-prompt.ts";
import {
  type ChatChunk,
  type ChatUsage,
  type Endpoints,
  type EngineOptions,
  type FinishReason,
  type LoadProgress,
  PagelmError,
} from "./index.ts";
import { type Create, errorOf, Lazy, waited } from "./lazy.ts";

export { PagelmError };

/** What answers: an engine, or what `withRemote` makes of it. */
export type Llm = Pick<Endpoints, "chat" | "embeddings">;

/** As for `createEngine`: how models that are named are loaded. */
export interface PagelmProviderOptions extends Omit<EngineOptions, "model" | "signal" | "onProgress"> {
  /** Called with what is loaded, and how far it is. */
  onProgress?: (progress: LoadProgress, model: string) => void;
  /** What loads them, in the place of `createEngine`. */
  create?: Create;
}

/** A model of the AI SDK. */
export interface PagelmLanguageModel extends LanguageModelV4 {
  /** Loads it before it is asked. The signal ends the wait, not the load. */
  load(signal?: AbortSignal): Promise<Llm>;
}

export interface PagelmProvider extends ProviderV4 {
  /**
   * A model that is loaded when it is first asked, by a URL or `hf:OWNER/REPO:QUANTISATION`; or an engine, or the promise of
   * one, which stays the caller's.
   */
  (model: string | Llm | Promise<Llm>): PagelmLanguageModel;
  languageModel(model: string | Llm | Promise<Llm>): PagelmLanguageModel;
  /** One that makes embeddings. */
  embeddingModel(model: string | Llm | Promise<Llm>): EmbeddingModelV4;
  /** Ends the models that it loaded, and frees their memory. */
  dispose(): void;
}

/** Models with the same options. Each is loaded once. */
export function createPagelm(options: PagelmProviderOptions = {}): PagelmProvider {
  const { create, onProgress, ...rest } = options;
  const loads = new Map<string, Lazy>();
  const named = (model: string, more: Partial<EngineOptions>): Lazy => {
    const key = `${model} ${JSON.stringify(more)}`;
    const told = onProgress && { onProgress: (progress: LoadProgress) => onProgress(progress, model) };
    const load = loads.get(key) ?? new Lazy({ ...rest, ...told, ...more, model }, create);
    loads.set(key, load);
    return load;
  };
  const door = (model: string | Llm | Promise<Llm>, more: Partial<EngineOptions> = {}): Door =>
    typeof model === "string" ? new Named(model, named(model, more)) : new Given(model);
  const languageModel = (model: string | Llm | Promise<Llm>) => new Language(door(model));
  return Object.assign(languageModel, {
    specificationVersion: "v4" as const,
    languageModel,
    embeddingModel: (model: string | Llm | Promise<Llm>) => new Embedding(door(model, { embeddings: true })),
    imageModel(modelId: string): never {
      throw new PagelmError("invalid-argument", `${modelId}: pagelm makes no images`, "modelId");
    },
    dispose() {
      for (const load of loads.values()) load.dispose();
      loads.clear();
    },
  });
}

/** The provider with the defaults of `createEngine`. */
export const pagelm: PagelmProvider = createPagelm();

/** What opens on a model. */
interface Door {
  readonly id: string;
  /** Whether it must be loaded first, and what tells how far that is. */
  readonly lazy: Lazy | null;
  open(signal?: AbortSignal | null): Promise<Llm>;
}

class Named implements Door {
  readonly id: string;
  readonly lazy: Lazy;
  constructor(id: string, lazy: Lazy) {
    this.id = id;
    this.lazy = lazy;
  }
  open(signal?: AbortSignal | null): Promise<Llm> {
    return this.lazy.get(signal);
  }
}

class Given implements Door {
  readonly id: string;
  readonly lazy = null;
  #llm: Llm | Promise<Llm>;
  constructor(llm: Llm | Promise<Llm>) {
    this.#llm = llm;
    const { info } = llm as { info?: { model: { name: string | null } } };
    this.id = info?.model.name ?? "pagelm";
  }
  open(signal?: AbortSignal | null): Promise<Llm> {
    return waited(Promise.resolve(this.#llm), signal);
  }
}

class Language implements PagelmLanguageModel {
  readonly specificationVersion = "v4";
  readonly provider = "pagelm";
  readonly modelId: string;
  /** What the engine fetches and decodes itself. */
  readonly supportedUrls = { "image/*": [/^(https?|data|blob):/] };
  #door: Door;

  constructor(door: Door) {
    this.#door = door;
    this.modelId = door.id;
  }

  load(signal?: AbortSignal): Promise<Llm> {
    return this.#door.open(signal);
  }

  async doGenerate(call: LanguageModelV4CallOptions) {
    const { params, warnings } = asked(call);
    const signal = call.abortSignal ?? null;
    const llm = await this.#door.open(signal);
    const body = await llm.chat.completions.create({ ...params, stream: false }, { signal });
    const { message, finish_reason, logprobs } = body.choices[0]!;
    const content: LanguageModelV4Content[] = [];
    if (message.reasoning_content) content.push({ type: "reasoning", text: message.reasoning_content });
    if (message.content) content.push({ type: "text", text: message.content });
    for (const { id, function: of } of message.tool_calls ?? [])
      content.push({ type: "tool-call", toolCallId: id, toolName: of.name, input: of.arguments || "{}" });
    return {
      content,
      finishReason: finished(finish_reason),
      usage: usageOf(body.usage),
      providerMetadata: metadata(body.usage, logprobs?.content),
      request: { body: params },
      response: { id: body.id, timestamp: new Date(body.created * 1000), modelId: this.modelId, body },
      warnings,
    };
  }

  async doStream(call: LanguageModelV4CallOptions) {
    const { params, warnings } = asked(call);
    const stop = new AbortController();
    const signal = call.abortSignal ? AbortSignal.any([call.abortSignal, stop.signal]) : stop.signal;
    const open = async () => {
      const llm = await this.#door.open(signal);
      const options = { ...params, stream: true as const, stream_options: { include_usage: true } };
      return llm.chat.completions.create(options, { signal });
    };
    const { lazy } = this.#door;
    // Who asks for raw parts is told of the download, so the stream must be there before the model is.
    const early = call.includeRawChunks && lazy && lazy.state !== "ready";
    const chunks = early ? null : await open();
    const parts = (async function* (): AsyncGenerator<LanguageModelV4StreamPart, void, void> {
      yield { type: "stream-start", warnings };
      if (early) yield* progressOf(lazy, signal);
      yield* new Reader(call.includeRawChunks ?? false).parts(chunks ?? (await open()));
    })();
    const stream = new ReadableStream<LanguageModelV4StreamPart>(
      {
        async pull(to) {
          const { value, done } = await parts.next();
          if (done) to.close();
          else to.enqueue(value);
        },
        async cancel() {
          stop.abort();
          await chunks?.return();
        },
      },
      // A part is made when it is asked for: who reads slowly makes the engine wait.
      { highWaterMark: 0 },
    );
    return { stream, request: { body: params } };
  }
}

/** How far a load is, as raw parts, until it is over. */
async function* progressOf(lazy: Lazy, signal: AbortSignal): AsyncGenerator<LanguageModelV4StreamPart, void, void> {
  let over = false;
  let wake = () => {};
  const loaded = lazy.get(signal).finally(() => {
    over = true;
    wake();
  });
  // Its error is that of who opens the model next.
  loaded.catch(() => {});
  const leave = lazy.subscribe(() => wake());
  try {
    let last: LoadProgress | null = null;
    while (!over) {
      if (lazy.progress && lazy.progress !== last) {
        last = lazy.progress;
        yield { type: "raw", rawValue: { type: "pagelm.progress", ...last } };
      } else {
        await new Promise<void>((done) => {
          wake = done;
        });
      }
    }
    await loaded;
  } finally {
    leave();
  }
}

type Delta = ChatChunk["choices"][number]["delta"];

/** Makes parts of chunks. */
class Reader {
  #raw: boolean;
  /** What is open: reasoning or text, with its number. */
  #block: { kind: "reasoning" | "text"; id: string } | null = null;
  #blocks = 0;
  #calls: { id: string; name: string; input: string }[] = [];
  /** The first of them that has not ended. */
  #open = 0;
  #logprobs: unknown[] = [];

  constructor(raw: boolean) {
    this.#raw = raw;
  }

  async *parts(chunks: AsyncGenerator<ChatChunk, void, void>): AsyncGenerator<LanguageModelV4StreamPart, void, void> {
    let finish: FinishReason | null = null;
    let usage: ChatUsage | undefined;
    let first = true;
    let broke = false;
    try {
      for await (const chunk of chunks) {
        if (this.#raw) yield { type: "raw", rawValue: chunk };
        const { id, created, model: modelId } = chunk;
        if (first) yield { type: "response-metadata", id, timestamp: new Date(created * 1000), modelId };
        first = false;
        usage = chunk.usage ?? usage;
        const [choice] = chunk.choices;
        if (!choice) continue;
        finish = choice.finish_reason ?? finish;
        this.#logprobs.push(...(choice.logprobs?.content ?? []));
        yield* this.#delta(choice.delta);
      }
    } catch (error) {
      // An abort ends the stream itself. Calls that were not whole are none.
      if (errorOf(error).code === "aborted") throw error;
      broke = true;
      yield { type: "error", error };
    }
    yield* this.#close();
    if (!broke) yield* this.#ended();
    const counts = { usage: usageOf(usage), providerMetadata: metadata(usage, this.#logprobs) };
    yield { type: "finish", finishReason: broke ? { unified: "error", raw: undefined } : finished(finish), ...counts };
  }

  *#delta({ reasoning_content, content, tool_calls = [] }: Delta): Generator<LanguageModelV4StreamPart> {
    if (reasoning_content) yield* this.#more("reasoning", reasoning_content);
    if (content) yield* this.#more("text", content);
    for (const { index, id, function: of } of tool_calls) {
      let call = this.#calls[index];
      if (!call) {
        yield* this.#close();
        yield* this.#ended();
        call = { id: id ?? `call_${index}`, name: of?.name ?? "", input: "" };
        this.#calls[index] = call;
        yield { type: "tool-input-start", id: call.id, toolName: call.name };
      }
      if (!of?.arguments) continue;
      call.input += of.arguments;
      yield { type: "tool-input-delta", id: call.id, delta: of.arguments };
    }
  }

  *#more(kind: "reasoning" | "text", delta: string): Generator<LanguageModelV4StreamPart> {
    if (this.#block?.kind !== kind) {
      yield* this.#close();
      this.#block = { kind, id: `${kind}-${this.#blocks++}` };
      yield { type: `${kind}-start`, id: this.#block.id };
    }
    yield { type: `${kind}-delta`, id: this.#block.id, delta };
  }

  *#close(): Generator<LanguageModelV4StreamPart> {
    if (this.#block) yield { type: `${this.#block.kind}-end`, id: this.#block.id };
    this.#block = null;
  }

  /** The end of the last call, if one is open: calls come one after the other. */
  *#ended(): Generator<LanguageModelV4StreamPart> {
    for (; this.#open < this.#calls.length; this.#open++) {
      const { id, name, input } = this.#calls[this.#open]!;
      yield { type: "tool-input-end", id };
      yield { type: "tool-call", toolCallId: id, toolName: name, input: input || "{}" };
    }
  }
}

class Embedding implements EmbeddingModelV4 {
  readonly specificationVersion = "v4";
  readonly provider = "pagelm";
  readonly modelId: string;
  readonly maxEmbeddingsPerCall = undefined;
  /** One call computes as fast. */
  readonly supportsParallelCalls = false;
  #door: Door;

  constructor(door: Door) {
    this.#door = door;
    this.modelId = door.id;
  }

  async doEmbed({ values, dimensions, abortSignal, providerOptions }: EmbeddingModelV4CallOptions) {
    const signal = abortSignal ?? null;
    const llm = await this.#door.open(signal);
    const more = { ...(dimensions !== undefined && { dimensions }), ...providerOptions?.pagelm };
    const { data, usage } = await llm.embeddings.create({ input: values, ...more }, { signal });
    return { embeddings: data.map(({ embedding }) => embedding), usage: { tokens: usage.prompt_tokens }, warnings: [] };
  }
}

function finished(reason: FinishReason | null): LanguageModelV4FinishReason {
  return { unified: reason === "tool_calls" ? "tool-calls" : (reason ?? "other"), raw: reason ?? undefined };
}

function usageOf(usage?: ChatUsage): LanguageModelV4Usage {
  const { prompt_tokens: total, completion_tokens: out } = usage ?? {};
  const cacheRead = usage?.prompt_tokens_details?.cached_tokens;
  const reasoning = usage?.completion_tokens_details?.reasoning_tokens;
  const less = (a?: number, b = 0) => (a === undefined ? undefined : a - b);
  return {
    inputTokens: { total, noCache: less(total, cacheRead), cacheRead, cacheWrite: undefined },
    outputTokens: { total: out, text: less(out, reasoning), reasoning },
  };
}

/** Speeds, and logprobs where they were asked for. */
function metadata(usage?: ChatUsage, logprobs?: unknown[] | null) {
  const { extra } = usage ?? {};
  const speeds = extra && {
    timeToFirstTokenS: extra.time_to_first_token_s,
    prefillTokensPerS: extra.prefill_tokens_per_s,
    decodeTokensPerS: extra.decode_tokens_per_s,
    draftedTokens: extra.drafted_tokens,
    acceptedTokens: extra.accepted_tokens,
  };
  return { pagelm: { ...speeds, ...(logprobs?.length && { logprobs: logprobs as never[] }) } };
}
