// A file on a server: ranges of it, in pieces, over connections that go on where they broke.

import { allow, watchPolicy } from "../shared/csp.ts";
import { abortError, PagelmError } from "../shared/errors.ts";
import type { FetchFunction } from "../shared/types.ts";
import { retryAfter, type Why, whyUnreached } from "./reasons.ts";

export type Bytes = Uint8Array<ArrayBuffer>;

export interface RemoteOptions {
  signal?: AbortSignal | undefined;
  fetch?: FetchFunction | undefined;
  /** Sent to the origin of the URL, and to no other. */
  headers?: Record<string, string> | undefined;
  /** A connection fails after this many consecutive breaks with little data between them. */
  tries?: number;
  /** The wait before the first retry; it doubles with each one. */
  backoffMs?: number;
  /** A connection without data for this long counts as broken; later ones get up to four times as long. */
  stallMs?: number;
  /** Called when no more data arrives, before the connection is retried. */
  onStall?: (() => void) | undefined;
  /** Says why a server may not answer. */
  why?: Why;
}

/** After this many bytes a connection works, and earlier breaks are forgotten. */
const PROGRESS_BYTES = 1 << 20;

/** The longest wait that a server may ask for. */
const LONGEST_WAIT_MS = 60_000;

/** Tries at a server that never answered, and at one that was there before: for half a minute. */
const [TRIES_UNREACHED, TRIES] = [3, 8];

/** A connection that broke, as opposed to an answer with an error status. */
class Broken extends Error {
  readonly code: "network" | "http-status" = "network";
  /** Whether there was no answer at all. */
  readonly unreached: boolean = false;
  /** How long the server asked to wait. */
  readonly waitMs: number = 0;

  constructor(message: string, more: Partial<Pick<Broken, "code" | "unreached" | "waitMs">> = {}) {
    super(message);
    Object.assign(this, more);
  }
}

/** What the answers of a server say of the file, which must stay so. */
export class Remote {
  readonly url: string;
  readonly options: RemoteOptions;
  readonly get: FetchFunction;
  /** Bytes in total, if known. */
  size: number | undefined;
  /** ETag or date of change: it tells one state of the file from another. */
  version: string | null = null;
  /** Whether the server sends ranges; as long as nothing was asked, it is not known. */
  ranged: boolean | undefined;
  /** Whether no range is asked for: some servers forbid it to other origins, or compress what they cut. */
  #plain: boolean;
  /** Where the URL leads to: often an address for a short time. */
  #final: string | null = null;

  constructor(url: string, options: RemoteOptions) {
    this.url = url;
    this.options = options;
    // A page may not give a range for what is not on a server.
    this.#plain = !url.startsWith("http");
    this.get = options.fetch ?? ((...args) => fetch(...args));
  }

  /**
   * Asks for the bytes from `start` to before `end`, and waits until they begin to come. A server that does not know
   * ranges sends all that follow `start`.
   */
  async connect(start: number, end?: number): Promise<Connection> {
    const connection = new Connection(this, start, end);
    await connection.open();
    return connection;
  }

