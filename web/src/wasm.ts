// The engine's module in a worker: its start, and the threads on its memory.
import { errorData, PagelmError } from "./errors.ts";
import { forbids, watchPolicy } from "./policy.ts";
import type { FromThread, StartThread, WasmOptions } from "./protocol.ts";
import type { WasmBuild } from "./types.ts";

type Script = typeof import("../pkg/base/pagelm.js");
/** The functions of the engine's module, whichever the build; its start takes a memory in those with threads. */
export interface Wasm extends Omit<Script, "default" | "initSync"> {
  default(from: { module_or_path: WebAssembly.Module; memory?: WebAssembly.Memory }): Promise<unknown>;
}

/** Those that a worker's script has. */
export type Builds = { [B in WasmBuild]?: Wasm };

/** A started module, and what a thread needs to start it again on the same memory. */
export interface Started {
  wasm: Wasm;
  options: WasmOptions;
  module: WebAssembly.Module;
  memory: WebAssembly.Memory | undefined;
}

// Spelled out, so that bundlers find the files.
const FILES: Record<WasmBuild, () => URL> = {
  base: () => new URL("./pagelm-base.wasm", import.meta.url),
  relaxed: () => new URL("./pagelm-relaxed.wasm", import.meta.url),
  threads: () => new URL("./pagelm-threads.wasm", import.meta.url),
  "threads-relaxed": () => new URL("./pagelm-threads-relaxed.wasm", import.meta.url),
};

/** Loads and starts the build that the page chose. */
export async function startWasm(builds: Builds, options: WasmOptions): Promise<Started> {
  const { build, folder } = options;
  const wasm = known(builds, build);
  const url = folder ? new URL(`pagelm-${build}.wasm`, folder) : FILES[build]();
  const memory = build.startsWith("threads") ? sharedMemory() : undefined;
  const policy = watchPolicy();
  try {
    const module = await compile(url);
    await wasm.default({ module_or_path: module, ...(memory && { memory }) });
    return { wasm, options, module, memory };
  } catch (e) {
    const violation = await policy.violation();
    const why = violation ? forbids(violation, url.href) : "are the wasm files served, or is wasmUrl right?";
    throw new PagelmError("engine-not-loaded", `the engine did not load (${errorData(e).message}); ${why}`, url.href);
  } finally {
    policy.end();
  }
}

function known(builds: Builds, build: WasmBuild): Wasm {
  const wasm = builds[build];
  if (wasm) return wasm;
  const message = `this worker's script has no build ${build}, it has ${Object.keys(builds)}; is workerUrl right?`;
  throw new PagelmError("engine-not-loaded", message);
}

async function compile(url: URL): Promise<WebAssembly.Module> {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
  if (response.headers.get("Content-Type") === "application/wasm") return WebAssembly.compileStreaming(response);
  return WebAssembly.compile(await response.arrayBuffer());
}

/** Shared memory for as much as the browser gives room for: on phones less than the 4 GB that a module can have. */
function sharedMemory(): WebAssembly.Memory {
  for (const maximum of [65536, 32768, 16384, 8192]) {
    try {
      return new WebAssembly.Memory({ initial: 256, maximum, shared: true });
    } catch {
      // A smaller one may do.
    }
  }
  throw new PagelmError("out-of-memory", "the browser gives no shared memory; ask for one thread (threads: 1)");
}

/** How long a load waits for threads that do not come: they may come later, and nothing depends on them. */
const PATIENCE_MS = 3000;

/** Starts the threads that the engine could use. Resolves when they run, or will not. */
export async function startThreads({ wasm, options, module, memory }: Started): Promise<void> {
  if (!memory) return;
  const message: StartThread = { op: "thread", build: options.build, module, memory };
  const start = () => {
    // This worker's own script, whatever a bundler made of it and wherever the page said it is.
    const worker = new Worker(self.location.href, { type: "module", name: "pagelm thread" });
    worker.postMessage(message);
    return new Promise<void>((resolve) => {
      // The engine works without it, so a failure is nothing that the page must know.
      const failed = (why: string | undefined) => {
        console.warn(`pagelm: a thread did not start, or failed: ${why ?? "its script did not load"}`);
        resolve();
      };
      worker.onmessage = ({ data }: MessageEvent<FromThread>) =>
        data.op === "fatal" ? failed(data.error.message) : resolve();
      worker.onerror = (event) => {
        event.preventDefault();
        failed(event.message);
      };
    });
  };
  // One after the other: Firefox now and then hangs where a worker starts two at once.
  const all = async () => {
    for (let n = wasm.threads_wanted(); n > 0; n--) await start();
  };
  await Promise.race([all(), new Promise((resolve) => setTimeout(resolve, PATIENCE_MS))]);
}

/** A thread's whole life: starts the module on the engine's memory and works until the engine is gone. */
export async function runThread(
  builds: Builds,
  { build, module, memory }: StartThread,
  post: (message: FromThread) => void,
): Promise<void> {
  const wasm = known(builds, build);
  await wasm.default({ module_or_path: module, memory });
  post({ op: "running" });
  try {
    wasm.lend_thread();
  } catch (e) {
    wasm.thread_failed();
    throw e;
  }
}
