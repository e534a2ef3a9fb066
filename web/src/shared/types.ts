import type { ErrorData } from "./errors.ts";

export type * from "./outputs.ts";

/** The input of a chat template. */
export interface Message {
  role: string;
  content: unknown;
  [key: string]: unknown;
}

/**
 * The location of a model: a URL; `hf:OWNER/REPO[@REVISION]/FILE.gguf` or `hf:OWNER/REPO[@REVISION]:QUANTISATION` of the
 * Hugging Face Hub; a file that the user chose; a list with all parts of a split model; or the folder that has them. Of
 * a split model with parts named `…-00001-of-00003.gguf` the URL of any one is enough.
 */
export type ModelRef = string | URL | Blob | FileSystemDirectoryHandle | (string | URL | Blob)[];

/** How the files of a model are got. */
export interface SourceOptions {
  /**
   * Whether the browser stores the files (in OPFS), which is so by default: a download goes on where it was, and the
   * next load reads what is there, offline too. `false` neither reads nor writes there.
   */
  cache?: boolean;
  /** The SHA-256 of the file, in hexadecimal digits. A file that has another one is refused (`bad-checksum`). */
  sha256?: string;
  /** Sent with each request to the origin of the model, such as `Authorization` for one that is not public. */
  headers?: Record<string, string>;
  /** Where `hf:` leads to: a mirror of `https://huggingface.co`. */
  hub?: string;
  /**
   * Called in place of `fetch` for files of a model and lists of a hub, with a signal, and headers of which `Range` should
   * reach the server. What it throws counts as a broken connection, which is tried again.
   */
  fetch?: FetchFunction;
}

export type FetchFunction = (url: string, init: RequestInit) => Promise<Response>;

/** A string, a `URL`, or a `TrustedScriptURL`. */
export type ScriptUrl = string | { toJSON(): string };

/** `reference` is slow and exact: other backends are tested against it. */
export type BackendName = "webgpu" | "cpu" | "reference";

export interface LoadProgress {
  /**
   * `waiting`: another page downloads the file. `header`: the header is read. `weights`: the long part. `ready`: the
   * engine can be used.
   */
  phase: "waiting" | "header" | "weights" | "ready";
  /** Bytes that have arrived, and bytes in total if known. */
  loaded: number;
  total: number | undefined;
  /**
   * Whether nothing arrives: for 15 s, or since the connection broke or the server asked to wait. The download is tried
   * again, and the next bytes make this false.
   */
  stalled: boolean;
  /** Where the last bytes came from. */
  from: "network" | "cache" | "file";
  /** Over the last seconds; 0 at first. */
  bytesPerS: number;
  /** At that rate, if the total is known. */
  secondsLeft: number | undefined;
}

/** Where a model came from: bytes, and whether the browser stores it now. */
export interface LoadSource {
  network: number;
  cache: number;
  file: number;
  stored: boolean;
  /** The reason, if it is not stored although it came from a server. */
  whyNotStored: string | null;
}

/** A model that the browser stores, or a part of it. */
export interface StoredModel {
  /** What `createEngine` and `models` take for it. */
  model: string;
  files: StoredFile[];
  /** Bytes that are there. */
  bytes: number;
  /** Bytes in all, if known. */
  size: number | null;
  complete: boolean;
}

export interface StoredFile {
  /** Without what changes in it, such as signatures. */
  url: string;
  name: string;
  bytes: number;
  size: number | null;
  sha256: string | null;
  complete: boolean;
}

/** The builds of the engine's module: relaxed SIMD is an instruction set, threads need a cross-origin isolated page. */
export type WasmBuild = "base" | "relaxed" | "threads" | "threads-relaxed";

export interface AssetOptions {
  /** The folder of the wasm files; by default that of the package's own script. */
  wasmUrl?: string | URL;
  /** Which of them to load; by default the best one present that the browser supports. */
  wasmBuild?: WasmBuild;
  /** The URL of the package's `worker.js`; by default beside the package's own script. It may be on another origin. */
  workerUrl?: ScriptUrl;
}

export type KvType = "f32" | "f16" | "q8_0";

