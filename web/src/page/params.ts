// The parameters of each call: one table per call, with a check for each name.

import type {
  AssetOptions,
  CanRunOptions,
  DownloadOptions,
  EmbedOptions,
  EngineOptions,
  GenerateParams,
  Message,
  ModelRef,
  SamplingParams,
  SourceOptions,
} from "../shared/types.ts";
import {
  address,
  boolean,
  type Check,
  callback,
  type Fields,
  given,
  integer,
  isA,
  isInteger,
  isObject,
  list,
  must,
  number,
  object,
  oneOf,
  range,
  refuse,
  shown,
  signal,
  string,
  url,
} from "./check.ts";
import type { ChatMessage, ChatParams, ChatSampling, OpenAIDefaults, RequestOptions } from "./openai-types.ts";

/** A model, before anything is fetched. URLs are those that a page can fetch. */
const model: Check = (value, at) => {
  if (Array.isArray(value)) return list("a list of all parts", file)(value, at);
  if (!isFolder(value)) file(value, at);
};

const file: Check = (value, at) => {
  if (isBlob(value)) return;
  const found = address(value);
  if (!found)
    refuse(at, `must be a URL, a File or Blob, a list of them or a folder, is ${shown(value)}${instead(value)}`);
  const { protocol, username, password } = found as URL;
  if (username || password) refuse(at, "must not have a user name or password; browsers do not fetch such URLs");
  const fetched = ["http:", "https:", "hf:", "blob:", "data:", globalThis.location?.protocol];
  if (fetched.includes(protocol) || protocol.endsWith("-extension:")) return;
  refuse(at, `is ${shown(String(value))}, and pages cannot fetch from ${protocol}; give an https address`);
};

/** What to give instead of values that can be mistaken for a model. */
function instead(value: unknown): string {
  if (isA("ArrayBuffer", value) || ArrayBuffer.isView(value)) return "; wrap it: new Blob([bytes])";
  return isA("Response", value) ? "; give its address, or await response.blob()" : "";
}

export const isBlob = (v: unknown): v is Blob => isA("Blob", v) || isA("File", v);
export const isFolder = (v: unknown): v is FileSystemDirectoryHandle => isA("FileSystemDirectoryHandle", v);

const ASSETS: Fields<AssetOptions> = {
  wasmUrl: url,
  wasmBuild: oneOf(["base", "relaxed", "threads", "threads-relaxed"]),
  workerUrl: must("a URL or a TrustedScriptURL", (v) => isA("TrustedScriptURL", v) || address(v) !== undefined),
};

const SOURCE: Fields<SourceOptions> = {
  cache: boolean,
  sha256: must("64 hexadecimal digits", (v) => /^[0-9a-f]{64}$/i.test(String(v))),
  headers: must("an object of strings", (v) => isObject(v) && Object.values(v).every((s) => typeof s === "string")),
  hub: url,
  fetch: callback,
};

/** A step has a row for each. */
const SEQUENCES = integer(1, 8);

/** What decides whether a model can run, and how. */
const CAN_RUN: Fields<CanRunOptions> = {
  backend: oneOf(["auto", "webgpu", "cpu", "reference"]),
  contextLength: integer(1),
  activations: oneOf(["q8", "f32"]),
  mtp: boolean,
  embeddings: boolean,
  cacheTokens: integer(1),
  sequences: SEQUENCES,
  drafts: integer(0, 7),
  draftVocab: integer(1),
  memoryLimit: integer(0, Number.MAX_SAFE_INTEGER),
  kvType: oneOf(["f32", "f16", "q8_0"]),
  allowUnknown: boolean,
  signal,
  ...SOURCE,
  ...ASSETS,
};

const ENGINE: Fields<EngineOptions> = { model, threads: integer(1), tune: boolean, onProgress: callback, ...CAN_RUN };

const DOWNLOAD: Fields<DownloadOptions> = (({ cache, ...source }) => ({
  signal,
  onProgress: callback,
  ...source,
  ...ASSETS,
}))(SOURCE);

const KERNELS = oneOf(["hardware", "software"]);

const logitBias: Check = (value, at) => {
  if (!isObject(value)) refuse(at, `must be an object of token ids and numbers, is ${shown(value)}`);
  for (const [id, bias] of Object.entries(value as object)) {
    if (!/^\d+$/.test(id) || !isInteger(Number(id))) refuse(at, `must have token ids as names, has ${shown(id)}`);
    range(-100, 100)(bias, `${at}[${id}]`);
  }
};

