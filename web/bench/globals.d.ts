/** Set by the page of each engine, called by bench.mjs through the browser's driver. */
declare var bench: Bench;

interface Bench {
  load(options: BenchLoad): Promise<BenchInfo>;
  run(options: BenchRun): Promise<BenchSpeeds>;
  /** Fetches a file and throws it away: milliseconds. Of pagelm's page only. */
  plain?(options: { model: string }): Promise<number>;
  /** Of pagelm's page only. */
  sequences?(options: {
    model: string;
    threads: number;
    length: number;
    tokens: number;
    seed: number;
  }): Promise<BenchSequences>;
  /** Of pagelm's page only. */
  grammars?(options: { model: string; threads: number; schemas: object[]; tokens: number }): Promise<BenchGrammars>;
  /** Gaps between the frames of the page while nothing runs, and while an image is encoded. Of pagelm's page only. */
  frames?(options: {
    model: string;
    mmproj: string;
    backend: "webgpu" | "cpu";
    threads: number;
    idleMs: number;
  }): Promise<BenchFrames>;
  /** From nothing to the first token, from what is stored or, if `cold`, from the server. `sha256` is that of the file, to be checked. */
  first(options: {
    model: string;
    backend: "webgpu" | "cpu";
    cold: boolean;
    sha256?: string | undefined;
  }): Promise<BenchFirst>;
}

/** All in milliseconds, but the whole. */
interface BenchFrames {
  what: string;
  idle: number[];
  encoding: number[];
  /** Between two parts of the encoding. */
  parts: number[];
  seconds: number;
}

/** What a grammar costs, on the CPU of a page. */
interface BenchGrammars {
  /** Milliseconds until an answer could begin without a grammar, and right after that with each schema that was not refused. */
  begins: { plain: number; held: number }[];
  refused: number;
  /** Tokens a second, without a grammar and with one. */
  plain: number;
  held: number;
}

/** What several sequences gain, on the CPU of a page. Rates are tokens a second. */
interface BenchSequences {
  /** Of 1, 2 and 4 generations at once, all together. */
  together: number[];
  /** To the first token of a conversation, of its next turn, and of the same from a snapshot. */
  firstMs: number;
  nextMs: number;
  prefillMs: number;
  restoreMs: number;
  /** Of a text that repeats itself: without and with proposals. */
  plain: number;
  proposed: number;
}

interface BenchFirst {
  loadMs: number;
  firstMs: number;
}

interface BenchLoad {
  model: string;
  contextLength: number;
  threads: number;
  backend: "webgpu" | "cpu";
  wasmBuild?: import("pagelm").WasmBuild;
}

interface BenchInfo {
  loadMs: number;
  threads: number;
  /** The adapter or the build. */
  what: string;
  backend: string;
}

interface BenchRun {
  /** Words before the prompt, the same in each run, so that they are in the engine's cache after the first. */
  depth: number;
  /** Words of the prompt. */
  length: number;
  tokens: number;
  seed: number;
}

interface BenchSpeeds {
  /** Tokens that were in the cache. */
  depth: number;
  /** Tokens of the prompt that were not. */
  prompt: number;
  firstMs: number;
  /** Tokens a second. */
  prefill: number;
  decode: number;
  /** Of pagelm only. */
  perStep?: Record<string, number>;
  memory?: object;
  wasmBytes?: number;
}
