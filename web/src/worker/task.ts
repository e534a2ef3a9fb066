/// <reference lib="webworker" />
// A request in the worker, from its message to its answer.
import { abortError } from "../shared/errors.ts";
import type { FromWorker, Request } from "../shared/protocol.ts";

export const post = (message: FromWorker, transfer: Transferable[] = []) => self.postMessage(message, { transfer });

/** A request that waits or runs. */
export class Task {
  readonly id: number;
  readonly abort = new AbortController();
  #credit: number;
  #wake: (() => void) | null = null;

  constructor(request: Request) {
    this.id = request.id;
    this.#credit = "credit" in request ? request.credit : 0;
    this.abort.signal.addEventListener("abort", () => this.#wake?.());
  }

  get signal(): AbortSignal {
    return this.abort.signal;
  }

  give(pieces: number): void {
    this.#credit += pieces;
    this.#wake?.();
  }

  /** Waits until the page wants another piece. */
  async spend(): Promise<void> {
    while (this.#credit <= 0 && !this.signal.aborted) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    if (this.signal.aborted) throw abortError();
    this.#credit--;
  }

  /** Asks the page for threads. */
  threads(ports: MessagePort[]): void {
    if (ports.length) post({ op: "threads", ports }, ports);
  }

  piece(value: unknown): void {
    post({ op: "piece", id: this.id, value });
  }
}
