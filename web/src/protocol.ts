// What page and worker say to each other. Every request settles exactly once, with `done` or `error`; between, a
// generation sends pieces while it has credit. `credit` and `abort` are notes about another request and get no answer.
import type { ErrorData } from "./errors.ts";
import type {
  BackendName,
  EngineInfo,
  EngineStats,
  KvType,
  LoadProgress,
  ModelInfo,
  Piece,
  Profile,
  WasmBuild,
} from "./types.ts";

/** What a chat template gets. */
export interface Message {
  role: string;
  content: unknown;
  [key: string]: unknown;
}

/** Parameters as the engine takes them. */
export interface WireParams {
  sampler?: Record<string, unknown>;
  [name: string]: unknown;
}

/** A conversation, and what its template gets beside it. */
export interface Chat {
  messages: Message[];
  tools?: unknown[];
  variables?: Record<string, unknown>;
}

export type Prompt = Chat | { text: string } | { ids: Uint32Array };

/** Which module to load, from where, and for how many threads. */
export interface WasmOptions {
  build: WasmBuild;
  /** By default that of the worker's script. */
  folder: string | undefined;
  threads: number;
  /** Why there is one thread, if there is. */
  whyOneThread: string | null;
}

/** Each operation: what it takes, what it gives, and what comes on the way. */
export interface Operations {
  load: {
    in: {
      model: string | Blob;
      wasm: WasmOptions;
      backend: "auto" | BackendName;
      activations: "q8" | "f32";
      contextLength: number | undefined;
      mtp: boolean;
      memoryLimit: number | undefined;
      kvType: KvType | undefined;
      tune: boolean;
      kernels: "hardware" | "software" | undefined;
    };
    out: EngineInfo;
    piece: LoadProgress;
  };
  inspect: {
    in: { model: string | Blob; wasm: WasmOptions; contextLength: number | undefined };
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
  tokenize: { in: { text: string; addSpecial: boolean; parseSpecial: boolean }; out: Uint32Array; piece: never };
  detokenize: { in: { ids: Uint32Array; showSpecial: boolean }; out: string; piece: never };
  render: { in: Chat; out: string; piece: never };
  stats: { in: object; out: EngineStats; piece: never };
  shaders: { in: { wasm: WasmOptions }; out: [name: string, text: string][]; piece: never };
}

export type Op = keyof Operations;

export type Request = { [K in Op]: { id: number; op: K } & Operations[K]["in"] }[Op];
export type Note = { op: "credit"; target: number; pieces: number } | { op: "abort"; target: number };
/** Makes the worker a thread of another one's engine. */
export type StartThread = { op: "thread"; build: WasmBuild; module: WebAssembly.Module; memory: WebAssembly.Memory };
export type ToWorker = Request | Note;

export type FromWorker =
  | { op: "done"; id: number; value: unknown }
  | { op: "error"; id: number; error: ErrorData }
  | { op: "piece"; id: number; value: unknown }
  /** The engine is broken for good: every open request fails with this, and every later one. */
  | { op: "fatal"; error: ErrorData };

/** What a thread says to its engine. */
export type FromThread = { op: "running" } | Extract<FromWorker, { op: "fatal" }>;
