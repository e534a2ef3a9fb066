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
  oneOf,
  range,
  refuse,
  shown,
  signal,
  string,
  url,
} from "./check.ts";

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
  mmproj: (value, at) => value === true || model(value, at),
  imageRows: integer(1),
  threads: integer(1),
  memoryLimit: integer(0, Number.MAX_SAFE_INTEGER),
  kvType: oneOf(["f32", "f16", "q8_0"]),
  allowUnknown: boolean,
  signal,
  ...SOURCE,
  ...ASSETS,
};

const ENGINE: Fields<EngineOptions> = {
  model,
  tune: boolean,
  recover: boolean,
  share: callback,
  onProgress: callback,
  onRecover: callback,
  ...CAN_RUN,
};

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

/** A snapshot, what the last request left, or nothing yet: a session begins with one of them. */
export type SessionOptions =
  | {
      /** A snapshot, of a session with the same model, backend and type of cache; others are refused (`bad-snapshot`). */
      restore?: Blob | Uint8Array | ReadableStream<Uint8Array>;
      last?: false;
    }
  | {
      restore?: undefined;
      /** With all that the request or generation left in the cache that ended last. */
      last?: boolean;
    };

const SESSION: Fields<SessionOptions> = {
  restore: must("a Blob, a Uint8Array or a ReadableStream", (v) =>
    ["Blob", "File", "Uint8Array", "ReadableStream"].some((name) => isA(name, v)),
  ),
  last: boolean,
};

export const engineOptions = (v: EngineOptions) => given(ENGINE, v, "", ["model"]) as unknown as EngineOptions;
/** Those that are passed to the engine. */
export function modelOptions<T extends Partial<EngineOptions>>({
  model,
  mmproj,
  backend,
  threads,
  tune,
  recover,
  share,
  signal,
  onProgress,
  onRecover,
  wasmUrl,
  wasmBuild,
  workerUrl,
  cache,
  sha256,
  headers,
  hub,
  fetch,
  ...options
}: T) {
  return options;
}
export const testOptions = (v: EngineOptions) =>
  given({ ...ENGINE, kernels: KERNELS }, v, "", ["model"]) as unknown as EngineOptions;
export const canRunOptions = (v: CanRunOptions) => given(CAN_RUN, v) as CanRunOptions;
export const downloadOptions = (v: DownloadOptions) => given(DOWNLOAD, v) as DownloadOptions;
export const assetOptions = (v: AssetOptions) => given(ASSETS, v) as AssetOptions;
export const checkModel = (v: ModelRef) => model(v, "model");
export const embedOptions = (v: EmbedOptions) => given(EMBED, v) as EmbedOptions;
export function sessionOptions(v: SessionOptions): SessionOptions {
  const options = given(SESSION, v);
  if (options.restore && options.last) refuse("last", "cannot be true beside restore; give one of them");
  return options as SessionOptions;
}
export const generateParams = (v: GenerateParams) => given(GENERATE, v) as GenerateParams;

export function checkMessages(v: Message[]): Message[] {
  list("a list of messages", (m, at) => {
    if (!isObject(m)) refuse(at, `must be an object, is ${shown(m)}`);
    string((m as Record<string, unknown>).role, `${at}.role`);
  })(v, "messages");
  return v.map((m) => (m.content === null ? { ...m, content: "" } : m));
}
