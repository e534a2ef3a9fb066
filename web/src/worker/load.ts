// Loading: which backend the engine gets, and where the bytes of the file go.
import type { Bindings, Choice, Engine, Header, HostFacts } from "#bindings";
import { abortError, type ErrorData, errorData } from "../shared/errors.ts";
import type { Operations, WireOptions } from "../shared/protocol.ts";
import type { BackendName, EngineInfo, LoadProgress } from "../shared/types.ts";
import { openSource, type Source } from "./fetch.ts";
import { throttled } from "./progress.ts";
import type { Task } from "./task.ts";
import { loadTuning, saveTuning } from "./tuning.ts";
import { Upload } from "./upload.ts";
import { type Started, startThreads } from "./wasm.ts";

type In<K extends keyof Operations> = Operations[K]["in"];

/**
 * Fetches a model, writes its weights to where they belong, and starts the threads. `own` gets the engine before the
 * threads run, so that it can be freed from then on, and null if loading fails after that.
 */
export async function load(
  started: Started,
  r: In<"load">,
  task: Task,
  own: (engine: Engine | null) => void,
): Promise<EngineInfo> {
  const report = throttled((p) => task.piece(p));
  let now: LoadProgress = { phase: "header", loaded: 0, total: undefined, stalled: false };
  const progress = (p: Partial<LoadProgress>) => {
    now = { ...now, stalled: false, ...p };
    report(now);
  };
  const onStall = () => progress({ stalled: true });
  const source = await openSource(r.model, { signal: task.signal, onStall });
  const header = new started.wasm.Header(source.size);
  let offset = 0;
  let opened: Awaited<ReturnType<typeof open>> | null = null;
  try {
    for await (const bytes of source.pieces()) {
      if (!opened && header.push(bytes)) opened = await open(started, header, r);
      if (opened) await opened.upload.take(offset, bytes);
      offset += bytes.length;
      if (!opened) {
        progress({ phase: "header", loaded: offset, total: source.size });
        continue;
      }
      const { loaded, total } = opened.engine.progress();
      progress({ phase: "weights", loaded, total });
      if (loaded === total) break;
    }
    if (!opened) throw header.truncated();
    await opened.upload.flush();
    opened.engine.finish();
    own(opened.engine);
    const { threads, why } = await startThreads(started, (ports) => task.threads(ports));
    if (task.signal.aborted) throw abortError();
    opened.info.wasm = wasmInfo(started, opened.info.backend, threads, why);
    const bytes = opened.info.model.weightBytes ?? 0;
    progress({ phase: "ready", loaded: bytes, total: bytes });
    return opened.info;
  } catch (e) {
    own(null);
    opened?.engine.free();
    throw located(e, r.model);
  } finally {
    header.free();
  }
}

/** Reads only the header of a model. */
export async function inspect({ wasm }: Started, r: In<"inspect">, task: Task): Promise<Operations["inspect"]["out"]> {
  const source: Source = await openSource(r.model, { signal: task.signal });
  const header = new wasm.Header(source.size);
  try {
    for await (const bytes of source.pieces()) {
      if (!header.push(bytes)) continue;
      const found = await findBackend("auto", r.options);
      return { info: plan(wasm, header, found, r.options).model, size: source.size ?? null };
    }
    throw header.truncated();
  } catch (e) {
    throw located(e, r.model);
  } finally {
    header.free();
  }
}

/** Opens the engine on the requested backend, or on the best one. */
async function open(started: Started, header: Header, { backend, tune, options }: In<"load">) {
  const { wasm, threads } = started;
  const found = await findBackend(backend, options);
  let { choice, model } = plan(wasm, header, found, options);
  if (model.problem) throw model.problem;
  const tuningKey = `${found.adapterName}, ${choice.activations}`;
  const tuning = choice.backend === "webgpu" && tune ? await loadTuning(tuningKey) : undefined;
  let engine: Engine;
  try {
    engine = await header.open({ ...options, ...running(choice), threads, tuning });
    const measured = engine.measured();
    if (measured) await saveTuning(tuningKey, measured);
  } catch (e) {
    const { code, message } = errorData(e);
    const other = wasm.fallBack(found.facts, code, message);
    if (choice.backend !== "webgpu" || !other) throw e;
    choice = other;
    model = header.info({ ...options, ...running(choice) });
    engine = await header.open({ ...options, ...running(choice), threads });
  }
  const seen = engine.stats();
  const info: EngineInfo = {
    model,
    backend: choice.backend,
    backendReason: choice.reason,
    adapter: seen.adapter && { ...seen.adapter, name: seen.adapter.name || found.adapterName },
    contextLength: seen.contextLength,
    wasm: { build: started.build, threads: 1, whyOneThread: null, whyFewerThreads: null },
  };
  return { engine, upload: new Upload(engine), info };
}

/** The best backend that can run the model, with the model on it. */
function plan(wasm: Bindings, header: Header, { facts, maxBinding }: Found, options: WireOptions) {
  const choice = wasm.choose(facts);
  const model = header.info({ ...options, ...running(choice), maxBinding });
  const { problem } = model;
  const other = problem && choice.backend === "webgpu" && wasm.fallBack(facts, problem.code, problem.message);
  return other ? { choice: other, model: header.info({ ...options, ...running(other) }) } : { choice, model };
}

/** The options that a choice sets. */
function running({ backend, activations, kvType, kernels }: Choice) {
  return { backend, activations, kvType, ...(kernels && { kernels }) };
}

/** The configuration that runs, and the reasons for its limits. */
function wasmInfo(
  { build, whyOneThread }: Started,
  backend: BackendName,
  threads: number,
  why: string | null,
): EngineInfo["wasm"] {
  const one = whyOneThread ?? why ?? `the backend ${backend} needs one`;
  return { build, threads, whyOneThread: threads === 1 ? one : null, whyFewerThreads: why };
}

interface Found {
  facts: HostFacts;
  /** As far as the browser reports it. */
  adapterName: string;
  maxBinding: number;
}

/** The facts by which a backend is chosen. */
async function findBackend(backend: HostFacts["backend"], options: WireOptions): Promise<Found> {
  const { activations, kvType, kernels } = options;
  const facts = { backend, activations, kvType, kernels };
  const none = { adapterName: "", maxBinding: 0 };
  if (backend === "cpu" || backend === "reference") return { facts, ...none };
  if (!("gpu" in navigator))
    return { facts: { ...facts, noAdapter: "this browser has no WebGPU in workers" }, ...none };
  const found = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" }).catch(() => null);
  if (!found) return { facts: { ...facts, noAdapter: "the browser found no GPU adapter" }, ...none };
  const { info, limits } = found;
  const words = [info.vendor, info.architecture, info.description].filter(Boolean);
  return {
    facts: { ...facts, adapter: { name: words.join(" "), isFallback: info.isFallbackAdapter === true } },
    adapterName: info.description || words.join(" "),
    maxBinding: Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize),
  };
}

/** Adds to an error of the engine which file it is about. */
function located(e: unknown, model: string | Blob): unknown {
  if (e instanceof Error) return e;
  const data = errorData(e) as ErrorData;
  const name = typeof model === "string" ? model : model instanceof File ? model.name : "";
  return { ...data, place: [name, data.place].filter(Boolean).join(": ") };
}
