// What a page holds: an engine with one model, and sessions on it.
import { chooseBuild } from "./builds.ts";
import { Client, type Port } from "./client.ts";
import { PagelmError } from "./errors.ts";
import { Completions } from "./openai.ts";
import type { Message } from "./protocol.ts";
import { generate, wireParams } from "./stream.ts";
import type {
  AssetOptions,
  EngineInfo,
  EngineOptions,
  EngineStats,
  GenerateParams,
  ModelInfo,
  ModelRef,
  Piece,
  Profile,
  WasmBuild,
} from "./types.ts";

/** Loads a model. Rejects with a `PagelmError`; nothing is left behind then. */
export async function createEngine(options: EngineOptions): Promise<Engine> {
  const { signal, onProgress } = options;
  const wasm = chooseBuild(options);
  const client = connect(options, wasm.build);
  try {
    const input = {
      model: wireModel(options.model),
      wasm,
      backend: options.backend ?? "auto",
      activations: options.activations ?? "q8",
      contextLength: options.contextLength,
      mtp: options.mtp ?? false,
      memoryLimit: options.memoryLimit,
      kvType: options.kvType,
      tune: options.tune ?? true,
      kernels: options.kernels,
    };
    const info = await client.call("load", input, { signal, onPiece: onProgress });
    return new Engine(client, info, label(options.model));
  } catch (e) {
    client.end(new PagelmError("disposed", "the model did not load"));
    throw e;
  }
}

export interface CanRun {
  /** Whether the engine knows how to run it and it is likely to fit. */
  ok: boolean;
  /** Why not. */
  reason: string | null;
  model: ModelInfo;
  /** Bytes to download, where known. */
  fileBytes: number | null;
  /** Bytes of memory that it will need, about. */
  memoryBytes: number | null;
}

/** Reads the header of a model and nothing else. */
export async function canRun(
  model: ModelRef,
  options: AssetOptions & { contextLength?: number; signal?: AbortSignal } = {},
): Promise<CanRun> {
  const wasm = chooseBuild(options);
  const client = connect(options, wasm.build);
  try {
    const input = {
      model: wireModel(model),
      wasm,
      contextLength: options.contextLength,
    };
    const { info, size } = await client.call("inspect", input, { signal: options.signal });
    const bytes = info.weightBytes === null ? null : info.weightBytes + (info.cacheBytes ?? 0);
    // Browsers round this to at most 8 GiB, and some do not tell; half of it is what a page may hope for.
    const memory = (globalThis.navigator as { deviceMemory?: number } | undefined)?.deviceMemory;
    const room = memory && memory < 8 ? memory * 2 ** 29 : undefined;
    let reason = info.problem?.message ?? null;
    if (!reason && size !== null && size < info.fileBytes) {
      reason = `the file has ${size} bytes, its header promises ${info.fileBytes}; is the download complete?`;
    } else if (!reason && bytes && room && bytes > room) {
      reason = `it needs ${bytes} bytes, this device has about ${room} for it; choose a smaller model or context`;
    }
    return { ok: reason === null, reason, model: info, fileBytes: size, memoryBytes: bytes };
  } finally {
    client.end(new PagelmError("disposed", "the header was read"));
  }
}

/** All GPU programs of the engine, as name and text: for tests that compile them. */
export async function shaderSources(options: AssetOptions = {}): Promise<[name: string, text: string][]> {
  const wasm = chooseBuild(options);
  const client = connect(options, wasm.build);
  try {
    return await client.call("shaders", { wasm });
  } finally {
    client.end(new PagelmError("disposed", "the programs were listed"));
  }
}

/** One model in one worker. One generation runs at a time; others wait for it. */
export class Engine {
  readonly info: EngineInfo;
  readonly chat: { readonly completions: Completions };
  #client: Client;

  /** Use `createEngine`. */
  constructor(client: Client, info: EngineInfo, label: string) {
    this.#client = client;
    this.info = info;
    this.chat = { completions: new Completions(client, label) };
  }

  get backend(): EngineInfo["backend"] {
    return this.info.backend;
  }

  /** Why the engine cannot be used any more; null while it can. */
  get ended(): PagelmError | null {
    return this.#client.ended;
  }

