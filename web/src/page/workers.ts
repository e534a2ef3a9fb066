// The engine's worker and the threads that compute for it. The page starts them all: a worker's own workers have
// no bundler that knows their script, and a browser may start them only while the first one waits for nothing.

import { errorData } from "../shared/errors.ts";
import type { FromWorker, ToWorker } from "../shared/protocol.ts";
import type { Port } from "./client.ts";
import type { Script } from "./script.ts";

/** How long the workers have to end by themselves. Chromium lets one that is in wasm go on for two seconds. */
const GRACE_MS = 100;

export class Workers implements Port {
  onmessage: Port["onmessage"] = null;
  onerror: Port["onerror"] = null;
  onmessageerror: Port["onmessageerror"] = null;
  #script: Script;
  #engine: Worker;
  #threads: Worker[] = [];
  #stop: Int32Array | undefined;
  #ended = new AbortController();

  /** `stop`: what the engine looks at while it computes. */
  constructor(script: Script, engine: Worker, stop: Int32Array | undefined) {
    this.#script = script;
    this.#engine = engine;
    this.#stop = stop;
    engine.onmessage = (event: MessageEvent<FromWorker>) => {
      if (event.data.op === "threads") for (const port of event.data.ports) this.#lend(port);
      else this.onmessage?.({ data: event.data });
    };
    engine.onerror = (event) => this.onerror?.(event);
    engine.onmessageerror = (event) => this.onmessageerror?.(event);
  }

  postMessage(message: ToWorker): void {
    this.#engine.postMessage(message);
  }

  /** Starts a thread that does what it is told at `port`. The page itself never holds the engine's memory. */
  async #lend(port: MessagePort): Promise<void> {
    try {
      const thread = await this.#script.start(this.#ended.signal);
      this.#threads.push(thread);
      thread.postMessage({ op: "thread", port }, [port]);
    } catch (e) {
      port.postMessage({ op: "fatal", error: errorData(e) });
    }
  }

  terminate(): void {
    this.#ended.abort();
    if (this.#stop) Atomics.store(this.#stop, 0, 1);
    const all = [this.#engine, ...this.#threads];
    this.#engine.postMessage({ op: "end" });
    setTimeout(() => all.map((worker) => worker.terminate()), all.length > 1 ? GRACE_MS : 0);
  }
}
