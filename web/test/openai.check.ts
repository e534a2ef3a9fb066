// The compiler compares the shapes of OpenAI's API with those of its own package: code that was written for one takes
// what the other gives.
import type OpenAI from "openai";
import type {
  ChatChunk,
  ChatCompletion,
  ChatMessage,
  ChatParams,
  Completion,
  CompletionParams,
  CreateEmbeddingResponse,
  EmbeddingParams,
  Endpoints,
  Response,
  ResponseEvent,
  ResponseParams,
} from "pagelm";

/** Parameters that OpenAI's API does not have. */
type Own =
  | "signal"
  | "onPrefill"
  | "chat_template_kwargs"
  | "grammar"
  | "grammar_type"
  | "reasoning_budget"
  | "continue_final_message"
  | "ignore_eos"
  | "suppress_tokens"
  | "top_k"
  | "min_p"
  | "repeat_penalty"
  | "penalty_last_n";
/** Theirs need the name of a model, and have no null in some places. */
type Sent<P> = { model: string } & { [K in keyof Omit<P, Own | "model">]: P[K] };

/** Theirs are JSON: without images themselves. */
type InJson<T> = T extends Blob | ImageBitmap | ImageData
  ? never
  : T extends object
    ? { [K in keyof T]: InJson<T[K]> }
    : T;
type SentChat = Sent<Omit<ChatParams, "messages">> & { messages: InJson<ChatMessage>[] };

export const given = {
  chat: (params: SentChat): OpenAI.Chat.ChatCompletionCreateParams => params,
  completion: (params: Sent<CompletionParams>): OpenAI.CompletionCreateParams => params,
  embedding: (params: Sent<EmbeddingParams>): OpenAI.EmbeddingCreateParams => params,
};

export const got = {
  chat: (whole: ChatCompletion): OpenAI.ChatCompletion => whole,
  chunk: (chunk: ChatChunk): OpenAI.ChatCompletionChunk => chunk,
  completion: (whole: Completion): OpenAI.Completion => whole,
  embeddings: (whole: CreateEmbeddingResponse): OpenAI.CreateEmbeddingResponse => whole,
};

/** An answer is a message of the next request, and so is what code for OpenAI's package keeps of a conversation in text. */
export const kept = {
  own: ({ choices: [choice] }: ChatCompletion): ChatMessage | undefined => choice?.message,
  theirs: (
    message:
      | OpenAI.ChatCompletionSystemMessageParam
      | OpenAI.ChatCompletionDeveloperMessageParam
      | OpenAI.ChatCompletionToolMessageParam,
  ): ChatMessage => message,
  tools: (tool: OpenAI.ChatCompletionFunctionTool): NonNullable<ChatParams["tools"]>[number] => tool,
};

/** Responses have many more items and events there; of ours all that is said holds. */
export const responses = {
  items: (whole: Response): Pick<OpenAI.Responses.Response, "id" | "object" | "created_at" | "status"> => whole,
  delta: (event: ResponseEvent): Pick<OpenAI.Responses.ResponseTextDeltaEvent, "sequence_number"> => event,
  input: (
    params: Pick<ResponseParams, "instructions" | "max_output_tokens" | "temperature">,
  ): Omit<OpenAI.Responses.ResponseCreateParamsNonStreaming, "model"> => params,
};

/** What `stream` says is what comes. */
export async function streams({ chat }: Endpoints, messages: ChatMessage[], stream: boolean): Promise<void> {
  (await chat.completions.create({ messages })).choices satisfies ChatCompletion["choices"];
  for await (const chunk of await chat.completions.create({ messages, stream: true })) chunk satisfies ChatChunk;
  const either = await chat.completions.create({ messages, stream });
  if ("choices" in either) either satisfies ChatCompletion;
  else either satisfies AsyncGenerator<ChatChunk>;
}
