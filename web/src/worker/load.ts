// Loading: which backend the engine gets, and where the bytes of the file go.
import type { Bindings, Choice, Engine, Header, HostFacts } from "#bindings";
import { type ErrorData, errorData, PagelmError } from "../shared/errors.ts";
import type { Operations, WireModel, WireOptions } from "../shared/protocol.ts";
import type { BackendFit, BackendName, EngineInfo } from "../shared/types.ts";
import type { Feed, Piece } from "./feed.ts";
import { ModelFiles } from "./files.ts";
import { Meter } from "./progress.ts";
import type { Task } from "./task.ts";
import { loadTuning, saveTuning } from "./tuning.ts";
import { Upload } from "./upload.ts";
import { type Started, startThreads } from "./wasm.ts";

type In<K extends keyof Operations> = Operations[K]["in"];

/**
 * Fetches a model and writes its weights to where they belong, while the threads start. `own` gets the engine before these
 * run, so that it can be freed from then on, and null if loading fails after that.
 */
export async function load(
  starting: Promise<Started>,
  r: In<"load">,
  task: Task,
  own: (engine: Engine | null) => void,
): Promise<EngineInfo> {
  const meter = new Meter((p) => task.pieces([p]));
  return twice(r.model, starting, () => loadWeights(starting, r, task, meter, own));
}

/** Once more with the file that the server has now, if that changed on the way. What was stored of the other is gone. */
export async function twice<T>(model: WireModel, starting: Promise<unknown>, step: () => Promise<T>): Promise<T> {
  try {
    return await step().catch((e) => {
      if (errorData(e).code !== "model-changed") throw e;
      return step();
    });
  } catch (e) {
    // What keeps the module away comes first: it may keep the model away too.
    await starting;
    throw located(e, model);
  }
}

async function loadWeights(
  starting: Promise<Started>,
  r: In<"load">,
  task: Task,
  meter: Meter,
  own: (engine: Engine | null) => void,
): Promise<EngineInfo> {
  const files = await ModelFiles.open(r.model, r.source, {
    mmproj: r.mmproj,
    write: true,
    starting,
    signal: task.signal,
    fetch: r.source.fetch && task.fetch,
    onStall: () => meter.note({ stalled: true }),
    onWait: () => meter.note({ phase: "waiting" }),
  });
  let opened: Awaited<ReturnType<typeof open>> | null = null;
  let threads: ReturnType<typeof startThreads> | undefined;
  let header: Header | null = null;
  try {
    const note = (phase: "header" | "weights", { from }: Piece) =>
      meter.note({ phase, loaded: files.loaded, total: files.size, from });
    const heads = await headersOf(starting, files, (piece) => note("header", piece));
    header = heads.header;
    const started = await starting;
    opened = await open(started, header, r);
    const { engine, upload, info } = opened;
    own(engine);
    threads = startThreads(started, (ports) => task.threads(ports), r.life);
    const take = async (start: number, piece: Piece) => {
      await upload.take(start + piece.offset, piece.bytes);
      note("weights", piece);
    };
    for (const { feed, start, held, rest } of heads.parts) {
      feed.spread = true;
      await take(start, held);
      for await (const piece of rest) await take(start, piece);
    }
    await upload.flush();
    engine.finish();
    const { threads: running, why } = await threads;
    task.signal.throwIfAborted();
    meter.note({ phase: "ready", loaded: files.loaded, total: files.loaded });
    return { ...info, source: files.source, wasm: wasmInfo(started, info.backend, running, why) };
  } catch (e) {
    own(null);
    opened?.engine.free();
    // Another try has threads of its own.
    await threads?.catch(() => {});
    // Bytes that are no model would be found again and again.
    if (/gguf/.test(errorData(e).code)) await files.discard();
    throw e;
  } finally {
    header?.free();
    files.close();
  }
}

/** Where the engine looks for the file of the encoder: behind that of any model. */
const ENCODER_AT = 2 ** 50;

/** A file after its header. */
interface Head {
  feed: Feed;
  /** Where it begins, if all files lie one after another. */
  start: number;
  /** The piece in which the header ended. */
  held: Piece;
  rest: AsyncGenerator<Piece, void, void>;
}

