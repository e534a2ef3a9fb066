// Pieces of the file go straight to their place: into GPU buffers by the raw handles, or into the engine's memory.
import type { Engine } from "../../pkg/base/pagelm.js";

/** Which bytes go to byte `at` of a GPU buffer, or else to byte `offset` of a weight. */
type Target = [start: number, end: number, buffer: GPUBuffer | null, at: number, weight: number, offset: number];

/** Bytes that may wait in the browser for the GPU to take them. */
const IN_FLIGHT = 32 << 20;

export class Upload {
  #engine: Engine;
  #queue: GPUQueue | null;
  #waiting = 0;

  constructor(engine: Engine) {
    this.#engine = engine;
    this.#queue = engine.queue() as GPUQueue | null;
  }

  /** Puts the bytes at `offset` of the file where they belong. Bytes that nothing wants are dropped. */
  async take(offset: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const targets = this.#engine.targets(offset, bytes.length) as Target[];
    for (const [start, end, buffer, at, weight, weightOffset] of targets) {
      if (buffer) {
        this.#queue!.writeBuffer(buffer, at, bytes, start, end - start);
        this.#waiting += end - start;
      } else {
        this.#engine.write(weight, weightOffset, bytes.subarray(start, end));
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