  async request(range: string, signal: AbortSignal): Promise<Response> {
    const url = this.#final ?? this.url;
    // `If-Range` would take a preflight: answers are compared.
    const headers = new Headers(this.#plain ? {} : { Range: range });
    if (originOf(url) === originOf(this.url)) {
      for (const [name, value] of Object.entries(this.options.headers ?? {})) headers.set(name, value);
    }
    const forget = () => {
      this.#final = null;
      return this.request(range, signal);
    };
    let response: Response;
    try {
      response = await this.get(url, { headers, signal });
    } catch (e) {
      if (this.#final && !signal.aborted) return forget();
      // The next try is the other way.
      if (this.ranged === undefined && url.startsWith("http")) this.#plain = !this.#plain;
      throw e;
    }
    const { status } = response;
    // An address that has expired.
    if (this.#final && status >= 400 && status < 500 && ![408, 416, 429].includes(status)) {
      void response.body?.cancel();
      return forget();
    }
    if (response.ok && response.redirected) this.#final = response.url;
    return response;
  }

  /** Takes note of an answer, and refuses it if it is of another file. Returns its range, if it says it. */
  check(response: Response, at: number): Part | undefined {
    const part = partOf(response);
    const header = (name: string) => response.headers.get(name);
    const whole = response.status !== 206;
    // The length of a compressed answer is not that of the file.
    const plain = (header("Content-Encoding") ?? "identity") === "identity";
    const length = plain ? header("Content-Length") : null;
    const size = whole ? length && Number(length) : part?.total;
    const version = header("ETag") ?? header("Last-Modified");
    if (part && part.start !== at) {
      throw this.error("http-status", `the server sent the file from byte ${part.start} on, not from ${at}`);
    }
    if (this.ranged === undefined) {
      if (header("Content-Type")?.startsWith("text/html")) {
        const what = "the server sent a web page, not a GGUF file; is this the address of the file itself?";
        throw this.error("not-gguf", what);
      }
      this.ranged = !whole;
    }
    const changed = (now: unknown, before: unknown) => now && before && now !== before;
    // Across origins these headers can be hidden: then they are not compared.
    if (changed(version, this.version) || changed(size, this.size)) {
      throw this.error("model-changed", "the file on the server changed during the download");
    }
    this.size ??= size || undefined;
    this.version ??= version;
    return part;
  }

  error(code: "network" | "http-status" | "model-changed" | "not-gguf", message: string): PagelmError {
    return new PagelmError(code, message, this.url);
  }
}

/** Reads into memory that it is given or, of streams that cannot, into its own. */
interface Reader {
  read(into: Bytes): Promise<ReadableStreamReadResult<Bytes>>;
  cancel(): Promise<void>;
}

/** Into how many parts a wait is cut. */
const TICKS = 4;

/** Bytes that are read at once at most. */
const AT_ONCE = 256 << 10;

/** A range of the file. It is iterated once; each piece is valid until the next is asked for. */
export class Connection {
  #remote: Remote;
  /** Bytes that were passed on end here. */
  #at: number;
  #end: number | undefined;
  /** The end of the part that the server is sending, if it sends one: some send large files in several. */
  #partEnd: number | undefined;
  #request: AbortController | null = null;
  #body: Reader | null = null;
  /** What is read into: memory that is used again does not wait for the garbage collector. */
  #memory!: ArrayBuffer;
  /** Bytes that come again and are skipped. */
  #skip = 0;
  #breaks = 0;
  #lastBreak = 0;
  #closed = false;

  constructor(remote: Remote, start: number, end: number | undefined) {
    this.#remote = remote;
    this.#at = this.#lastBreak = start;
    this.#end = end;
  }

  async open(): Promise<void> {
    this.#remote.options.signal?.addEventListener("abort", () => this.close());
    await this.#persist(() => this.#connect());
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Bytes, void, void> {
    try {
      for (;;) {
        const piece = await this.#persist(() => this.#next());
        if (!piece) return;
        this.#at += piece.length;
        if (this.#at - this.#lastBreak >= PROGRESS_BYTES) this.#breaks = 0;
        yield piece;
      }
    } finally {
      this.close();
    }
  }

  /** The next piece, over a new connection if there is none; undefined at the end. */
  async #next(): Promise<Bytes | undefined> {
    const remote = this.#remote;
    for (;;) {
      const end = () => Math.min(this.#end ?? Number.POSITIVE_INFINITY, remote.size ?? Number.POSITIVE_INFINITY);
      if (!this.#body && (this.#at >= end() || !(await this.#connect()))) return undefined;
      const { done, value } = await this.#withTimeout(this.#body!.read(new Uint8Array(this.#memory)));
      if (!done) {
        this.#memory = value.buffer;
        const again = Math.min(this.#skip, value.length);
        this.#skip -= again;
        const piece = value.subarray(again);
        if (this.#at + piece.length > (remote.size ?? Number.POSITIVE_INFINITY)) {
          throw remote.error("model-changed", `the server sent more than ${remote.size} bytes`);
        }
        if (piece.length) return piece;
        continue;
      }
      // The end of a part, perhaps of the file.
      this.#body = null;
      if (this.#skip) throw new Broken(`the connection ended before byte ${this.#at} came again`);
      if (this.#at === this.#partEnd) continue;
      const wanted = this.#partEnd ?? end();
      if (wanted === Number.POSITIVE_INFINITY || this.#at >= wanted) return undefined;
      throw new Broken(`the connection ended at byte ${this.#at} of ${remote.size ?? wanted}`);
    }
  }

  /** Asks for the rest; false if there is none. */
  async #connect(): Promise<boolean> {
    const remote = this.#remote;
    const response = await this.#answer();
    if (response.status === 416) return false;
    let part: Part | undefined;
    try {
      part = remote.check(response, this.#at);
    } catch (e) {
      void response.body?.cancel();
      throw e;
    }
    if (!response.body) throw new Broken("the answer has no body");
    const whole = response.status !== 206;
    // A server that ignores the range sends all of it, and the start is skipped.
    this.#skip = whole ? this.#at : 0;
    if (whole) this.#end = undefined;
    const end = part?.end ?? this.#at + Number(response.headers.get("Content-Length") ?? Number.NaN);
    this.#partEnd = !whole && end > this.#at ? end : undefined;
    this.#memory = new ArrayBuffer(AT_ONCE);
    try {
      this.#body = response.body.getReader({ mode: "byob" });
    } catch {
      this.#body = response.body.getReader();
    }
    return true;
  }

  /** Waits for data from the server. Too long a silence is a broken connection. */
  async #withTimeout<T>(promise: Promise<T>, unreached = false): Promise<T> {
    const { stallMs = 15_000, onStall } = this.#remote.options;
    const times = Math.min(2 ** this.#breaks, 4);
    let timer: ReturnType<typeof setInterval> | undefined;
    let ticks = 0;
    // Where the page was frozen or the machine slept, the next tick comes at once, and is one: then data has its time.
    const timeout = new Promise<never>((_, reject) => {
      timer = setInterval(() => {
        if (++ticks === TICKS) onStall?.();
        if (ticks === TICKS * times)
          reject(new Broken(`nothing came for ${(stallMs * times) / 1000} s`, { unreached }));
      }, stallMs / TICKS);
    });
    try {
      return await Promise.race([promise, timeout]);
    } catch (e) {
      // Some of what a page's own function does wrong is not worth another try.
      throw e instanceof Broken || (e as PagelmError).code === "invalid-argument"
        ? e
        : new Broken(text(e), { unreached });
    } finally {
      clearInterval(timer);
    }
  }

  async #answer(): Promise<Response> {
    const remote = this.#remote;
    const request = new AbortController();
    this.#request = request;
    const policy = watchPolicy();
    const range = `bytes=${this.#at}-${this.#end ? this.#end - 1 : ""}`;
    let response: Response;
    try {
      response = await this.#withTimeout(remote.request(range, request.signal), true);
    } catch (e) {
      const violation = remote.options.signal?.aborted ? undefined : await policy.violation(["connect-src"]);
      if (violation) {
        throw remote.error("network", allow(new URL(remote.url).origin, violation.effectiveDirective));
      }
      throw e;
    } finally {
      policy.end();
    }
    const { status } = response;
    const ended = status === 416 && remote.size === undefined && (this.#at === this.#partEnd || !this.#partEnd);
    if (response.ok || ended) return response;
    void response.body?.cancel();
    if (status === 416) throw remote.error("model-changed", `the file there no longer has byte ${this.#at}`);
    const said = `the server answered ${status}${response.statusText && ` (${response.statusText})`}`;
    // 408, 429 and 5xx are often temporary: a server that is busy or restarts.
    if (status !== 408 && status !== 429 && status < 500) throw remote.error("http-status", said);
    const waitMs = retryAfter(response.headers.get("Retry-After")) ?? 0;
    const asked = waitMs ? `${said} and asked to wait ${Math.ceil(waitMs / 1000)} s (Retry-After)` : said;
    if (waitMs > LONGEST_WAIT_MS) throw remote.error("http-status", asked);
    throw new Broken(asked, { code: "http-status", waitMs });
  }

  /** Retries when the connection breaks, until it broke too often. */
  async #persist<T>(step: () => Promise<T>): Promise<T> {
    const { url, get, options } = this.#remote;
    const { signal, onStall, tries = TRIES, backoffMs = 250 } = options;
    for (;;) {
      if (this.#closed || signal?.aborted) throw abortError();
      try {
        return await step();
      } catch (e) {
        this.#hangUp();
        if (this.#closed || signal?.aborted) throw abortError();
        if (!(e instanceof Broken)) throw e;
        this.#lastBreak = this.#at;
        this.#breaks++;
        onStall?.();
        const never = e.unreached && this.#remote.ranged === undefined;
        if (this.#breaks >= (never ? Math.min(tries, TRIES_UNREACHED) : tries)) {
          const { size } = this.#remote;
          const where = this.#at > 0 ? ` at byte ${this.#at}${size ? ` of ${size}` : ""}` : "";
          const why =
            options.why && e.unreached ? `; ${await whyUnreached(options.why, url, !never, get, signal)}` : "";
          if (signal?.aborted) throw abortError();
          const what = `the download failed${where} after ${this.#breaks} tries: ${e.message}${why}`;
          throw this.#remote.error(e.code, what);
        }
        await wait(Math.max(backoffMs * 2 ** (this.#breaks - 1), e.waitMs), signal);
      }
    }
  }

  close(): void {
    this.#closed = true;
    this.#hangUp();
  }

  #hangUp(): void {
    void this.#body?.cancel().catch(() => {});
    // A request without an answer yet has no body to cancel.
    this.#request?.abort();
    this.#request = null;
    this.#body = null;
  }
}

interface Part {
  start: number;
  end: number;
  total: number | undefined;
}

/** The range of a partial answer: the bytes from `start` to before `end`, and the total size. */
function partOf(response: Response): Part | undefined {
  const found = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(response.headers.get("Content-Range") ?? "");
  if (response.status !== 206 || !found) return undefined;
  return { start: Number(found[1]), end: Number(found[2]) + 1, total: found[3] === "*" ? undefined : Number(found[3]) };
}

/** That of a `blob:` URL is its page's; a `data:` URL has none. */
const originOf = (url: string) => new URL(url).origin;

function text(e: unknown): string {
  return e instanceof Error ? e.message : String(e);
}

function wait(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener("abort", end);
  });
}
