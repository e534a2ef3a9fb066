// The engine's module in a worker: its start, and the threads on its memory.
import type { Bindings, Builds } from "#bindings";
import { allow, watchPolicy } from "../shared/csp.ts";
import { errorData, PagelmError } from "../shared/errors.ts";
import { lock } from "../shared/locks.ts";
import type { FromThread, StartThread, WasmOptions } from "../shared/protocol.ts";
import type { WasmBuild } from "../shared/types.ts";

/** A started module, and what a thread needs to start it again on the same memory. */
export interface Started {
  wasm: Bindings;
  build: WasmBuild;
  module: WebAssembly.Module;
  memory: WebAssembly.Memory | undefined;
  threads: number;
  /** Why this build has one thread, if so. */
  whyOneThread: string | null;
}

// Literal, so that bundlers find the files.
const FILES: Record<WasmBuild, () => URL> = {
  base: () => new URL("./pagelm-base.wasm", import.meta.url),
  relaxed: () => new URL("./pagelm-relaxed.wasm", import.meta.url),
  threads: () => new URL("./pagelm-threads.wasm", import.meta.url),
  "threads-relaxed": () => new URL("./pagelm-threads-relaxed.wasm", import.meta.url),
};

/** Loads and starts the best build that is present. */
export async function startWasm(scripts: Builds, options: WasmOptions): Promise<Started> {
  const failed: PagelmError[] = [];
  for (const build of options.builds) {
    try {
      const started = await startBuild(scripts, build, options.folder);
      const [first] = failed;
      if (first) console.warn(`pagelm: ${first.message} (${first.place}); the build ${build} runs instead`);
      const whyOneThread = started.memory
        ? null
        : (options.whyOneThread ?? first?.message ?? `the build ${build} has one`);
      return { ...started, threads: options.threads, whyOneThread };
    } catch (e) {
      failed.push(e as PagelmError);
    }
  }
  throw failed[0];
}

async function startBuild(scripts: Builds, build: WasmBuild, folder: string | undefined) {
  const wasm = known(scripts, build);
  const watched = watchPolicy();
  let url: URL | undefined;
  try {
    url = folder ? new URL(`pagelm-${build}.wasm`, folder) : FILES[build]();
    const module = await compile(url);
    const memory = build.startsWith("threads") ? sharedMemory() : undefined;
    await wasm.default({ module_or_path: module, ...(memory && { memory }) });
    return { wasm, build, module, memory };
  } catch (e) {
    if (e instanceof PagelmError) throw e;
    const { message } = errorData(e);
    const forbidden = await watched.violation(["connect-src", "script-src"]);
    const what = `the engine did not load: ${message}; ${remedy(message, url, forbidden?.effectiveDirective)}`;
    throw new PagelmError("engine-not-loaded", what, url?.href);
  } finally {
    watched.end();
  }
}

function remedy(message: string, url: URL | undefined, forbidden: string | undefined): string {
  const { origin } = url ?? self.location;
  if (forbidden === "connect-src") return allow(origin, forbidden);
  if (forbidden || /content security policy|unsafe-eval|CSP/i.test(message)) {
    return allow("'wasm-unsafe-eval'", "script-src");
  }
  const other =
    origin !== self.location.origin && "its server must allow other origins with Access-Control-Allow-Origin; ";
  return `${other || ""}are the wasm files served, or is wasmUrl right?`;
}

function known(scripts: Builds, build: WasmBuild): Bindings {
  const wasm = scripts[build];
  if (wasm) return wasm;
  const message = `the worker lacks the build ${build}, it has ${Object.keys(scripts)}: is workerUrl right?`;
  throw new PagelmError("engine-not-loaded", message);
}

async function compile(url: URL): Promise<WebAssembly.Module> {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
  if (response.headers.get("Content-Type") === "application/wasm") return WebAssembly.compileStreaming(response);
  return WebAssembly.compile(await response.arrayBuffer());
}

/** Shared memory as large as the browser allows: on phones less than the 4 GB that a module can have. */
function sharedMemory(): WebAssembly.Memory {
  for (const maximum of [65536, 32768, 16384, 8192]) {
    try {
      return new WebAssembly.Memory({ initial: 256, maximum, shared: true });
    } catch {
      // A smaller one may be allowed.
    }
  }
  throw new PagelmError("out-of-memory", "the browser has no shared memory left: use one thread (threads: 1)");
}

/** How many seconds a load waits for threads. */
const PATIENCE_S = 10;

/**
 * Asks the page to start the threads that the engine can use, and waits for them: `ask` passes it a port for each.
 * Returns how many run, including the engine's own, and why the others do not.
 */
export async function startThreads(
  { wasm, build, module, memory }: Started,
  ask: (ports: MessagePort[]) => void,
  life?: string,
) {
  const channels = Array.from({ length: memory ? wasm.threadsWanted() : 0 }, () => new MessageChannel());
  let timer: ReturnType<typeof setInterval> | undefined;
  let left = PATIENCE_S;
  const late = new Promise<string>((resolve) => {
    // Time in which the page was frozen does not count.
    timer = setInterval(() => --left || resolve(`it did not run within ${PATIENCE_S} s`), 1000);
  });
  const start = ({ port1 }: MessageChannel) =>
    new Promise<string | null>((resolve) => {
      port1.onmessage = ({ data }: MessageEvent<FromThread>) =>
        resolve(data.op === "running" ? null : data.error.message);
      port1.postMessage({ build, module, memory, life } as StartThread);
    }).catch((e) => errorData(e).message); // memory that cannot be shared
  const started = channels.map((channel) => Promise.race([start(channel), late]));
  ask(channels.map(({ port2 }) => port2));
  const failed = (await Promise.all(started)).filter((why) => why !== null);
  clearInterval(timer);
  // Those that start later find nothing to do.
  const threads = wasm.closeThreads();
  const why = failed.length ? `${failed.length} of ${channels.length} threads did not start: ${failed[0]}` : null;
  if (why) console.warn(`pagelm: ${why}`);
  return { threads, why };
}

/**
 * The life of a thread: it starts the module on the memory that comes from the engine, and works until that is gone.
 */
export function runThread(scripts: Builds, port: MessagePort): void {
  const post = (message: FromThread) => port.postMessage(message);
  const failed = (e: unknown) => {
    console.warn("pagelm: a thread failed:", e);
    post({ op: "fatal", error: errorData(e) });
  };
  port.onmessageerror = () => failed("the engine's memory could not be shared with it");
  port.onmessage = async ({ data: { build, module, memory, life } }: MessageEvent<StartThread>) => {
    try {
      const wasm = known(scripts, build);
      await wasm.default({ module_or_path: module, memory });
      if (wasm.joinEngine()) {
        // Not in Firefox, which keeps no page whose workers hold locks: a thread that waits in the module cannot give it back.
        if ("userAgentData" in navigator) await lock(`${life} ${Math.random()}`, {});
        post({ op: "running" });
        work(wasm);
      }
    } catch (e) {
      failed(e);
    }
    self.close();
  };
}

function work(wasm: Bindings): void {
  try {
    wasm.lendThread();
  } catch (e) {
    wasm.threadFailed();
    throw e;
  }
}
