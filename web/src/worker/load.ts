// Loading: which backend the engine gets, and where the bytes of the file go.
import type { Engine, Header } from "#bindings";
import { isSoftware } from "../shared/adapter.ts";
import { abortError, type ErrorData, errorData, PagelmError } from "../shared/errors.ts";
import type { Operations } from "../shared/protocol.ts";
import type { BackendName, EngineInfo, LoadProgress } from "../shared/types.ts";
import { openSource, type Source } from "./fetch.ts";
import { throttled } from "./progress.ts";
import type { Task } from "./task.ts";
import { loadTuning, saveTuning } from "./tuning.ts";
import { Upload } from "./upload.ts";
import { type Started, startThreads } from "./wasm.ts";

type In<K extends keyof Operations> = Operations[K]["in"];

/**
 * Fetches a model, puts its weights where they belong, and starts the threads. `own` gets the engine before those run, so
 * that it can be freed from then on, and null where loading fails after that.
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

/** Reads the header of a model, and nothing else. */
export async function inspect({ wasm }: Started, r: In<"inspect">, task: Task): Promise<Operations["inspect"]["out"]> {
  const source: Source = await openSource(r.model, { signal: task.signal });
  const header = new wasm.Header(source.size);
  try {
    for await (const bytes of source.pieces()) {
      if (!header.push(bytes)) continue;
      return { info: header.info(r.options), size: source.size ?? null };
    }
    throw header.truncated();
  } catch (e) {
    throw located(e, r.model);
  } finally {
    header.free();
  }
}

/** What a GPU may refuse and a CPU may yet do. */
const GPU_REFUSALS = ["no-gpu", "gpu-error", "unsupported-type", "unsupported-architecture", "out-of-memory"];

/** Opens the engine on the backend that was asked for, or on the best that there is. */
async function open(started: Started, header: Header, { backend: wanted, tune, options }: In<"load">) {
  const model = header.info(options);
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
  // Apple's GPUs have no int8 dot product; WGSL emulates it.
  const { activations: numbers = "q8" } = options;
  const activations = backend === "webgpu" && /apple/i.test(adapterName) ? "f32" : numbers;
  const tuningKey = `${adapterName}, ${activations}`;
  const tuning = backend === "webgpu" && tune ? await loadTuning(tuningKey) : undefined;
  const given = { ...options, threads: started.threads };
  let engine: Engine;
  try {
    engine = await header.open({ ...given, backend, activations, tuning });
    const measured = engine.measured();
    if (measured) await saveTuning(tuningKey, measured);
  } catch (e) {
    const { code, message } = errorData(e);
    if (wanted !== "auto" || backend === "cpu" || !GPU_REFUSALS.includes(code)) throw e;
    engine = await header.open({ ...given, backend: "cpu" });
    [backend, backendReason] = ["cpu", message];
  }
  const seen = engine.stats();
  const info: EngineInfo = {
    model,
    backend,
    backendReason,
    adapter: seen.adapter && { ...seen.adapter, name: seen.adapter.name || adapterName },
    contextLength: seen.contextLength,
    wasm: { build: started.build, threads: 1, whyOneThread: null, whyFewerThreads: null },
  };
  return { engine, upload: new Upload(engine), info };
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