/** Reads the headers of all files as one: those of the model, then those of the part of it that sees. */
async function headersOf(starting: Promise<Started>, { feeds, own }: ModelFiles, note: (piece: Piece) => void) {
  const model = await joined(starting, feeds.slice(0, own), note);
  if (own < feeds.length) {
    // Bytes that are held may be gone once there are others.
    for (const { held } of model.parts) held.bytes = held.bytes.slice();
    const { header, parts } = await joined(starting, feeds.slice(own), note);
    model.header.setEncoder(header);
    for (const part of parts) part.start += ENCODER_AT;
    model.parts.push(...parts);
  }
  return model;
}

/** The headers of files, which may be given in any order, as one. */
async function joined(starting: Promise<Started>, feeds: Feed[], note: (piece: Piece) => void) {
  const found: (Omit<Head, "start"> & { header: Header })[] = [];
  try {
    for (const feed of feeds) {
      const rest = feed.pieces();
      // How long the file is, its server says with the first piece.
      let next = await rest.next();
      const { wasm } = await starting;
      const header = new wasm.Header(feed.size);
      found.push({ feed, header, rest, held: next.value! });
      for (; ; next = await rest.next()) {
        if (next.done) throw header.truncated();
        const { bytes } = next.value;
        note(next.value);
        if (!header.push(bytes)) continue;
        // Only the last one's bytes stay as they are until the weights are taken.
        found.at(-1)!.held = { ...next.value, bytes: found.length < feeds.length ? bytes.slice() : bytes };
        break;
      }
    }
    const [first] = found;
    if (found.length === 1) return { header: first!.header, parts: [{ ...first!, start: 0 }] };
    found.sort((a, b) => a.header.part() - b.header.part());
    let end = 0;
    const parts = found.map((head) => {
      const start = end;
      const { size, part } = head.feed;
      if (size === undefined) {
        throw new PagelmError("split-file", "its server does not say how long this part is", part.name);
      }
      end += size;
      return { ...head, start };
    });
    const starts = Float64Array.from(parts, (p) => p.start);
    const names = parts.map((p) => p.feed.part.name);
    // They are the module's from here on.
    const headers = found.splice(0).map((p) => p.header);
    const { wasm } = await starting;
    return { header: wasm.Header.join(headers, starts, names), parts };
  } catch (e) {
    for (const { header } of found) header.free();
    throw e;
  }
}

/** Reads only the header of a model. */
export async function inspect(
  starting: Promise<Started>,
  r: In<"inspect">,
  task: Task,
): Promise<Operations["inspect"]["out"]> {
  return twice(r.model, starting, async () => {
    const files = await ModelFiles.open(r.model, r.source, {
      mmproj: r.mmproj,
      write: false,
      starting,
      signal: task.signal,
      fetch: r.source.fetch && task.fetch,
      segment: HEADER_SEGMENT,
    });
    let header: Header | null = null;
    try {
      header = (await headersOf(starting, files, () => {})).header;
      const found = await findBackend(r.backend, r.options);
      const { wasm } = await starting;
      const { size = null } = files;
      const stored = files.feeds.every((feed) => feed.entry?.complete);
      const { choice, model } = plan(wasm, header, found, r.options);
      return { info: model, size, stored, backends: fits(wasm, header, found, choice, r.options) };
    } finally {
      header?.free();
      files.close();
    }
  });
}

/** Where and how the model fits: on the backend that was chosen, and then on the others that this browser has. */
function fits(wasm: Bindings, header: Header, found: Found, choice: Choice, options: WireOptions): BackendFit[] {
  const gpu = found.facts.adapter ? (["webgpu"] as const) : [];
  return [...new Set([choice.backend, ...gpu, "cpu" as const])].map((backend) => {
    const { kernels } = wasm.choose({ ...found.facts, backend });
    try {
      const given = { ...options, backend, maxBinding: found.maxBinding, ...(kernels && { kernels }) };
      return { backend, fit: header.fit(given), problem: null };
    } catch (e) {
      return { backend, fit: null, problem: errorData(e) };
    }
  });
}

/** Bytes of a request for a header: most are smaller. */
const HEADER_SEGMENT = 1 << 20;

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
  const info = {
    model,
    backend: choice.backend,
    backendReason: choice.reason,
    adapter: seen.adapter && { ...seen.adapter, name: seen.adapter.name || found.adapterName },
    contextLength: seen.contextLength,
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
function located(e: unknown, model: WireModel): unknown {
  if (e instanceof Error) return e;
  const data = errorData(e) as ErrorData;
  const name = typeof model === "string" ? model : "name" in model ? String(model.name) : "";
  return { ...data, place: [name, data.place].filter(Boolean).join(": ") };
}
