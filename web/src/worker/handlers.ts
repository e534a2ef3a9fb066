// What the worker does for each request: the engine's calls, in order, with the I/O around them.
import type { Engine, Header } from "../../pkg/base/pagelm.js";
import { isSoftware } from "../page/capabilities.ts";
import { abortError, type ErrorData, errorData, PagelmError } from "../shared/errors.ts";
import type { Operations, Prompt, Request, WasmOptions } from "../shared/protocol.ts";
import type { BackendName, EngineInfo, EngineStats, LoadProgress, ModelInfo, Piece } from "../shared/types.ts";
import { openSource, type Source } from "./fetch.ts";
import { throttled } from "./progress.ts";
import type { Task } from "./queue.ts";
import { keep, kept } from "./tuning.ts";
import { Placer } from "./upload.ts";
import { type Builds, type Started, startThreads, startWasm } from "./wasm.ts";

type In<K extends keyof Operations> = Operations[K]["in"];

export class Host {
  #builds: Builds;
  #fatal: (message: string) => void;
  #started: Promise<Started> | null = null;
  #engine: Engine | null = null;
  #sampling: ModelInfo["sampling"] = {};
  #sessionOpen = false;

  constructor(builds: Builds, fatal: (message: string) => void) {
    this.#builds = builds;
    this.#fatal = fatal;
  }