const SAMPLING: Fields<SamplingParams> = {
  temperature: range(0),
  topP: range(0, 1),
  topK: integer(0),
  minP: range(0, 1),
  repeatPenalty: number("a number above 0", (n) => n > 0),
  presencePenalty: number("a finite number"),
  frequencyPenalty: number("a finite number"),
  penaltyLastN: integer(0),
  seed: integer(0, Number.MAX_SAFE_INTEGER, "without one it is drawn"),
  logitBias,
};

/** OpenAI's name of each parameter. */
const CHAT_NAMES = {
  temperature: "temperature",
  topP: "top_p",
  topK: "top_k",
  minP: "min_p",
  repeatPenalty: "repeat_penalty",
  presencePenalty: "presence_penalty",
  frequencyPenalty: "frequency_penalty",
  penaltyLastN: "penalty_last_n",
  seed: "seed",
  logitBias: "logit_bias",
} as const satisfies Record<keyof SamplingParams, keyof ChatSampling>;

const renamed = Object.entries(CHAT_NAMES) as [keyof SamplingParams, keyof ChatSampling][];
const CHAT_SAMPLING = Object.fromEntries(
  renamed.map(([ours, theirs]) => [theirs, SAMPLING[ours]]),
) as Fields<ChatSampling>;

const empty = (why: string): Check => must("an empty list", (v) => Array.isArray(v) && v.length === 0, why);
const NO_TOOLS = "tools are not supported yet";
const NO_LOGPROBS = "log probabilities are not given yet";

/** Parameters of OpenAI for which only one value is supported, or that are notes to its servers. */
const DEFAULTS: Fields<OpenAIDefaults> = {
  tools: empty(NO_TOOLS),
  tool_choice: oneOf(["none", "auto"], NO_TOOLS),
  parallel_tool_calls: boolean,
  functions: empty(NO_TOOLS),
  function_call: oneOf(["none", "auto"], NO_TOOLS),
  response_format: must(
    '{"type":"text"}',
    (v) => isObject(v) && v.type === "text" && Object.keys(v).length === 1,
    "structured output is not supported yet",
  ),
  logprobs: oneOf([false], NO_LOGPROBS),
  top_logprobs: oneOf([0], NO_LOGPROBS),
  modalities: must('["text"]', (v) => Array.isArray(v) && v.length === 1 && v[0] === "text", "it is not supported yet"),
  audio: oneOf([null], "it is not supported yet"),
  prediction: oneOf([null], "it is not supported yet"),
  reasoning_effort: oneOf([null], "it is not supported yet"),
  verbosity: oneOf(["medium"], "it is not supported yet"),
  web_search_options: oneOf([null], "nothing leaves the page"),
  service_tier: oneOf(["auto", "default"], "nothing leaves the page"),
  store: oneOf([false], "nothing leaves the page"),
  metadata: must("an object", isObject),
  user: string,
  safety_identifier: string,
  prompt_cache_key: string,
};

const MOST_STOPS = 64;
const isStop = (v: unknown) => typeof v === "string" && v !== "";
const stop = must(
  `a string or a list of at most ${MOST_STOPS} strings, none of them empty`,
  (v) => isStop(v) || (Array.isArray(v) && v.length <= MOST_STOPS && v.every(isStop)),
);

const GENERATE: Fields<GenerateParams> = {
  maxTokens: integer(0),
  stop,
  ...SAMPLING,
  ignoreEos: boolean,
  // The engine looks into these.
  speculate: must("an object", isObject),
  grammar: () => {},
  logprobs: integer(0, 20),
  signal,
};

const EMBED: Fields<EmbedOptions> = {
  pooling: oneOf(["none", "mean", "cls", "last"]),
  normalize: boolean,
  dimensions: integer(1),
  signal,
};

export interface SessionOptions {
  /** A snapshot, of a session with the same model, backend and type of cache; others are refused (`bad-snapshot`). */
  restore?: Blob | Uint8Array | ReadableStream<Uint8Array>;
}

const SESSION: Fields<SessionOptions> = {
  restore: must("a Blob, a Uint8Array or a ReadableStream", (v) =>
    ["Blob", "File", "Uint8Array", "ReadableStream"].some((name) => isA(name, v)),
  ),
};

const ROLES = ["system", "developer", "user", "assistant", "tool"];