/** How a model runs: these are passed to the engine. */
export interface ModelOptions {
  /** The most tokens of prompt and answer together; by default the trained context length, at most 4096. */
  contextLength?: number;
  /**
   * Precision of the activations in matrix products: int8 with a scale per 32 values (`q8`, the default), or `f32`, which
   * is exact, for comparisons, and several times slower on the CPU. There the first 64 positions have a second term of int8,
   * which makes them as good as `f32`. WebGPU uses int8 for prompts only, and not on Apple's GPUs, which have no int8 dot
   * product.
   */
  activations?: "q8" | "f32";
  /** Loads the block for multi-token prediction too, if the model has one: for `session.mtp`. */
  mtp?: boolean;
  /** Makes embeddings instead of generating. By default as the file says: those of embedding models do. */
  embeddings?: boolean;
  /** Ignores unknown keys and tensors instead of refusing the file (`unknown-content`). The answers may be wrong. */
  allowUnknown?: boolean;
  /**
   * Bytes that weights, cache and scratch may take together: a model that needs more is refused before its weights are
   * fetched. On the CPU it is at most what is left of 4 GiB; for a GPU only the limit of each buffer is known.
   */
  memoryLimit?: number;
  /**
   * Positions of the cache, of all conversations together: at least `contextLength`, which is the default. With more, a
   * conversation that was left is gone on with without reading its prompt again.
   */
  cacheTokens?: number;
  /** How many generations run at once, 2 by default; others wait. Each more may hold blocks and states for itself. */
  sequences?: number;
  /** The most tokens that `speculate` may propose at once; 0, the default, is none. */
  drafts?: number;
  /**
   * Lets the model's block for multi-token prediction choose only among the first so many tokens of the vocabulary, mostly the
   * most frequent ones: it reads less.
   */
  draftVocab?: number;
  /** The most positions of the context that an image takes, 1024 by default: larger images are made smaller. */
  imageRows?: number;
  /** Type of the KV cache, `f16` by default: `q8_0` takes about half as much memory, `f32` twice as much. */
  kvType?: KvType;
}

/** As for `createEngine`. */
export interface CanRunOptions extends AssetOptions, SourceOptions, ModelOptions {
  /**
   * The part of the model that sees images, which is in a file of its own. `true` takes the one beside a model that is named
   * `hf:OWNER/REPO`: what `hf:OWNER/REPO:mmproj` names.
   */
  mmproj?: ModelRef | true;
  backend?: "auto" | BackendName;
  threads?: number;
  signal?: AbortSignal;
}

/** Options that fit into the memory, as close to those given as they can be. */
export interface Fit {
  contextLength: number;
  kvType: KvType;
  memory: Memory;
  /** What differs from the options given: nothing if these fit. */
  changes: Change[];
}

/** An option that had to change for want of memory. */
export interface Change {
  code: "kv-type" | "context-length";
  message: string;
}

/** Whether a model fits on a backend. */
export interface BackendFit {
  backend: BackendName;
  /** Null if nothing fits. */
  fit: Fit | null;
  /** Why not. */
  problem: ErrorData | null;
}

/** For `models`. */
export interface DownloadOptions extends AssetOptions, Omit<SourceOptions, "cache"> {
  signal?: AbortSignal;
  onProgress?: (progress: LoadProgress) => void;
}

export interface EngineOptions extends AssetOptions, SourceOptions, ModelOptions {
  model: ModelRef;
  /** The part of the model that sees images; `true` as in `CanRunOptions`. */
  mmproj?: ModelRef | true;
  /**
   * `auto` takes WebGPU if there is a hardware GPU adapter (a software one would be slower than the CPU), else the CPU;
   * `engine.info.backendReason` gives the choice and its reason.
   */
  backend?: "auto" | BackendName;
  /** Threads on the CPU, if the page is cross-origin isolated; by default as many as the processor runs at once, up to 8. */
  threads?: number;
  /**
   * Whether WebGPU's kernels are chosen by measurement, which takes a second the first time that a page uses an
   * adapter; on by default. The browser stores the result in a cache named `pagelm-tuning`.
   */
  tune?: boolean;
  /**
   * Whether the engine is made again when its GPU or its worker is lost, which is so by default: what runs goes on as if
   * nothing had happened. Without, it ends (`engine.ended`), and what runs fails.
   */
  recover?: boolean;
  /** One engine for all tabs of the origin that ask for the same: `tabs()` of `pagelm/share`. By default each has its own. */
  share?: Share;
  signal?: AbortSignal;
  onProgress?: (progress: LoadProgress) => void;
  /** Called when the engine is lost, and when it runs again. */
  onRecover?: (recovery: Recovery) => void;
}

/** Says where the engine of a page runs, if not in the page: `tabs()` of `pagelm/share` makes one. */
export type Share = (open: never) => object;

/** An engine that was lost is made again. */
export interface Recovery {
  phase: "recovering" | "recovered";
  /** Why it was lost. */
  error: ErrorData;
  /** How often it was made again since something came of it last. After the third time the engine ends. */
  attempt: number;
}

