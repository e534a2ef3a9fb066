// What page and worker say to each other. Every request settles exactly once, with `done` or `error`; between, a
// generation sends pieces while it has credit. `credit` and `abort` are notes about another request and get no answer.
import type { ErrorData } from "./errors.ts";
import type {
  BackendName,
  EngineInfo,
  EngineStats,
  LoadProgress,
  Message,
  ModelInfo,
  ModelOptions,
  Piece,
  Profile,
  SamplingParams,
  WasmBuild,
} from "./types.ts";

/** Parameters as the engine takes them. */
export interface WireParams {
  maxTokens?: number;
  sampler: WireSampler;
  stop?: string[];
  ignoreEos?: boolean;
}

export type WireSampler = { [K in keyof Omit<SamplingParams, "logitBias">]?: NonNullable<SamplingParams[K]> } & {
  logitBias?: [token: number, bias: number][];
};

/** A conversation, and what its template gets beside it. */
export interface Chat {
  messages: Message[];
  tools?: unknown[];
  variables?: Record<string, unknown>;
}

export type Prompt = Chat | { text: string } | { ids: Uint32Array };

/** Which module to load, from where, and for how many threads. */
export interface WasmOptions {
  /** The first that loads is taken. */
  builds: WasmBuild[];
  /** By default that of the worker's script. */
  folder: string | undefined;
  threads: number;
  /** Why the page can have only one, if so. */
  whyOneThread: string | null;
  /** Not 0 once the page gives the engine up, where it can share memory. */
  stop: Int32Array | undefined;
}

/** What goes to the engine as it is. */
export interface WireOptions extends ModelOptions {
  /** For which adapters WebGPU's kernels are, in tests: by default for what the adapter is. */
  kernels?: "hardware" | "software";
}

export interface TokenizeOptions {
  addSpecial: boolean;
  parseSpecial: boolean;
}

/** Each operation: what it takes, what it gives, and what comes on the way. */
export interface Operations {
  load: {
    in: { model: string | Blob; wasm: WasmOptions; backend: "auto" | BackendName; tune: boolean; options: WireOptions };
    out: EngineInfo;
    piece: LoadProgress;
  };
  inspect: {
    in: { model: string | Blob; wasm: WasmOptions; options: WireOptions };
    out: { info: ModelInfo; size: number | null };
    piece: never;
  };
  generate: { in: { prompt: Prompt; params: WireParams; credit: number }; out: null; piece: Piece };
  openSession: { in: object; out: null; piece: never };
  closeSession: { in: object; out: null; piece: never };
  prefill: { in: { ids: Uint32Array }; out: Float32Array; piece: never };
  decode: { in: { token: number }; out: Float32Array; piece: never };
  mtp: { in: { next: number }; out: Float32Array; piece: never };
  profile: { in: { depth: number; reps: number }; out: Profile; piece: never };
  checkpoint: { in: object; out: null; piece: never };
  rollback: { in: { length: number }; out: null; piece: never };
  tokenize: { in: { text: string; options: TokenizeOptions }; out: Uint32Array; piece: never };
  detokenize: { in: { ids: Uint32Array; showSpecial: boolean }; out: string; piece: never };
  render: { in: Chat; out: string; piece: never };
  stats: { in: object; out: EngineStats; piece: never };
  shaders: { in: { wasm: WasmOptions }; out: [name: string, text: string][]; piece: never };
}

export type Op = keyof Operations;

export type Request = { [K in Op]: { id: number; op: K } & Operations[K]["in"] }[Op];
export type Note = { op: "credit"; target: number; pieces: number } | { op: "abort"; target: number };
/** Makes the worker a thread of another one's engine, which tells it at the port what to run; or ends the engine. */
export type Order = { op: "thread"; port: MessagePort } | { op: "end" };
export type ToWorker = Request | Note | Order;

export type FromWorker =
  /** The script runs. */
  | { op: "hello" }
  /** The engine asks for threads, one at each port. */
  | { op: "threads"; ports: MessagePort[] }
  | { op: "done"; id: number; value: unknown }
  | { op: "error"; id: number; error: ErrorData }
  | { op: "piece"; id: number; value: unknown }
  /** The engine is broken for good: every open request fails with this, and every later one. */
  | { op: "fatal"; error: ErrorData };

/** What a thread runs. */
export type StartThread = { build: WasmBuild; module: WebAssembly.Module; memory: WebAssembly.Memory };
/** What a thread says to its engine, or the page for one that did not start. */
export type FromThread = { op: "running" } | Extract<FromWorker, { op: "fatal" }>;
