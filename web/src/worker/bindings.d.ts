// The engine's module as the worker calls it: what wasm-bindgen generates from `web/bindings`, with the types of all
// values. The build compares the functions with the generated ones, and tests compare the shapes with Rust's.
import type { ErrorData } from "../shared/errors.ts";
import type { ApiPiece, Chat, TokenizeOptions, WireOptions, WireParams } from "../shared/protocol.ts";
import type {
  BackendName,
  Embeddings,
  EmbedParams,
  EngineStats,
  Fit,
  KvType,
  ModelInfo,
  Piece,
  Profile,
  WasmBuild,
} from "../shared/types.ts";

export interface OpenOptions extends WireOptions {
  backend: BackendName;
  threads: number;
  tuning?: string | undefined;
  /** The most bytes that the adapter can bind; for `info`. */
  maxBinding?: number;
}

/** A GPU adapter as the browser describes it. */
export interface AdapterFacts {
  /** All its names: vendor, architecture, description. */
  name: string;
  isFallback?: boolean;
  isMetal?: boolean;
}

/** What the worker knows, and what the page asks for. */
export interface HostFacts {
  backend: "auto" | BackendName;
  adapter?: AdapterFacts;
  /** The reason, if there is none. */
  noAdapter?: string;
  exact?: boolean;
  activations?: "q8" | "f32" | undefined;
  kvType?: KvType | undefined;
  kernels?: "hardware" | "software" | undefined;
}

/** The backend that runs, and the reason. */
export interface Choice {
  backend: BackendName;
  reason: string;
  activations: "q8" | "f32";
  kvType: KvType;
  kernels: "hardware" | "software" | null;
}

export interface ProfileOptions {
  depth: number;
  reps: number;
}

/**
 * Bytes `start..end` of a piece go to `bufferOffset` of the GPU's buffer, or, if that is null, through
 * `write(weight, weightOffset, bytes)`.
 */
export interface BytesTarget {
  start: number;
  end: number;
  buffer: GPUBuffer | null;
  bufferOffset: number;
  weight: number;
  weightOffset: number;
}

/** What a step brought to what runs under a number. */
export interface News {
  id: number;
  pieces: Piece[] | ApiPiece[];
  journal: number[];
  done: boolean;
  /** Why a generation ended early. */
  error: ErrorData | null;
}

/** The number of a request, null if it is answered, and what there is of its response. */
export interface Requested {
  run: number | null;
  pieces: ApiPiece[];
  journal: number[];
  /** For which it waits. */
  pictures: Picture[];
}

/** The file of an image: its bytes, or where it is. */
export interface Picture {
  bytes: Uint8Array<ArrayBuffer>;
  url: string | null;
}

/** A file on a hub. */
export interface HubFile {
  url: string;
  sha256: string | null;
}

export interface Header {
  push(bytes: Uint8Array): boolean;
  part(): number;
  truncated(): ErrorData;
  setEncoder(encoder: Header): void;
  info(options: Partial<OpenOptions>): ModelInfo;
  fit(options: Partial<OpenOptions>): Fit;
  open(options: OpenOptions): Promise<Engine>;
  free(): void;
}

export interface Sha256 {
  push(bytes: Uint8Array): void;
  finish(): string;
  free(): void;
}

export interface Engine {
  measured(): string | undefined;
  targets(offset: number, length: number): BytesTarget[];
  write(weight: number, offset: number, bytes: Uint8Array): void;
  queue(): GPUQueue | null;
  check(): void;
  finish(): void;
  openSession(fork?: number): number;
  restoreSession(read: (start: number, end: number) => Uint8Array): number;
  saveSession(session: number, write: (bytes: Uint8Array<ArrayBuffer>) => void): Promise<void>;
  closeSession(session: number): void;
  prefill(session: number, ids: Uint32Array, pause: () => Promise<boolean>): Promise<Float32Array>;
  mtp(session: number, next: number): Promise<Float32Array>;
  checkpoint(session: number): void;
  rollback(session: number, length: number): void;
  profile(options: ProfileOptions): Promise<Profile>;
  embed(texts: Uint32Array[], params: EmbedParams): Promise<Embeddings>;
  tokenize(text: string, options: TokenizeOptions): Uint32Array;
  detokenize(ids: Uint32Array, showSpecial: boolean): string;
  render(chat: Chat): string;
  generate(ids: Uint32Array, params: WireParams, replay: ArrayLike<number>): number | undefined;
  request(method: string, path: string, body: string, given: ArrayLike<number>, replay: ArrayLike<number>): Requested;
  picture(run: number, width: number, height: number, rgba: ArrayLike<number>): void;
  noPicture(run: number, problem: string): void;
  next(wanted: Uint32Array, pause: () => Promise<boolean>): Promise<News[]>;
  stop(run: number): void;
  stats(): EngineStats;
  free(): void;
}

/** The functions of the module, in every build; those with threads start on a given memory. */
export interface Bindings {
  default(from: { module_or_path: WebAssembly.Module; memory?: WebAssembly.Memory }): Promise<unknown>;
  start(report: (message: string) => void, stop?: Int32Array): void;
  choose(facts: HostFacts): Choice;
  fallBack(facts: HostFacts, code: string, message: string): Choice | undefined;
  siblings(url: string): string[];
  chooseFiles(names: string[], place: string): string[];
  /** Undefined where it must be known whether the server answers at all. */
  whyUnreached(url: string, page: string, online: boolean, reached: boolean, answers?: boolean): string | undefined;
  hubList(model: string, hub?: string): string;
  /** Undefined where only a list could tell. */
  hubFiles(model: string, hub?: string, list?: string): HubFile[] | undefined;
  Header: {
    new (size?: number): Header;
    join(parts: Header[], starts: Float64Array, names: string[]): Header;
  };
  Sha256: new () => Sha256;
  blockSum(bytes: Uint8Array): string;
  threadsWanted(): number;
  joinEngine(): boolean;
  lendThread(): void;
  threadFailed(): void;
  closeThreads(): number;
  shaderSources(): [name: string, text: string][];
}

/** The builds that a worker's script includes. */
export type Builds = { [B in WasmBuild]?: Bindings };
export const builds: Builds;
