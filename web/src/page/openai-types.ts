// The shapes of OpenAI's API, as far as they are supported. What is not part of that API says so.

export interface TextPart {
  type: "text";
  text: string;
}

/** Where an image is: a URL (`data:`, `blob:`, `https:`), or, not part of OpenAI's API, the image itself. */
export type ImageSource = string | Blob | ImageBitmap | ImageData;

/** `low` makes an image smaller first, so that it takes fewer tokens. */
export type ImageDetail = "auto" | "low" | "high";

export interface ImagePart {
  type: "image_url";
  image_url: { url: ImageSource; detail?: ImageDetail };
}

/** A call of a tool: `arguments` is JSON. */
export interface ChatToolCall {
  id: string;
  type: "function";
  function: { name: string; arguments: string };
}

export type ChatMessage =
  /** A developer's message is treated as a system message. */
  | { role: "system" | "developer"; content: string | TextPart[]; name?: string }
  | { role: "user"; content: string | (TextPart | ImagePart)[]; name?: string }
  | {
      role: "assistant";
      content?: string | TextPart[] | null;
      name?: string;
      tool_calls?: ChatToolCall[];
      /** Not part of OpenAI's API: what the model thought, for templates that take it. */
      reasoning_content?: string | null;
      refusal?: string | null;
    }
  | { role: "tool"; content: string | TextPart[]; tool_call_id: string };

export interface ChatTool {
  type: "function";
  function: { name: string; description?: string; parameters?: Record<string, unknown>; strict?: boolean | null };
}

type ToolName = { type: "function"; function: { name: string } };

export type ChatToolChoice =
  | "none"
  | "auto"
  | "required"
  | ToolName
  | { type: "allowed_tools"; allowed_tools: { mode: "auto" | "required"; tools: ToolName[] } };

export interface JsonSchemaFormat {
  name: string;
  description?: string;
  schema?: Record<string, unknown>;
  strict?: boolean | null;
}

export type ReasoningEffort = "none" | "minimal" | "low" | "medium" | "high" | "xhigh";

/** What the page keeps to itself. */
export interface PageParams {
  /** Not part of OpenAI's API: stops the generation, like that of the second argument. */
  signal?: AbortSignal | null;
  /**
   * Not part of OpenAI's API: how many tokens of the prompt are read. Long prompts delay the first token. Before that, with a
   * `phase`, how much of the work on its images is done, in numbers of another kind.
   */
  onPrefill?: (progress: { done: number; total: number; phase?: "image" }) => void;
}

/** How tokens are chosen. Some names are not part of OpenAI's API; see `SamplingParams`. */
export interface ChatSampling {
  temperature?: number | null;
  top_p?: number | null;
  top_k?: number | null;
  min_p?: number | null;
  repeat_penalty?: number | null;
  presence_penalty?: number | null;
  frequency_penalty?: number | null;
  penalty_last_n?: number | null;
  seed?: number | null;
  logit_bias?: Record<string, number> | null;
  suppress_tokens?: number[] | null;
}

/** What an answer must be, beside the formats of OpenAI's API: not part of it. */
export interface GrammarParams {
  /** In llama.cpp's notation, unless `grammar_type` says what else it is. */
  grammar?: string | null;
  grammar_type?: "gbnf" | "regex" | "json_schema";
}

/** Notes to OpenAI's servers: accepted, without effect. */
export interface ServerNotes {
  metadata?: Record<string, string> | null;
  user?: string;
  safety_identifier?: string;
  prompt_cache_key?: string;
  store?: false | null;
  service_tier?: "auto" | "default" | null;
}

interface Streamed {
  stream?: boolean | null;
  /** Only with `stream`. */
  stream_options?: { include_usage?: boolean; include_obfuscation?: false } | null;
}

export interface ChatParams extends PageParams, ChatSampling, GrammarParams, ServerNotes, Streamed {
  messages: ChatMessage[];
  /** Only copied to the answer. */
  model?: string;
  max_tokens?: number | null;
  max_completion_tokens?: number | null;
  /** How many answers; the prompt is read once. Answer `i` has the seed `seed + i`. */
  n?: number | null;
  stop?: string | string[] | null;
  logprobs?: boolean | null;
  /** At most 20. */
  top_logprobs?: number | null;
  tools?: ChatTool[];
  tool_choice?: ChatToolChoice;
  parallel_tool_calls?: boolean;
  response_format?: { type: "text" } | { type: "json_object" } | { type: "json_schema"; json_schema: JsonSchemaFormat };
  reasoning_effort?: ReasoningEffort | null;
  /** Not part of OpenAI's API: the most tokens of reasoning. Then its end is written in the model's place. */
  reasoning_budget?: number | null;
  /** Not part of OpenAI's API: variables of the model's chat template, such as `{ enable_thinking: false }`. */
  chat_template_kwargs?: Record<string, unknown> | null;
  /** Not part of OpenAI's API: goes on with the last message, which is one of the assistant. */
  continue_final_message?: boolean | null;
  /** Not part of OpenAI's API. */
  ignore_eos?: boolean | null;
}

/** The second argument, as in OpenAI's package. */
export interface RequestOptions {
  signal?: AbortSignal | null;
  /**
   * The time and the random numbers of a stream, and what it has done: grows before its pieces come. With what there was of it
   * the same request goes on, with pieces that were not there yet.
   * @internal
   */
  journal?: { given: number[]; replay: number[] };
}

/** Not part of OpenAI's API. Of all answers together. */
export interface ExtraUsage {
  time_to_first_token_s: number;
  prefill_tokens_per_s: number;
  decode_tokens_per_s: number;
  drafted_tokens: number;
  accepted_tokens: number;
}