  /** Continues a text or token ids. A text gets the start token that the model wants; ids are taken as they are. */
  generate(
    prompt: string | ArrayLike<number>,
    params: GenerateParams & { signal?: AbortSignal } = {},
  ): AsyncGenerator<Piece, void, void> {
    const wire = typeof prompt === "string" ? { text: prompt } : { ids: Uint32Array.from(prompt) };
    return generate(this.#client, wire, wireParams(params), params.signal);
  }

  /** Token ids of a text. `parseSpecial` recognises control tokens in it: never for text of a user. */
  tokenize(text: string, { addSpecial = false, parseSpecial = false } = {}): Promise<Uint32Array> {
    return this.#client.call("tokenize", { text, addSpecial, parseSpecial });
  }

  detokenize(ids: ArrayLike<number>, { showSpecial = false } = {}): Promise<string> {
    return this.#client.call("detokenize", { ids: Uint32Array.from(ids), showSpecial });
  }

  /**
   * The text that the model's chat template makes of messages, to be read. It is no prompt: in it, names of control tokens
   * that a user wrote look like those of the template.
   */
  render(messages: Message[], tools?: unknown[], chatTemplateKwargs?: Record<string, unknown>): Promise<string> {
    const variables = chatTemplateKwargs;
    return this.#client.call("render", { messages, ...(tools && { tools }), ...(variables && { variables }) });
  }

  /** Opens step-level work. Until it is closed the engine generates nothing else: they share the cache. */
  async session(): Promise<Session> {
    await this.#client.call("openSession", {});
    return new Session(this.#client);
  }

  /**
   * How long each kernel of a decoded token takes after `depth` others, the mean of `reps`: on WebGPU, where the browser
   * tells times. They are rounded in browsers; more repetitions make up for it. Conversations start anew after it.
   */
  profile({ depth = 0, reps = 10 } = {}): Promise<Profile> {
    return this.#client.call("profile", { depth, reps });
  }

  stats(): Promise<EngineStats> {
    return this.#client.call("stats", {});
  }

  /** Frees everything at once. What still runs rejects with `disposed`. */
  dispose(): void {
    this.#client.end(new PagelmError("disposed", "the engine was disposed of"));
  }

  [Symbol.dispose ?? Symbol.for("Symbol.dispose")](): void {
    this.dispose();
  }
}

/** Step-level work on an engine's cache. */
export class Session {
  #client: Client;
  #closed = false;

  constructor(client: Client) {
    this.#client = client;
  }

  /** Appends tokens and gives the logits after the last. */
  prefill(ids: ArrayLike<number>): Promise<Float32Array> {
    return this.#call("prefill", { ids: Uint32Array.from(ids) });
  }

  /** Appends one token and gives the logits after it. */
  decode(token: number): Promise<Float32Array> {
    return this.#call("decode", { token });
  }

  /**
   * What the model's block for multi-token prediction says of the token after `next`, were `next` to follow: its logits.
   * Nothing is appended. The engine must have been made with `mtp: true`, of a model that has the block.
   */
  mtp(next: number): Promise<Float32Array> {
    return this.#call("mtp", { next });
  }

  /**
   * Makes it cheap to roll back to the present length, until the next checkpoint. Only models with recurrent states need
   * it: without one they run all their tokens again.
   */
  async checkpoint(): Promise<void> {
    await this.#call("checkpoint", {});
  }

  /** Forgets all tokens after the first `length`. */
  async rollback(length: number): Promise<void> {
    await this.#call("rollback", { length });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    if (!this.#client.ended) await this.#client.call("closeSession", {});
  }

  #call: Client["call"] = (op, input) => {
    if (this.#closed) return Promise.reject(new PagelmError("invalid-state", "the session is closed"));
    return this.#client.call(op, input);
  };
}

function connect({ workerUrl }: AssetOptions, build: WasmBuild): Client {
  if (typeof Worker === "undefined") {
    throw new PagelmError("engine-not-loaded", "there are no web workers here; models run in browsers only");
  }
  try {
    // Bundlers look for exactly these expressions.
    const worker = workerUrl
      ? new Worker(workerUrl, { type: "module" })
      : build.includes("threads")
        ? new Worker(new URL("./worker-threads.js", import.meta.url), { type: "module" })
        : new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    return new Client(worker as unknown as Port);
  } catch (e) {
    throw new PagelmError("engine-not-loaded", `the worker could not start: ${e}`, String(workerUrl ?? ""));
  }
}

function wireModel(model: ModelRef): string | Blob {
  if (model instanceof Blob) return model;
  try {
    return new URL(model, globalThis.location?.href).href;
  } catch {
    throw new PagelmError("invalid-argument", "the address of the model is not a URL", String(model));
  }
}

function label(model: ModelRef): string {
  if (model instanceof Blob) return "name" in model ? String(model.name) : "file";
  return String(model).split(/[?#]/)[0]?.split("/").pop() || "model";
}
