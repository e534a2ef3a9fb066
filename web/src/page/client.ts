// The page's side of the protocol: requests, their pieces, and every way in which they can end.
import { abortError, PagelmError } from "../shared/errors.ts";
import type { FromWorker, Op, Operations, ToWorker } from "../shared/protocol.ts";
import type { FetchFunction } from "../shared/types.ts";
import { type Asked, serveFetch } from "./fetch.ts";

/** What the client needs of a worker; tests pass a fake. */
export interface Port {
  postMessage(message: ToWorker): void;
  terminate(): void;
  onmessage: ((event: { data: FromWorker }) => void) | null;
  onerror: ((event: { message?: string; preventDefault?: () => void }) => void) | null;
  onmessageerror: ((event: unknown) => void) | null;
}

interface Pending {
  done(value: unknown): void;
  fail(error: PagelmError): void;
  piece?: ((value: never) => void) | undefined;
  fetch?: ((asked: Asked) => void) | undefined;
}

export interface CallOptions<K extends Op> {
  signal?: AbortSignal | null | undefined;
  onPiece?: ((piece: Operations[K]["piece"]) => void) | undefined;
  /** What the worker may call for the request. */
  fetch?: FetchFunction | undefined;
}

export class Client {
  #port: Port;
  #pending = new Map<number, Pending>();
  #nextId = 1;
  /** Why no more requests are possible. */
  #ended: PagelmError | null = null;

  constructor(port: Port) {
    this.#port = port;
    port.onmessage = (event) => this.#receive(event.data);
    port.onerror = (event) => {
      event.preventDefault?.();
      this.end(new PagelmError("worker-lost", `the worker failed${event.message ? `: ${event.message}` : ""}`));
    };
    port.onmessageerror = () => this.end(new PagelmError("worker-lost", "a message of the worker could not be read"));
  }

  get ended(): PagelmError | null {
    return this.#ended;
  }

  /** Sends a request. The promise settles exactly once: by the answer, by the signal, or by the end of the worker. */
  call<K extends Op>(op: K, input: Operations[K]["in"], options: CallOptions<K> = {}): Promise<Operations[K]["out"]> {
    return this.start(op, input, options).result;
  }

  /** Like `call`, but returns a handle for pieces, credit and abort. */
  start<K extends Op>(op: K, input: Operations[K]["in"], { signal, onPiece, fetch }: CallOptions<K> = {}) {
    const id = this.#nextId++;
    const result = new Promise<Operations[K]["out"]>((resolve, reject) => {
      if (this.#ended) return reject(this.#ended);
      if (signal?.aborted) return reject(abortError(signal));
      const abort = () => this.#abort(id, signal);
      const over = new AbortController();
      const settle = () => {
        over.abort();
        this.#pending.delete(id);
        signal?.removeEventListener("abort", abort);
      };
      this.#pending.set(id, {
        done: (value) => {
          settle();
          resolve(value as Operations[K]["out"]);
        },
        fail: (error) => {
          settle();
          reject(error);
        },
        piece: onPiece as ((value: never) => void) | undefined,
        fetch: fetch && ((asked) => void serveFetch(fetch, asked, over.signal)),
      });
      signal?.addEventListener("abort", abort);
      try {
        this.#port.postMessage({ id, op, ...input } as ToWorker);
      } catch (e) {
        // For example a message that contains a function.
        this.#pending.get(id)?.fail(new PagelmError("invalid-argument", String(e), "", { cause: e }));
      }
    });
    return {
      result,
      abort: () => this.#abort(id),
      credit: (pieces: number) => {
        if (this.#pending.has(id)) this.#port.postMessage({ op: "credit", target: id, pieces });
      },
    };
  }

  /** Ends the worker. Open and later requests fail with `error`. */
  end(error: PagelmError): void {
    if (this.#ended) return;
    this.#ended = error;
    this.#port.onmessage = this.#port.onerror = this.#port.onmessageerror = null;
    this.#port.terminate();
    for (const p of [...this.#pending.values()]) p.fail(error);
  }

  #abort(id: number, signal?: AbortSignal | null): void {
    const pending = this.#pending.get(id);
    if (!pending) return;
    this.#port.postMessage({ op: "abort", target: id });
    pending.fail(abortError(signal ?? undefined));
  }

  #receive(message: FromWorker): void {
    if (message.op === "fatal") {
      this.end(PagelmError.from(message.error));
      return;
    }
    if (message.op === "hello" || message.op === "threads") return;
    // A request that was aborted here may still be answered: the answer is ignored.
    const pending = this.#pending.get(message.id);
    if (message.op === "piece") pending?.piece?.(message.value as never);
    else if (message.op === "fetch") pending?.fetch?.(message);
    else if (message.op === "done") pending?.done(message.value);
    else pending?.fail(PagelmError.from(message.error));
  }
}