const part: Check = (value, at) => {
  if (isObject(value)) oneOf(["text"], "models read text only")(value.type, `${at}.type`);
  object({ type: string, text: string }, ["type", "text"])(value, at);
};

/** Answers of OpenAI's API have some fields that are empty here; they can be sent back unchanged. */
const MESSAGE: Fields<ChatMessage> = {
  role: oneOf(ROLES),
  content: (value, at) => {
    if (typeof value === "string" || value === null) return;
    if (!Array.isArray(value)) refuse(at, `must be a string, a list of parts or null, is ${shown(value)}`);
    list("a list of parts", part)(value, at);
  },
  name: string,
  tool_call_id: string,
  tool_calls: empty(NO_TOOLS),
  function_call: oneOf([null], NO_TOOLS),
  refusal: oneOf([null], "models read text only"),
  annotations: empty("models read text only"),
  audio: oneOf([null], "models read text only"),
};

const CHAT: Fields<ChatParams> = {
  messages: list("a list of messages", object(MESSAGE, ["role", "content"])),
  model: string,
  stream: boolean,
  stream_options: object({ include_usage: boolean, include_obfuscation: oneOf([false], "nothing leaves the page") }),
  max_tokens: integer(0),
  max_completion_tokens: integer(0),
  stop,
  n: integer(1, 128),
  ...CHAT_SAMPLING,
  signal,
  onPrefill: callback,
  chat_template_kwargs: must("an object", isObject),
  ...DEFAULTS,
};

export const engineOptions = (v: EngineOptions) => given(ENGINE, v, "", ["model"]) as unknown as EngineOptions;
export const testOptions = (v: EngineOptions) =>
  given({ ...ENGINE, kernels: KERNELS }, v, "", ["model"]) as unknown as EngineOptions;
export const canRunOptions = (v: CanRunOptions) => given(CAN_RUN, v) as CanRunOptions;
export const downloadOptions = (v: DownloadOptions) => given(DOWNLOAD, v) as DownloadOptions;
export const assetOptions = (v: AssetOptions) => given(ASSETS, v) as AssetOptions;
export const checkModel = (v: ModelRef) => model(v, "model");
export const embedOptions = (v: EmbedOptions) => given(EMBED, v) as EmbedOptions;
export const sessionOptions = (v: SessionOptions) => given(SESSION, v) as SessionOptions;
export const generateParams = (v: GenerateParams) => given(GENERATE, v) as GenerateParams;

export function chatParams(v: ChatParams, options: RequestOptions = {}): ChatParams {
  const p = given(CHAT, v, "", ["messages"]) as unknown as ChatParams;
  const { signal: second } = given({ signal } satisfies Fields<RequestOptions>, options, "options") as RequestOptions;
  if (p.stream_options && !p.stream) refuse("stream_options", "can only be given with stream: true");
  const { max_tokens: a, max_completion_tokens: b } = p;
  if (a != null && b != null && a !== b) {
    refuse("max_completion_tokens", `is ${b} and max_tokens is ${a}; give one of them`);
  }
  const signals = [p.signal, second].filter((s) => s != null);
  const both = signals.length === 2 ? AbortSignal.any(signals) : signals[0];
  return both ? { ...p, signal: both } : p;
}

/** The parameters of a generation under the package's own names. */
export function generateOf(p: ChatParams): GenerateParams {
  const sampling = renamed.map(([ours, theirs]) => [ours, p[theirs]]);
  const { stop = null, max_completion_tokens, max_tokens = null } = p;
  return { ...Object.fromEntries(sampling), stop, maxTokens: max_completion_tokens ?? max_tokens };
}

/** Templates take text, have no developer role, and would print null as a word. */
export function plain({ role, content, ...rest }: ChatMessage): Message {
  const text = Array.isArray(content) ? content.map((p) => p.text).join("") : (content ?? "");
  const labels = Object.entries(rest).filter(([name, v]) => typeof v === "string" && name !== "refusal");
  return { role: role === "developer" ? "system" : role, content: text, ...Object.fromEntries(labels) };
}

export function checkMessages(v: Message[]): Message[] {
  list("a list of messages", (m, at) => {
    if (!isObject(m)) refuse(at, `must be an object, is ${shown(m)}`);
    string((m as Record<string, unknown>).role, `${at}.role`);
  })(v, "messages");
  return v.map((m) => (m.content === null ? { ...m, content: "" } : m));
}
