// Pieces of the file go directly to their place: into GPU buffers by the raw handles, or into the engine's memory.
import type { Engine } from "#bindings";

/** Bytes that may be queued in the browser for the GPU. */
const IN_FLIGHT = 32 << 20;

export class Upload {
  #engine: Engine;
  #queue: GPUQueue | null;
  #waiting = 0;

  constructor(engine: Engine) {
    this.#engine = engine;
    this.#queue = engine.queue();
  }

  /** Writes the bytes at `offset` of the file to where they belong. Bytes that are not needed are dropped. */
  async take(offset: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    for (const { start, end, buffer, ...to } of this.#engine.targets(offset, bytes.length)) {
      if (buffer) {
        this.#queue!.writeBuffer(buffer, to.bufferOffset, bytes, start, end - start);
        this.#waiting += end - start;
      } else {
        this.#engine.write(to.weight, to.weightOffset, bytes.subarray(start, end));
      }
    }
    if (this.#waiting >= IN_FLIGHT) await this.flush();
  }

  /** Waits until the GPU has received everything; throws if it failed. */
  async flush(): Promise<void> {
    this.#waiting = 0;
    // Some browsers flush writes only with the next submission.
    this.#queue?.submit([]);
    await this.#queue?.onSubmittedWorkDone();
    this.#engine.check();
  }
}
