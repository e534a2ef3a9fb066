// OpenAI's chat completions API, over one generation.

import { abortError, PagelmError } from "../shared/errors.ts";
import type { GenerateUsage, Piece, StopReason } from "../shared/types.ts";
import type { Client } from "./client.ts";
import type { ChatChunk, ChatCompletion, ChatParams, ChatUsage, FinishReason, RequestOptions } from "./openai-types.ts";
import { chatParams, generateOf, plain } from "./params.ts";
import { generate, wireParams } from "./stream.ts";

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

  /** With `stream` the chunks as they arrive, else the whole answer. A request waits for those before it. */
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
    const wire = wireParams(generateOf(params));
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
    prompt_tokens: u.promptTokens,
    completion_tokens: u.completionTokens,
    total_tokens: u.promptTokens + u.completionTokens,
    prompt_tokens_details: { cached_tokens: u.cachedTokens },
    extra: {
      time_to_first_token_s: u.timeToFirstTokenMs / 1000,
      prefill_tokens_per_s: u.prefillTokensPerS,
      decode_tokens_per_s: u.decodeTokensPerS,
    },
  };
}

function finishReason(reason: StopReason): FinishReason {
  return reason === "max-tokens" || reason === "context-full" ? "length" : "stop";
}