  /** Answers a request. It returns or throws; a trap of the wasm module also reports itself as fatal. */
  async run(r: Request, task: Task): Promise<unknown> {
    switch (r.op) {
      case "load":
        return this.#load(r, task);
      case "inspect":
        return this.#inspect(r, task);
      case "shaders":
        return (await this.#start(r.wasm)).wasm.shader_sources();
      case "generate":
        return this.#generate(r, task);
      case "openSession":
        if (this.#sessionOpen) throw new PagelmError("invalid-state", "a session is open already; close it first");
        this.#ready.rollback(0);
        this.#sessionOpen = true;
        return null;
      case "closeSession":
        this.#sessionOpen = false;
        return null;
      case "prefill":
        return this.#ready.prefill(r.ids);
      case "decode":
        return this.#ready.decode(r.token);
      case "mtp":
        return this.#ready.mtp(r.next);
      case "profile":
        this.#free();
        return camelCased(await this.#ready.profile(r.depth, r.reps));
      case "checkpoint":
        this.#ready.checkpoint();
        return null;
      case "rollback":
        this.#ready.rollback(r.length);
        return null;
      case "tokenize":
        return this.#ready.tokenize(r.text, r.addSpecial, r.parseSpecial);
      case "detokenize":
        return this.#ready.detokenize(r.ids, r.showSpecial);
      case "render":
        return this.#ready.render(...chatJson(r));
      case "stats":
        return stats(this.#ready);
    }
  }

  get #ready(): Engine {
    if (!this.#engine) throw new PagelmError("invalid-state", "no model was loaded");
    return this.#engine;
  }

  #start(options: WasmOptions): Promise<Started> {
    this.#started ??= startWasm(this.#builds, options).then((started) => {
      started.wasm.start(this.#fatal, options.stop);
      return started;
    });
    return this.#started;
  }

  async #load(r: In<"load">, task: Task): Promise<EngineInfo> {
    const started = await this.#start(r.wasm);
    if (this.#engine) throw new PagelmError("invalid-state", "this engine has a model already");
    const report = throttled((p) => task.piece(p));
    let now: LoadProgress = { phase: "header", loaded: 0, total: undefined, stalled: false };
    const progress = (p: Partial<LoadProgress>) => {
      now = { ...now, stalled: false, ...p };
      report(now);
    };
    const onStall = () => progress({ stalled: true });
    const source = await openSource(r.model, { signal: task.signal, onStall });
    const header = new started.wasm.Header(source.size, r.allowUnknown);
    let offset = 0;
    let opened: Awaited<ReturnType<typeof open>> | null = null;
    try {
      for await (const bytes of source.pieces()) {
        if (!opened && header.push(bytes)) opened = await open(started, header, r);
        if (opened) await opened.placer.take(offset, bytes);
        offset += bytes.length;
        if (!opened) {
          progress({ phase: "header", loaded: offset, total: source.size });
          continue;
        }
        const [loaded = 0, total = 0] = opened.engine.progress();
        progress({ phase: "weights", loaded, total });
        if (loaded === total) break;
      }
      if (!opened) throw header.truncated();
      await opened.placer.flush();
      opened.engine.finish();
      this.#engine = opened.engine;
      const { threads, why } = await startThreads(started, (ports) => task.threads(ports));
      if (task.signal.aborted) throw abortError();
      opened.info.wasm = wasmInfo(started, opened.info.backend, threads, why);
      this.#sampling = opened.info.model.sampling;
      const bytes = opened.info.model.weightBytes ?? 0;
      progress({ phase: "ready", loaded: bytes, total: bytes });
      return opened.info;
    } catch (e) {
      this.#engine = null;
      opened?.engine.free();
      throw located(e, r.model);
    } finally {
      header.free();
    }
  }

  /** Frees the engine, so that its threads end. */
  end(): void {
    try {
      this.#engine?.free();
    } catch {
      // A broken engine is not freed; the page ends its threads.
    }
  }

  async #inspect(r: In<"inspect">, task: Task): Promise<Operations["inspect"]["out"]> {
    const { wasm } = await this.#start(r.wasm);
    const source: Source = await openSource(r.model, { signal: task.signal });
    const header = new wasm.Header(source.size, r.allowUnknown);
    try {
      for await (const bytes of source.pieces()) {
        if (!header.push(bytes)) continue;
        return { info: header.info(r.contextLength, false), size: source.size ?? null };
      }
      throw header.truncated();
    } catch (e) {
      throw located(e, r.model);
    } finally {
      header.free();
    }
  }

  async #generate(r: In<"generate">, task: Task): Promise<null> {
    const engine = this.#ready;
    this.#free();
    // What a caller leaves out is as the file recommends.
    const sampler = { ...this.#sampling, ...r.params.sampler };
    engine.generate(this.#promptIds(engine, r.prompt), { ...r.params, sampler });
    for (;;) {
      // Lets messages in: an abort, or more credit.
      await breath();
      await task.spend();
      const piece = (await engine.next()) as Piece | undefined;
      if (!piece) return null;
      task.piece(piece);
    }
  }

  /** The cache belongs to a session while one is open. */
  #free(): void {
    if (!this.#sessionOpen) return;
    throw new PagelmError("invalid-state", "a session is open: close it first, the cache is its own until then");
  }

  #promptIds(engine: Engine, prompt: Prompt): Uint32Array {
    if ("ids" in prompt) return prompt.ids;
    if ("text" in prompt) return engine.tokenize(prompt.text, true, false);
    return engine.chat_ids(...chatJson(prompt));
  }
}

function chatJson({ messages, tools, variables }: In<"render">): [string, string | undefined, string | undefined] {
  return [JSON.stringify(messages), tools && JSON.stringify(tools), variables && JSON.stringify(variables)];
}

/** What a GPU may refuse and a CPU may yet do. */
const GPU_REFUSALS = ["no-gpu", "gpu-error", "unsupported-type", "unsupported-architecture", "out-of-memory"];

/** Opens the engine on the backend that was asked for, or on the best that there is. */
async function open(
  started: Started,
  header: Header,
  { backend: wanted, activations, contextLength, mtp, memoryLimit, kvType, tune, kernels }: In<"load">,
) {
  const { threads } = started;
  const model = header.info(contextLength, mtp) as ModelInfo;
  if (model.problem) throw model.problem;
  let [backend, backendReason]: [BackendName, string] = ["webgpu", "asked for"];
  let adapterName = "";
  if (wanted === "cpu" || wanted === "reference") backend = wanted;
  else {
    const found = await adapter();
    if ("name" in found) adapterName = found.name;
    else if (wanted === "webgpu")
      throw new PagelmError("no-gpu", `${found.missing}; use another browser, or the cpu backend`);
    if (!("name" in found)) [backend, backendReason] = ["cpu", found.missing];
    else if (wanted === "auto" && found.software) [backend, backendReason] = ["cpu", "the GPU adapter is software"];
    else if (wanted === "auto") backendReason = "there is a GPU adapter";
  }
  // What browsers' language has for bytes, Apple's GPUs do step by step.
  const numbers = backend === "webgpu" && /apple/i.test(adapterName) ? "f32" : activations;
  const tuningKey = `${adapterName}, ${numbers}`;
  const tuning = backend === "webgpu" && tune ? await kept(tuningKey) : undefined;
  let engine: Engine;
  try {
    engine = await header.open(backend, threads, numbers, contextLength, mtp, memoryLimit, kvType, tuning, kernels);
    const measured = engine.measured();
    if (measured) await keep(tuningKey, measured);
  } catch (e) {
    const { code, message } = errorData(e);
    if (wanted !== "auto" || backend === "cpu" || !GPU_REFUSALS.includes(code)) throw e;
    engine = await header.open("cpu", threads, activations, contextLength, mtp, memoryLimit, kvType);
    [backend, backendReason] = ["cpu", message];
  }
  const seen = stats(engine);
  const info: EngineInfo = {
    model,
    backend,
    backendReason,
    adapter: seen.adapter && { ...seen.adapter, name: seen.adapter.name || adapterName },
    contextLength: seen.contextLength,
    wasm: { build: started.build, threads: 1, whyOneThread: null, whyFewerThreads: null },
  };
  return { engine, placer: new Placer(engine), info };
}

/** What runs, and why it is not more. */
function wasmInfo(
  { build, whyOneThread }: Started,
  backend: BackendName,
  threads: number,
  why: string | null,
): EngineInfo["wasm"] {
  const one = whyOneThread ?? why ?? `the backend ${backend} needs one`;
  return { build, threads, whyOneThread: threads === 1 ? one : null, whyFewerThreads: why };
}

function stats(engine: Engine): EngineStats {
  return camelCased(engine.stats()) as EngineStats;
}

/** The same data with the names of its fields as JavaScript writes them. */
function camelCased(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(camelCased);
  if (typeof value !== "object" || value === null) return value;
  const camel = (key: string) => key.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
  return Object.fromEntries(Object.entries(value).map(([key, v]) => [camel(key), camelCased(v)]));
}

/** The name of the adapter, as far as the browser tells, or why there is none. */
async function adapter(): Promise<{ name: string; software: boolean } | { missing: string }> {
  if (!("gpu" in navigator)) return { missing: "this browser has no WebGPU in workers" };
  const found = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" }).catch(() => null);
  if (!found) return { missing: "the browser found no GPU adapter" };
  const { vendor, architecture, description } = found.info;
  const name = description || [vendor, architecture].filter(Boolean).join(" ");
  return { name, software: isSoftware(found.info) };
}

/** Says which file an error of the engine is about. */
function located(e: unknown, model: string | Blob): unknown {
  if (e instanceof Error) return e;
  const data = errorData(e) as ErrorData;
  const name = typeof model === "string" ? model : model instanceof File ? model.name : "";
  return { ...data, place: [name, data.place].filter(Boolean).join(": ") };
}

const channel = new MessageChannel();

/** Lets the worker's event loop go round once; timers would wait for milliseconds. */
function breath(): Promise<void> {
  return new Promise((resolve) => {
    channel.port1.onmessage = () => resolve();
    channel.port2.postMessage(null);
  });
}
