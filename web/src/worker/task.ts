/// <reference lib="webworker" />
// A request in the worker, from its message to its answer.
import { PagelmError } from "../shared/errors.ts";
import type { FetchAnswer, FromWorker, Request } from "../shared/protocol.ts";

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
    this.credit = (request as { credit?: number }).credit ?? 0;
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

  /** The page's own fetch function. */
  readonly fetch = async (url: string, { headers, signal, ...init }: RequestInit): Promise<Response> => {
    const { port1: port, port2 } = new MessageChannel();
    let settle: (answer: FetchAnswer) => void;
    let fail: (e: unknown) => void;
    const answer = () =>
      new Promise<FetchAnswer>((resolve, reject) => {
        [settle, fail] = [resolve, reject];
      });
    const stop = () => {
      port.postMessage("stop");
      port.close();
    };
    port.onmessage = ({ data }: MessageEvent<FetchAnswer>) => {
      if ("error" in data) fail(PagelmError.from(data.error));
      else settle(data);
    };
    signal?.addEventListener("abort", () => {
      stop();
      fail(signal.reason);
    });
    const first = answer();
    post({ op: "fetch", id: this.id, url, init: { ...init, headers: [...new Headers(headers)] }, port: port2 }, [
      port2,
    ]);
    const { head, empty } = (await first) as Extract<FetchAnswer, { empty: boolean }>;
    const body = new ReadableStream({
      async pull(to) {
        port.postMessage("more");
        const { bytes } = (await answer()) as Extract<FetchAnswer, { bytes: unknown }>;
        if (bytes) to.enqueue(bytes);
        else to.close();
      },
      cancel: stop,
    });
    return new Response(empty ? null : body, head);
  };

  pieces(values: unknown[], journal: number[] = []): void {
    this.credit -= values.length;
    post({ op: "pieces", id: this.id, values, journal });
  }
}
