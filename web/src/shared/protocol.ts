// The messages between page and worker. Every request settles exactly once, with `done` or `error`; before that, a
// generation sends pieces while it has credit. `credit` and `abort` are notes about another request and get no answer.
//
// What generates goes on in another worker if its own is lost: the page sends the request again, with all that the journal
// of its pieces said. What these brought is not sent again.
import type { ErrorData } from "./errors.ts";
import type {
  BackendFit,
  BackendName,
  Embeddings,
  EmbedParams,
  EngineInfo,
  EngineStats,
  Grammar,
  LoadProgress,
  LoadSource,
  Message,
  ModelInfo,
  ModelOptions,
  Piece,
  Profile,
  SamplingParams,
  SpeculateParams,
  StoredModel,
  WasmBuild,
} from "./types.ts";

/** Parameters in the engine's form. */
export interface WireParams {
  maxTokens?: number;
  sampler: WireSampler;
  stop?: string[];
  show?: string[];
  ignoreEos?: boolean;
  speculate?: SpeculateParams;
  logprobs?: number;
  grammar?: Grammar;
  reasoning?: { open: string; close: string; tokens: number };
}

export type WireSampler = { [K in keyof Omit<SamplingParams, "logitBias">]?: NonNullable<SamplingParams[K]> } & {
  logitBias?: [token: number, bias: number][];
};

/** A conversation, and the other inputs of its template. */
export interface Chat {
  messages: Message[];
  tools?: unknown[] | undefined;
  variables?: Record<string, unknown> | undefined;
}

export type Prompt = { text: string } | { ids: Uint32Array };

/** What comes of a request of OpenAI's API: how much of the prompt is read, and the response, which starts with its head. */
export type ApiPiece =
  | (Extract<Piece, { kind: "prefill" }> & { phase?: "image" })
  | ResponseHead
  | { kind: "body"; text: string };

export interface ResponseHead {
  kind: "head";
  status: number;
  /** Whether the body is a stream of events, of which each piece has one. */
  stream: boolean;
  /** Names of parameters that were left out; empty if there are none. */
  unknown: string;
}

/** Which module to load, from where, and for how many threads. */
export interface WasmOptions {
  /** The first that loads is used. */
  builds: WasmBuild[];
  /** By default that of the worker's script. */
  folder: string | undefined;
  threads: number;
  /** Why the page can have only one, if so. */
  whyOneThread: string | null;
  /** Nonzero once the page abandons the engine, if it can share memory. */
  stop: Int32Array | undefined;
}

/** Options that are passed to the engine. */
export interface WireOptions extends ModelOptions {
  /** That of the model in answers. */
  name?: string;
  /** The adapters that WebGPU's kernels are for, in tests; by default chosen by the adapter. */
  kernels?: "hardware" | "software";
}

/** A URL or a shorthand of a hub, a file, all parts of a split model, or the folder that has them. */
export type WireModel = string | Blob | (string | Blob)[] | FileSystemDirectoryHandle;

/** An image that is no URL. */
export type Attached = Blob | ImageBitmap | ImageData;

/** How the files of a model are got. */
export interface WireSource {
  cache: boolean;
  sha256?: string;
  headers?: Record<string, string>;
  hub?: string;
  /** Whether the page has a fetch function of its own for them. */
  fetch?: true;
}

/** What runs for a while, and can go on in another worker. */
interface Resumable {
  /** How many pieces the page still takes. */
  credit: number;
  /** What the run has done in workers that are lost. */
  replay: number[];
}

export interface TokenizeOptions {
  addSpecial: boolean;
  parseSpecial: boolean;
}

