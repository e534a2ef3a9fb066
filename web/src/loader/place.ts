// Pieces of the file go straight to their place: into GPU buffers by the raw handles, or into the engine's memory.
import type { Engine } from "../../pkg/pagelm.js";

interface Target {
  start: number;
  end: number;
  buffer: GPUBuffer | null;
  at: number;
  weight: number;
  offset: number;
}

/** Bytes that may wait in the browser for the GPU to take them. */
const IN_FLIGHT = 32 << 20;

export class Placer {
  #engine: Engine;
  #queue: GPUQueue | null;
  #waiting = 0;

  constructor(engine: Engine) {
    this.#engine = engine;
    this.#queue = engine.queue() as GPUQueue | null;
  }

  /** Puts the bytes at `offset` of the file where they belong. Bytes that nothing wants are dropped. */
  async take(offset: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    for (const t of this.#engine.targets(offset, bytes.length) as Target[]) {
      if (t.buffer) {
        this.#queue!.writeBuffer(t.buffer, t.at, bytes, t.start, t.end - t.start);
        this.#waiting += t.end - t.start;
      } else {
        this.#engine.write(t.weight, t.offset, bytes.subarray(t.start, t.end));
      }
    }
    if (this.#waiting >= IN_FLIGHT) await this.flush();
  }

  /** Waits until the GPU took everything, and learns whether it could. */
  async flush(): Promise<void> {
    this.#waiting = 0;
    // Some browsers pass writes on with the next submission only.
    this.#queue?.submit([]);
    await this.#queue?.onSubmittedWorkDone();
    this.#engine.check();
  }
}
