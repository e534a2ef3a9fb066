// OpenAI's chat completions API, over one generation or several.

import { abortError, PagelmError } from "../shared/errors.ts";
import type { GenerateUsage, Piece, StopReason } from "../shared/types.ts";
import type { Client } from "./client.ts";
import type { ChatChunk, ChatCompletion, ChatParams, ChatUsage, FinishReason, RequestOptions } from "./openai-types.ts";
import { chatParams, generateOf, plain } from "./params.ts";
import { generateAll, wireParams } from "./stream.ts";

export class Completions {
  #client: Client;
  #model: string;

  private constructor(client: Client, model: string) {
    this.#client = client;
    this.#model = model;
  }

  /** @internal */
  static over(client: Client, model: string): Completions {
    return new Completions(client, model);
  }

  /** With `stream` the chunks as they arrive, else the whole answer. Requests run side by side. */
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
    // A stream starts when it is read; errors in the arguments are thrown here.
    if (this.#client.ended) throw this.#client.ended;
    if (params.signal?.aborted) throw abortError(params.signal);
    const head = {
      id: `chatcmpl-${crypto.randomUUID()}`,
      created: Math.floor(Date.now() / 1000),
      model: params.model ?? this.#model,
    };
    const n = params.n ?? 1;
    const pieces = this.#pieces(params, n);
    if (params.stream) return chunks(head, pieces, n, params.stream_options?.include_usage ?? false);
    const texts: string[] = Array(n).fill("");
    const choices: ChatCompletion["choices"] = [];
    const usages: GenerateUsage[] = [];
    for await (const [index, piece] of pieces) {
      texts[index] += piece.text;
      if (piece.kind !== "done") continue;
      const message = { role: "assistant" as const, content: texts[index]!, refusal: null };
      choices[index] = { index, message, logprobs: null, finish_reason: finishReason(piece.reason) };
      usages[index] = piece.usage;
    }
    return { ...head, object: "chat.completion", choices, usage: chatUsage(usages) };
  }

  async *#pieces(params: ChatParams, n: number): AnswerPieces {
    const { sampler, ...wire } = wireParams(generateOf(params));
    const chat = { messages: params.messages.map(plain), variables: params.chat_template_kwargs ?? undefined };
    const all = Array.from({ length: n }, (_, i) => ({ ...wire, sampler: { ...sampler, seed: sampler.seed! + i } }));
    for await (const [index, piece] of generateAll(this.#client, { chat }, all, params.signal)) {
      if (piece.kind !== "prefill") yield [index, piece];
      else if (index === 0) params.onPrefill?.({ done: piece.done, total: piece.total });
    }
  }
}

type Head = Pick<ChatChunk, "id" | "created" | "model">;
type AnswerPieces = AsyncGenerator<[index: number, piece: Exclude<Piece, { kind: "prefill" }>], void, void>;

async function* chunks(
  head: Head,
  pieces: AnswerPieces,
  n: number,
  includeUsage: boolean,
): AsyncGenerator<ChatChunk, void, void> {
  const chunk = (choices: ChatChunk["choices"]): ChatChunk => ({
    ...head,
    object: "chat.completion.chunk",
    choices,
    ...(includeUsage && { usage: null }),
  });
  const choice = (
    index: number,
    delta: ChatChunk["choices"][0]["delta"],
    finish_reason: FinishReason | null = null,
  ): ChatChunk => chunk([{ index, delta, logprobs: null, finish_reason }]);
  for (let i = 0; i < n; i++) yield choice(i, { role: "assistant", content: "" });
  const usages: GenerateUsage[] = [];
  for await (const [index, piece] of pieces) {
    if (piece.text) yield choice(index, { content: piece.text });
    if (piece.kind !== "done") continue;
    yield choice(index, {}, finishReason(piece.reason));
    usages[index] = piece.usage;
  }
  if (includeUsage) yield { ...chunk([]), usage: chatUsage(usages) };
}

function chatUsage(usages: GenerateUsage[]): ChatUsage {
  const sum = (of: (u: GenerateUsage) => number) => usages.reduce((n, u) => n + of(u), 0);
  const [first] = usages;
  if (!first) throw new PagelmError("internal", "the generation ended without a reason");
  const completion = sum((u) => u.completionTokens);
  return {
    prompt_tokens: first.promptTokens,
    completion_tokens: completion,
    total_tokens: first.promptTokens + completion,
    prompt_tokens_details: { cached_tokens: first.cachedTokens },
    extra: {
      time_to_first_token_s: first.timeToFirstTokenMs / 1000,
      prefill_tokens_per_s: first.prefillTokensPerS,
      decode_tokens_per_s: sum((u) => u.decodeTokensPerS),
    },
  };
}

function finishReason(reason: StopReason): FinishReason {
  return reason === "max-tokens" || reason === "context-full" ? "length" : "stop";
}
