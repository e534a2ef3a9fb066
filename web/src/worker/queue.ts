/// <reference lib="webworker" />
// The main loop of a worker: it owns the wasm module and the engine, and answers requests.
import type { Builds } from "#bindings";
import { abortError, errorData } from "../shared/errors.ts";
import type { Request, ToWorker } from "../shared/protocol.ts";
import { Handlers } from "./handlers.ts";
import { post, Task } from "./task.ts";
import { runThread } from "./wasm.ts";

let broken = false;

/** Tells the page that this worker cannot continue. */
function fatal(e: unknown): void {
  if (broken) return;
  broken = true;
  const error = errorData(e);
  if (error.code === "internal") error.message = `pagelm broke: ${error.message}`;
  post({ op: "fatal", error });
}

/** Sets up this worker with these builds. */
export function serve(builds: Builds): void {
  const handlers = new Handlers(builds, fatal);
  const tasks = new Map<number, Task>();
  self.onmessage = (event: MessageEvent<ToWorker>) => {
    const message = event.data;
    if (message.op === "thread") return runThread(builds, message.port);
    if (message.op === "end") return handlers.end().then(self.close);
    if (message.op === "abort") return tasks.get(message.target)?.abort.abort();
    if (message.op === "credit") return tasks.get(message.target)?.give(message.pieces);
    const task = new Task(message);
    tasks.set(task.id, task);
    run(handlers, message, task).finally(() => tasks.delete(task.id));
  };

  // A trap inside a promise of the wasm module ends up here, and that promise never settles; as does the end of an engine
  // in which something runs.
  self.addEventListener("unhandledrejection", (event) => fatal(event.reason));
  self.addEventListener("error", (event) => fatal(event.message));
  post({ op: "hello" });
}

async function run(handlers: Handlers, request: Request, task: Task): Promise<void> {
  try {
    const value: unknown = await handlers.run(request, task);
    const buffer = ArrayBuffer.isView(value) ? [value.buffer as ArrayBuffer] : [];
    post({ op: "done", id: task.id, value }, buffer);
  } catch (e) {
    const error = errorData(task.signal.aborted ? abortError() : e);
    // A trap leaves the module's memory in an undefined state.
    if (e instanceof WebAssembly.RuntimeError || /^(device-lost|gpu-error)$/.test(error.code)) return fatal(e);
    post({ op: "error", id: task.id, error });
  }
}