/** Each operation: its input, its result, and the events before that. */
export interface Operations {
  load: {
    in: {
      model: WireModel;
      /** The file of the part that sees. */
      mmproj?: WireModel | undefined;
      source: WireSource;
      wasm: WasmOptions;
      backend: "auto" | BackendName;
      tune: boolean;
      options: WireOptions;
      /** The lock that the worker holds as long as it lives; its threads hold those that begin with it. */
      life: string;
    };
    out: EngineInfo;
    piece: LoadProgress;
  };
  /** Holds the lock of this name, or with an empty one none. */
  life: { in: { life: string }; out: undefined; piece: never };
  inspect: {
    in: {
      model: WireModel;
      /** The file of the part that sees. */
      mmproj?: WireModel | undefined;
      source: WireSource;
      wasm: WasmOptions;
      backend: "auto" | BackendName;
      options: WireOptions;
    };
    /** The first of the backends is the one that would run. */
    out: { info: ModelInfo; size: number | null; stored: boolean; backends: BackendFit[] };
    piece: never;
  };
  /** Completes what is stored of a model, from its server or from `files`; `verify` reads all of it and makes the sums. */
  download: {
    in: { model: string; source: WireSource; wasm: WasmOptions; verify: boolean; files?: Blob[] };
    out: { source: LoadSource; sha256: (string | null)[] };
    piece: LoadProgress;
  };
  storedModels: { in: object; out: StoredModel[]; piece: never };
  removeModel: { in: { model: string }; out: number; piece: never };
  modelFiles: { in: { model: string }; out: File[]; piece: never };
  generate: { in: { prompt: Prompt; params: WireParams } & Resumable; out: null; piece: Piece };
  /**
   * `attached` are images that the body names by their index: `attached:0`. `given` is the time, and random numbers of 32
   * bits: with the same ones a request gives the same.
   */
  request: {
    in: { method: string; path: string; body: string; attached: Attached[]; given: number[] } & Resumable;
    out: null;
    piece: ApiPiece;
  };
  /** The number of the session; `fork` is one, or 0 for what the cache was left last. */
  openSession: { in: { fork?: number | undefined }; out: number; piece: never };
  restore: { in: { snapshot: Blob }; out: number; piece: never };
  snapshot: { in: { session: number }; out: Blob; piece: never };
  closeSession: { in: { session: number }; out: undefined; piece: never };
  prefill: { in: { session: number; ids: Uint32Array }; out: Float32Array; piece: never };
  mtp: { in: { session: number; next: number }; out: Float32Array; piece: never };
  checkpoint: { in: { session: number }; out: undefined; piece: never };
  rollback: { in: { session: number; length: number }; out: undefined; piece: never };
  profile: { in: { depth: number; reps: number }; out: Profile; piece: never };
  embed: { in: { texts: (string | Uint32Array)[]; params: EmbedParams }; out: Embeddings; piece: never };
  tokenize: { in: { text: string; options: TokenizeOptions }; out: Uint32Array; piece: never };
  detokenize: { in: { ids: Uint32Array; showSpecial: boolean }; out: string; piece: never };
  render: { in: { chat: Chat }; out: string; piece: never };
  stats: { in: object; out: EngineStats; piece: never };
  shaders: { in: { wasm: WasmOptions }; out: [name: string, text: string][]; piece: never };
}

export type Op = keyof Operations;

export type Request = { [K in Op]: { id: number; op: K } & Operations[K]["in"] }[Op];
export type Note = { op: "credit"; target: number; pieces: number } | { op: "abort"; target: number };
/**
 * Makes the worker a thread of another one's engine, which sends its instructions over the port; or ends the engine.
 */
export type Order = { op: "thread"; port: MessagePort } | { op: "end" };
export type ToWorker = Request | Note | Order;

export type FromWorker =
  /** The script runs. */
  | { op: "hello" }
  /** The engine asks for threads, one per port. */
  | { op: "threads"; ports: MessagePort[] }
  | { op: "done"; id: number; value: unknown }
  | { op: "error"; id: number; error: ErrorData }
  /** `journal` is what the run did for these pieces. */
  | { op: "pieces"; id: number; values: unknown[]; journal: number[] }
  /** Calls the page's own fetch function for a request. The port brings `FetchAnswer`s, and takes "more" and "stop". */
  | { op: "fetch"; id: number; url: string; init: RequestInit; port: MessagePort }
  /** The engine is broken for good: every open request fails with this, and every later one. */
  | { op: "fatal"; error: ErrorData };

/** At first the head; then a piece of the body for each "more", without bytes at its end. */
export type FetchAnswer =
  | { head: { status: number; statusText: string; headers: [string, string][] }; empty: boolean }
  | { bytes: Uint8Array<ArrayBuffer> | undefined }
  | { error: ErrorData };

/** What a thread runs. */
export type StartThread = { build: WasmBuild; module: WebAssembly.Module; memory: WebAssembly.Memory; life?: string };
/** Messages of a thread to its engine, or of the page for one that did not start. */
export type FromThread = { op: "running" } | Extract<FromWorker, { op: "fatal" }>;
