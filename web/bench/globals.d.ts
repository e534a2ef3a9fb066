/** Set by the page of each engine, called by bench.mjs through the browser's driver. */
declare var bench: Bench;

interface Bench {
  load(options: BenchLoad): Promise<BenchInfo>;
  run(options: BenchRun): Promise<BenchSpeeds>;
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
  /** Words of the prompt. */
  length: number;
  tokens: number;
  seed: number;
}

interface BenchSpeeds {
  /** Tokens of the prompt. */
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
