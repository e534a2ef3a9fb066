/// <reference lib="webworker" />
// A request in the worker, from its message to its answer.
import type { FromWorker, Request } from "../shared/protocol.ts";

export const post = (message: FromWorker, transfer: Transferable[] = []) => self.postMessage(message, { transfer });

/** A request that waits or runs. */
export class Task {
  readonly id: number;
  readonly abort = new AbortController();
  /** How many pieces the page still takes. */
  credit: number;
  /** Called when there is more credit, and by an abort. */
  wake = () => {};

  constructor(request: Request) {
    this.id = request.id;
    this.credit = "credit" in request ? request.credit : 0;
    this.signal.addEventListener("abort", () => this.wake());
  }

  get signal(): AbortSignal {
    return this.abort.signal;
  }

  give(pieces: number): void {
    this.credit += pieces;
    this.wake();
  }

  /** Asks the page for threads. */
  threads(ports: MessagePort[]): void {
    if (ports.length) post({ op: "threads", ports }, ports);
  }

  piece(value: unknown): void {
    this.credit--;
    post({ op: "piece", id: this.id, value });
  }
}
