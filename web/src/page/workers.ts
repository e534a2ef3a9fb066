// The engine's worker and the threads that compute for it. The page starts them all: in a worker, bundlers do not find
// the script of nested workers, and a browser may start those only while the first worker is idle.

import { errorData } from "../shared/errors.ts";
import type { FromWorker, ToWorker } from "../shared/protocol.ts";
import type { Port } from "./client.ts";
import type { Script } from "./script.ts";

/** How long the workers may take to end by themselves. Chromium lets one that is in wasm run on for two seconds. */
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

  /** `stop`: what the engine checks while it computes. */
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

  /** Starts a thread that follows instructions from `port`. The page itself never holds the engine's memory. */
  async #lend(port: MessagePort): Promise<void> {
    try {
      const thread = await this.#script.start(this.#ended.signal);
      this.#threads.push(thread);
      // All wait for each: the engine is lost with one. A thread says nothing else.
      thread.onmessage = this.#engine.onmessage;
      thread.onerror = this.#engine.onerror;
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
    setTimeout(() => all.map((worker) => worker.terminate()), GRACE_MS);
  }
}
