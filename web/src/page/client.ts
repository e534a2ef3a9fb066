// The page's side of the protocol: requests, their pieces, and every way in which they can end.
import { abortError, errorData, PagelmError } from "../shared/errors.ts";
import { watchLife } from "../shared/locks.ts";
import type { FromWorker, Op, Operations, Request, ToWorker } from "../shared/protocol.ts";
import type { EngineInfo, EngineOptions, FetchFunction, Recovery } from "../shared/types.ts";
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
  message: Request & Partial<Operations["request"]["in"] & Operations["openSession"]["in"] & { session: number }>;
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

/** How often in a row a worker is replaced of which nothing comes, and how long the page waits before the first time. */
const TRIES = 3;
const WAIT_MS = 100;
/** How long a worker gives back its lock for a navigation, which may not come. */
const REST_MS = 5000;

export class Client {
  /** The lock of its worker, if it is this page's to watch. */
  life = "";
  /** What the worker has loaded. */
  info!: EngineInfo;
  /** Starts another worker with the same model, perhaps on the CPU. Without, all ends with the first. */
  revive?: ((signal: AbortSignal, onCpu: boolean) => Promise<Client>) | undefined;
  onRecover?: EngineOptions["onRecover"];
  /** The error of sessions that were opened before it: they are gone. */
  lost?: PagelmError;
  #port!: Port;
  #pending = new Map<number, Pending>();
  #nextId = 1;
  /** Why no more requests are possible. */
  #ended: PagelmError | null = null;
  #over = new AbortController();
  /** Losses since something came of a worker. */
  #tries = 0;
  /** Losses on the GPU since a request was answered. */
  #losses = 0;

  constructor(port: Port) {
    this.#attach(port);
  }

  #attach(port: Port): void {
    this.#port = port;
    const lose = (what: string) => void this.#lose(new PagelmError("worker-lost", what));
    port.onmessage = (event) => this.#receive(event.data);
    port.onerror = (event) => {
      event.preventDefault?.();
      lose(`the worker failed${event.message ? `: ${event.message}` : ""}`);
    };
    port.onmessageerror = () => lose("a message of the worker could not be read");
  }

  /** Takes note if the worker or one of its threads ends, by the locks that they hold. */
  watch(life: string): void {
    if (!life || !navigator.locks) return;
    const port = this.#port;
    const watch = new AbortController();
    watchLife(life, watch.signal, () => port.onerror?.({ message: "something ended it" }));
    // Firefox keeps no page whose worker holds a lock, and decides that before `pagehide`: a worker that does nothing gives
    // its lock back for a while. The time of a page that is kept stands still.
    const rest = () => {
      if (this.#pending.size) return;
      watch.abort();
      const hold = (life: string) =>
        port.onerror &&
        this.call("life", { life }).then(
          () => this.watch(life),
          () => {},
        );
      hold("");
      setTimeout(hold, REST_MS, life);
    };
    addEventListener("beforeunload", rest, watch);
  }

  /** Hears nothing more of the worker. */
  #drop(): void {
    this.#port.onmessage = this.#port.onerror = this.#port.onmessageerror = null;
    this.#port.terminate();
  }

  /** Goes on with another worker. */
  async #lose(error: PagelmError): Promise<void> {
    if (this.#ended) return;
    if (!this.revive) return this.end(error);
    const { code, message, place } = error;
    if (this.#tries === TRIES) {
      const remedy = `the engine broke again and again; close other pages, or use a smaller model or \`backend: "cpu"\``;
      return this.end(new PagelmError(code, `${message}; ${remedy}`, place, { cause: error }));
    }
    const attempt = ++this.#tries;
    if (this.info.backend === "webgpu") this.#losses++;
    this.#drop();
    this.lost = new PagelmError(
      code,
      `${message}; the session is lost: open another one, from a snapshot if there is one`,
    );
    for (const { message, fail } of [...this.#pending.values()])
      if ((message.session ?? message.fork) !== undefined) fail(this.lost);
    // Nothing that this throws is ours.
    const tell = (phase: Recovery["phase"]) => queueMicrotask(() => this.onRecover?.({ phase, error, attempt }));
    tell("recovering");
    try {
      // The old worker gives back its memory; a driver may need longer.
      await new Promise((go) => setTimeout(go, attempt ** 2 * WAIT_MS));
      const next = await this.revive(this.#over.signal, this.#losses > 1);
      if (this.#ended) return next.end(this.#ended);
      this.info = next.info;
      this.#attach(next.#port);
      this.watch(next.life);
      for (const pending of [...this.#pending.values()]) this.#post(pending);
      tell("recovered");
    } catch (e) {
      this.#lose(PagelmError.from(errorData(e)));
    }
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
      };
      const pending: Pending = {
        message: { id, op, ...input } as Pending["message"],
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
      };
      this.#pending.set(id, pending);
      signal?.addEventListener("abort", abort, { signal: over.signal });
      this.#post(pending);
    });
    return {
      result,
      abort: () => this.#abort(id),
      credit: (pieces: number) => {
        const { message } = this.#pending.get(id) ?? {};
        if (!message) return;
        message.credit! += pieces;
        this.#port.postMessage({ op: "credit", target: id, pieces });
      },
    };
  }

  #post({ message, fail }: Pending): void {
    try {
      this.#port.postMessage(message);
    } catch (e) {
      // For example a message that contains a function.
      fail(new PagelmError("invalid-argument", String(e), "", { cause: e }));
    }
  }

  /** Ends the worker. Open and later requests fail with `error`. */
  end(error: PagelmError): void {
    if (this.#ended) return;
    this.#ended = error;
    this.#over.abort();
    this.#drop();
    for (const p of [...this.#pending.values()]) p.fail(error);
  }

  #abort(id: number, signal?: AbortSignal | null): void {
    const pending = this.#pending.get(id);
    if (!pending) return;
    this.#port.postMessage({ op: "abort", target: id });
    pending.fail(abortError(signal ?? undefined));
  }

  #receive(message: FromWorker): void {
    if (message.op === "fatal") return void this.#lose(PagelmError.from(message.error));
    if (!("id" in message)) return;
    // A request that was aborted here may still be answered: the answer is ignored.
    const pending = this.#pending.get(message.id);
    if (!pending) return;
    const { replay } = pending.message;
    if (message.op === "pieces") {
      if (replay) {
        pending.message.credit! -= message.values.length;
        replay.push(...message.journal);
      }
      if (message.journal.length) this.#tries = 0;
      for (const value of message.values) pending.piece?.(value as never);
    } else if (message.op === "fetch") pending.fetch?.(message);
    else if (message.op === "done") {
      if (replay) this.#losses = 0;
      pending.done(message.value);
    } else pending.fail(PagelmError.from(message.error));
  }
}