/** Of all answers: their prompt counts once. */
export interface ChatUsage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
  completion_tokens_details: { reasoning_tokens: number };
  extra: ExtraUsage;
}

export type FinishReason = "stop" | "length" | "tool_calls";

export interface TokenLogprob {
  token: string;
  bytes: number[] | null;
  logprob: number;
  top_logprobs: { token: string; bytes: number[] | null; logprob: number }[];
}

export interface ChatLogprobs {
  content: TokenLogprob[] | null;
  refusal: null;
}

export interface ChatChunk {
  id: string;
  object: "chat.completion.chunk";
  created: number;
  model: string;
  choices: {
    index: number;
    delta: {
      role?: "assistant";
      content?: string;
      /** Not part of OpenAI's API: what the model thinks. */
      reasoning_content?: string;
      /** The first of each call has its `id`, `type` and name; the arguments of all are one text. */
      tool_calls?: {
        index: number;
        id?: string;
        type?: "function";
        function?: { name?: string; arguments?: string };
      }[];
    };
    logprobs: ChatLogprobs | null;
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
    message: {
      role: "assistant";
      content: string | null;
      refusal: null;
      /** Not part of OpenAI's API: what the model thought. */
      reasoning_content?: string;
      tool_calls?: ChatToolCall[];
    };
    logprobs: ChatLogprobs | null;
    finish_reason: FinishReason;
  }[];
  usage: ChatUsage;
}

/** A text that is gone on with as it is. Names of control tokens in it are those tokens. */
export interface CompletionParams extends PageParams, ChatSampling, GrammarParams, Streamed {
  prompt: string | string[] | number[] | number[][];
  model?: string;
  /** What comes after the text that is wanted, for models that fill in. */
  suffix?: string | null;
  /** 16 by default. */
  max_tokens?: number | null;
  n?: number | null;
  best_of?: number | null;
  echo?: boolean | null;
  /** So many of the likeliest tokens: at most 20. */
  logprobs?: number | null;
  stop?: string | string[] | null;
  ignore_eos?: boolean | null;
  user?: string;
}

export interface Completion {
  id: string;
  object: "text_completion";
  created: number;
  model: string;
  choices: {
    index: number;
    text: string;
    logprobs: {
      tokens: string[];
      token_logprobs: number[];
      top_logprobs: Record<string, number>[];
      text_offset: number[];
    } | null;
    finish_reason: "stop" | "length";
  }[];
  usage?: ChatUsage;
}

export interface EmbeddingParams extends PageParams {
  input: string | string[] | number[] | number[][];
  model?: string;
  dimensions?: number;
  encoding_format?: "float" | "base64";
  user?: string;
}

export interface CreateEmbeddingResponse {
  object: "list";
  /** With `encoding_format: "base64"` a string of little-endian floats. */
  data: { object: "embedding"; index: number; embedding: number[] }[];
  model: string;
  usage: { prompt_tokens: number; total_tokens: number };
}

export interface ResponseParams extends PageParams, ChatSampling, GrammarParams, ServerNotes, Streamed {
  /** A text, or messages, calls and their results. Nothing is stored: a conversation is sent as a whole. */
  input: string | Record<string, unknown>[];
  model?: string;
  instructions?: string | null;
  max_output_tokens?: number | null;
  stop?: string | string[] | null;
  include?: string[] | null;
  top_logprobs?: number | null;
  text?: {
    format?: { type: "text" } | { type: "json_object" } | ({ type: "json_schema" } & JsonSchemaFormat);
    verbosity?: "medium" | null;
  };
  tools?: ({ type: "function" } & ChatTool["function"])[];
  tool_choice?:
    | "none"
    | "auto"
    | "required"
    | { type: "function"; name: string }
    | { type: "allowed_tools"; mode: "auto" | "required"; tools: { type: "function"; name: string }[] };
  parallel_tool_calls?: boolean | null;
  reasoning?: { effort?: ReasoningEffort | null } | null;
  /** Not part of OpenAI's API, like that of chat completions. */
  reasoning_budget?: number | null;
  chat_template_kwargs?: Record<string, unknown> | null;
}

export type ResponseItem =
  | { id: string; type: "reasoning"; summary: []; content: { type: "reasoning_text"; text: string }[] }
  | {
      id: string;
      type: "message";
      role: "assistant";
      status: "in_progress" | "completed" | "incomplete";
      content: { type: "output_text"; text: string; annotations: []; logprobs: TokenLogprob[] }[];
    }
  | {
      id: string;
      type: "function_call";
      status: "in_progress" | "completed" | "incomplete";
      call_id: string;
      name: string;
      arguments: string;
    };

export interface Response {
  id: string;
  object: "response";
  created_at: number;
  model: string;
  status: "in_progress" | "completed" | "incomplete" | "failed";
  incomplete_details: { reason: "max_output_tokens" } | null;
  output: ResponseItem[];
  usage: {
    input_tokens: number;
    input_tokens_details: { cached_tokens: number };
    output_tokens: number;
    output_tokens_details: { reasoning_tokens: number };
    total_tokens: number;
    extra: ExtraUsage;
  } | null;
}

/** Deltas have a `delta`, the events of whole items an `item`, those of the response itself a `response`. */
export interface ResponseEvent {
  type: `response.${string}`;
  sequence_number: number;
  output_index?: number;
  item_id?: string;
  delta?: string;
  text?: string;
  arguments?: string;
  item?: ResponseItem;
  response?: Response;
}
