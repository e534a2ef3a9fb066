// The face that OpenAI's chat completions have, over one generation.

import { abortError, PagelmError } from "../shared/errors.ts";
import type { GenerateUsage, OpenAIDefaults, Piece, SamplingParams, StopReason } from "../shared/types.ts";
import type { Client } from "./client.ts";
import { chatParams, plain } from "./params.ts";
import { generate, wireParams } from "./stream.ts";

export interface ChatMessage {
  /** A developer's message is one of the system. */
  role: "system" | "developer" | "user" | "assistant" | "tool";
  /** Null is an empty text. */
  content: string | { type: "text"; text: string }[] | null;
  name?: string;
  tool_call_id?: string;
  /** Empty, as in an answer that is sent back. */
  tool_calls?: never[] | null;
  function_call?: null;
  refusal?: null;
  annotations?: never[] | null;
  audio?: null;
}

export interface ChatParams extends SamplingParams, OpenAIDefaults {
  messages: ChatMessage[];
  /** Only goes into the answer. */
  model?: string;
  stream?: boolean | null;
  /** Only with `stream`. */
  stream_options?: { include_usage?: boolean | null; include_obfuscation?: false | null } | null;
  max_tokens?: number | null;
  max_completion_tokens?: number | null;
  stop?: string | string[] | null;
  /** Not of OpenAI: variables of the model's chat template, such as `{ enable_thinking: false }`. */
  chat_template_kwargs?: Record<string, unknown> | null;
  /** Not of OpenAI: stops the generation, as that of the second argument does. */
  signal?: AbortSignal | null;
  /** Not of OpenAI: how far the prompt is read. Long prompts take a while before the first token. */
  onPrefill?: (progress: { done: number; total: number }) => void;
}

/** The second argument, as in OpenAI's package. */
export interface RequestOptions {
  signal?: AbortSignal | null;
}

export interface ChatUsage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
  /** Not of OpenAI. */
  extra: { time_to_first_token_s: number; prefill_tokens_per_s: number; decode_tokens_per_s: number };
}

export type FinishReason = "stop" | "length";

export interface ChatChunk {
  id: string;
  object: "chat.completion.chunk";
  created: number;
  model: string;
  choices: {
    index: number;
    delta: { role?: "assistant"; content?: string };
    logprobs: null;
    finish_reason: FinishReason | null;
  }[];
  usage?: ChatUsage | null;
}

export interface ChatCompletion {
  id: string;
  object: "chat.completion";
  created: number;
  model: string;
  choices: {
    index: number;
    message: { role: "assistant"; content: string; refusal: null };
    logprobs: null;
    finish_reason: FinishReason;
  }[];
  usage: ChatUsage;
}

export class Completions {
  #client: Client;
  #model: string;

  constructor(client: Client, model: string) {
    this.#client = client;
    this.#model = model;
  }

  /** With `stream` the chunks, as they come; else the whole answer. A request waits for those before it. */
  create(
    params: ChatParams & { stream: true },
    options?: RequestOptions,
  ): Promise<AsyncGenerator<ChatChunk, void, void>>;
  create(params: ChatParams & { stream?: false | null }, options?: RequestOptions): Promise<ChatCompletion>;
  create(params: ChatParams, options?: RequestOptions): Promise<AsyncGenerator<ChatChunk, void, void> | ChatCompletion>;
  async create(
    given: ChatParams,
    options?: RequestOptions,
  ): Promise<AsyncGenerator<ChatChunk, void, void> | ChatCompletion> {
    const params = chatParams(given, options);
    // A stream starts when it is read; what is wrong already shows here.
    if (this.#client.ended) throw this.#client.ended;
    if (params.signal?.aborted) throw abortError(params.signal);
    const head = {
      id: `chatcmpl-${crypto.randomUUID()}`,
      created: Math.floor(Date.now() / 1000),
      model: params.model ?? this.#model,
    };
    const pieces = this.#pieces(params);
    if (params.stream) return chunks(head, pieces, params.stream_options?.include_usage ?? false);
    let content = "";
    for await (const piece of pieces) {
      content += piece.text;
      if (piece.kind !== "done") continue;
      const message = { role: "assistant" as const, content, refusal: null };
      const choices = [{ index: 0, message, logprobs: null, finish_reason: finishReason(piece.reason) }];
      return { ...head, object: "chat.completion", choices, usage: chatUsage(piece.usage) };
    }
    throw new PagelmError("internal", "the generation ended without a reason");
  }

  async *#pieces(params: ChatParams): AsyncGenerator<Exclude<Piece, { kind: "prefill" }>, void, void> {
    const { max_tokens, max_completion_tokens, ...rest } = params;
    const wire = wireParams({ ...rest, max_tokens: max_completion_tokens ?? max_tokens ?? null });
    const variables = params.chat_template_kwargs ?? undefined;
    const prompt = { messages: params.messages.map(plain), ...(variables !== undefined && { variables }) };
    for await (const piece of generate(this.#client, prompt, wire, params.signal)) {
      if (piece.kind === "prefill") params.onPrefill?.({ done: piece.done, total: piece.total });
      else yield piece;
    }
  }
}

type Head = Pick<ChatChunk, "id" | "created" | "model">;

async function* chunks(
  head: Head,
  pieces: AsyncGenerator<Exclude<Piece, { kind: "prefill" }>, void, void>,
  includeUsage: boolean,
): AsyncGenerator<ChatChunk, void, void> {
  const chunk = (delta: ChatChunk["choices"][0]["delta"], finish_reason: FinishReason | null = null): ChatChunk => ({
    ...head,
    object: "chat.completion.chunk",
    choices: [{ index: 0, delta, logprobs: null, finish_reason }],
    ...(includeUsage && { usage: null }),
  });
  yield chunk({ role: "assistant", content: "" });
  for await (const piece of pieces) {
    if (piece.text) yield chunk({ content: piece.text });
    if (piece.kind !== "done") continue;
    yield chunk({}, finishReason(piece.reason));
    if (includeUsage) yield { ...chunk({}), choices: [], usage: chatUsage(piece.usage) };
  }
}

function chatUsage(u: GenerateUsage): ChatUsage {
  return {
    prompt_tokens: u.prompt_tokens,
    completion_tokens: u.completion_tokens,
    total_tokens: u.prompt_tokens + u.completion_tokens,
    prompt_tokens_details: { cached_tokens: u.cached_tokens },
    extra: {
      time_to_first_token_s: u.time_to_first_token_ms / 1000,
      prefill_tokens_per_s: u.prefill_tokens_per_s,
      decode_tokens_per_s: u.decode_tokens_per_s,
    },
  };
}

function finishReason(reason: StopReason): FinishReason {
  return reason === "max-tokens" || reason === "context-full" ? "length" : "stop";
}
