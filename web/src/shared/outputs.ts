// What a generation is asked for and says, and embeddings.

/**
 * How tokens are chosen. Parameters that are left out or null are as the file recommends (`info.model.sampling`), else
 * they leave the model's own distribution unchanged.
 */
export interface SamplingParams {
  /** 0 always takes the most likely token. */
  temperature?: number | null;
  /** Sample from the k most likely tokens; 0 is off. */
  topK?: number | null;
  /** Sample from the most likely tokens whose probabilities add up to p; 1 is off. */
  topP?: number | null;
  /** Sample from tokens at least this fraction as likely as the most likely one; 0 is off. */
  minP?: number | null;
  /** 1 is off. */
  repeatPenalty?: number | null;
  presencePenalty?: number | null;
  frequencyPenalty?: number | null;
  /** How many of the last tokens the penalties count. */
  penaltyLastN?: number | null;
  /** From 0 up; the same seed gives the same answer. By default it is random. */
  seed?: number | null;
  /** Token id to the value that is added to its logit, -100 to 100. */
  logitBias?: Record<string, number> | null;
}

/** Speculative decoding: how tokens come faster, never which. */
export interface SpeculateParams {
  /** `lookup` proposes what followed the last tokens before, `mtp` what the model's own block predicts. */
  proposer: "lookup" | "mtp";
  /** The most tokens of a proposal, at most the engine's `drafts`, which is the default. */
  maxDraft?: number;
}

/** Any JSON object, JSON that a schema allows, text that a regular expression matches as a whole, or Lark's notation. */
export type Grammar = "jsonObject" | { jsonSchema: object | string } | { regex: string } | { lark: string };

export interface GenerateParams extends SamplingParams {
  maxTokens?: number | null;
  /** Strings that end the answer; they are not part of it. One that names a control token ends it at that token. */
  stop?: string | string[] | null;
  /** Continues after tokens that end the sequence. */
  ignoreEos?: boolean | null;
  /** The engine must have been made with `drafts`. */
  speculate?: SpeculateParams | null;
  /** Reports how likely each token was, and so many of the likeliest ones: at most 20. */
  logprobs?: number | null;
  /** What the answer must be, unless it is cut. What cannot be met is refused (`bad-grammar`). */
  grammar?: Grammar | null;
  signal?: AbortSignal | null;
}

/** What speculative decoding did. */
export interface Speculated {
  /** Tokens that were proposed. */
  drafted: number;
  /** Those that were right. */
  accepted: number;
  /** Steps that made tokens. */
  steps: number;
}

/** Counts and rates of one generation. A rate is 0 if there is not enough to measure. */
export interface GenerateUsage {
  promptTokens: number;
  /** Tokens of the prompt that were already in the cache. */
  cachedTokens: number;
  completionTokens: number;
  timeToFirstTokenMs: number;
  prefillTokensPerS: number;
  decodeTokensPerS: number;
  /** Zeros without `speculate`. */
  speculated: Speculated;
}

/** Why a generation ended. `context-full` means that the text may be cut. */
export type StopReason = "end-of-sequence" | "stop-string" | "max-tokens" | "context-full";

/**
 * How the rows of a text's tokens become one vector; with `none` each token has its own, one after another. `rank` is of models that
 * rank, and makes probabilities of classes.
 */
export type Pooling = "none" | "mean" | "cls" | "last" | "rank";

/** What is made of a text. */
export interface EmbedParams {
  /** By default as the file says; else the last token's row. */
  pooling?: Pooling | null;
  /** Gives vectors a length of 1, so that a dot product is the cosine; true by default. */
  normalize?: boolean;
  /** Keeps the first so many values, for models that were trained for it. */
  dimensions?: number | null;
}

/** A text, or its token ids. */
export type EmbedInput = string | ArrayLike<number>;

export interface EmbedOptions extends EmbedParams {
  signal?: AbortSignal | null;
}

export interface Embeddings {
  /** In the order of the texts. */
  embeddings: Float32Array[];
  /** Of all texts together. */
  tokens: number;
}

/** How likely a token was: natural logarithms of probabilities of the model's own distribution, before any sampling. */
export interface Logprobs {
  logprob: number;
  /** The likeliest tokens with theirs, the likeliest first. */
  top: [token: number, logprob: number][];
}

/** A piece of a generation. `text` may be empty: characters can need several tokens. */
export type Piece =
  | { kind: "prefill"; done: number; total: number }
  | { kind: "token"; id: number; text: string; logprobs?: Logprobs | null }
  | { kind: "done"; text: string; reason: StopReason; usage: GenerateUsage };
