// The shapes of OpenAI's chat completions, as far as they are supported.

export interface ChatMessage {
  /** A developer's message is treated as a system message. */
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

/** Names as in OpenAI's API, and some that it lacks; see `SamplingParams`. */
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
}

/**
 * Parameters of OpenAI's API for which only one value is supported, and notes to its servers: code that sends them
 * works, and any other value is refused.
 */
export interface OpenAIDefaults {
  tools?: never[] | null;
  tool_choice?: "none" | "auto" | null;
  parallel_tool_calls?: boolean | null;
  functions?: never[] | null;
  function_call?: "none" | "auto" | null;
  response_format?: { type: "text" } | null;
  logprobs?: false | null;
  top_logprobs?: 0 | null;
  modalities?: ["text"] | null;
  audio?: null;
  prediction?: null;
  reasoning_effort?: null;
  verbosity?: "medium" | null;
  web_search_options?: null;
  service_tier?: "auto" | "default" | null;
  store?: false | null;
  metadata?: Record<string, string> | null;
  user?: string | null;
  safety_identifier?: string | null;
  prompt_cache_key?: string | null;
}

export interface ChatParams extends ChatSampling, OpenAIDefaults {
  messages: ChatMessage[];
  /** Only copied to the answer. */
  model?: string;
  stream?: boolean | null;
  /** Only with `stream`. */
  stream_options?: { include_usage?: boolean | null; include_obfuscation?: false | null } | null;
  max_tokens?: number | null;
  max_completion_tokens?: number | null;
  /** How many answers; the prompt is read once. Answer `i` has the seed `seed + i`. */
  n?: number | null;
  stop?: string | string[] | null;
  /** Not part of OpenAI's API: variables of the model's chat template, such as `{ enable_thinking: false }`. */
  chat_template_kwargs?: Record<string, unknown> | null;
  /** Not part of OpenAI's API: stops the generation, like that of the second argument. */
  signal?: AbortSignal | null;
  /** Not part of OpenAI's API: how much of the prompt is read. Long prompts delay the first token. */
  onPrefill?: (progress: { done: number; total: number }) => void;
}

/** The second argument, as in OpenAI's package. */
export interface RequestOptions {
  signal?: AbortSignal | null;
}

/** Of all answers: their prompt counts once. */
export interface ChatUsage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
  /** Not part of OpenAI's API. */
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