/** The header of a model. */
export interface ModelInfo {
  architecture: string;
  name: string | null;
  /** The type of most bytes of the weights. */
  quantization: string | null;
  parameters: number;
  /** Bytes of tensors, by type. */
  types: Record<string, number>;
  /** The minimum length of the file. */
  fileBytes: number;
  trainedContext: number | null;
  chatTemplate: boolean;
  /** Whether it was opened with the part that sees (`mmproj`). */
  images: boolean;
  /** What the file recommends: the defaults of parameters that a caller leaves out. */
  sampling: FileSampling;
  /** Null if the model cannot run, as are the next three. */
  contextLength: number | null;
  weightBytes: number | null;
  /** In the type that the cache will have. */
  cacheBytes: number | null;
  scratchBytes: number | null;
  /** Why it cannot run. */
  problem: ErrorData | null;
}

export interface FileSampling {
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  repeatPenalty?: number;
  penaltyLastN?: number;
}

export interface AdapterInfo {
  name: string;
  /** Empty in browsers. */
  driver: string;
  /** The graphics API. */
  backend: string;
  /** Whether it computes on the CPU. */
  software: boolean;
  subgroups: boolean;
  shaderF16: boolean;
  maxBinding: number;
  maxBuffer: number;
  maxStorageBuffers: number;
  workgroupMemory: number;
}

export interface EngineInfo {
  model: ModelInfo;
  backend: BackendName;
  /** The reason for this backend. */
  backendReason: string;
  adapter: AdapterInfo | null;
  contextLength: number;
  /** Where the weights came from. */
  source: LoadSource;
  /** The build of the module that runs. */
  wasm: {
    build: WasmBuild;
    /** Threads that computed when the model was loaded; `stats()` says how many there are now. */
    threads: number;
    /** Why there is only one thread; null if there are more. */
    whyOneThread: string | null;
    /** Why there are fewer threads than possible, if some did not start. */
    whyFewerThreads: string | null;
  };
}

/** What the engine did and holds. Counters are deterministic for a given input. */
export interface EngineStats {
  backend: BackendName;
  adapter: AdapterInfo | null;
  contextLength: number;
  /** How many generations run at once. */
  sequences: number;
  /** Threads that compute: the engine's own and, on the CPU, those that joined it. */
  threads: number;
  /** Images that were encoded. */
  images: number;
  counters: Counters;
  memory: Memory;
  held: Held;
  /** Bytes of weights that passed through the memory of the wasm module: nearly none on WebGPU. */
  weightBytesCopied: number;
  /** Bytes of the wasm module's memory, which on the CPU includes weights and cache. It never shrinks. */
  wasmBytes: number;
}

export interface Counters {
  steps: number;
  dispatches: number;
  passes: number;
  submits: number;
  bytesWritten: number;
  bytesRead: number;
  pipelines: number;
  buffers: number;
  bindGroups: number;
  /** The most steps that were in flight at once. */
  inFlight: number;
}

/** Parts of the cache that conversations and sessions hold: blocks of 64 positions, and recurrent states. */
export interface Held {
  blocks: number;
  states: number;
}

/** Bytes. */
export interface Memory {
  weights: number;
  kv: number;
  states: number;
  scratch: number;
  staging: number;
}

/** Bytes, on the GPU or, on the CPU, in the memory of the module. */
export interface EngineMemory {
  weights: number;
  /** Keys and values. */
  cache: number;
  /** Recurrent states. */
  states: number;
  /** Values of a step, its logits among them, and tables. */
  scratch: number;
  /** What comes back from the GPU, and blocks of the cache that are copied. */
  staging: number;
  /** The module's memory apart from those: its code's data, tokenizer, and what it had to spare. */
  module: number;
}

/** The cost of a decoded token on the GPU. */
export interface Profile {
  /** Tokens in the cache before it. */
  depth: number;
  /** The slowest first. */
  kernels: KernelTime[];
  usPerToken: number;
  /** Of a kernel that only reads a large buffer. */
  readBytesPerS: number;
}

/** All dispatches of one kernel. */
export interface KernelTime {
  kernel: string;
  dispatchesPerToken: number;
  usPerToken: number;
  /** Packed bytes; with experts those of the experts used. */
  weightBytesPerToken: number;
  /** How fast it reads them; null if it reads none. */
  bytesPerS: number | null;
  /** That rate as a fraction of `readBytesPerS`. */
  fractionOfRead: number | null;
}
