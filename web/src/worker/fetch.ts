// The bytes of a model, in order, from a URL or a file, in pieces: at most one of them is held here. After a broken
// connection the download resumes where it broke.

import { allow, watchPolicy } from "../shared/csp.ts";
import { abortError, PagelmError } from "../shared/errors.ts";
import { retryAfter, whyUnreached } from "./reasons.ts";

export interface Source {
  /** Bytes in total, if known. */
  readonly size: number | undefined;
  /** Can be iterated once. */
  pieces(): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void>;
}

export interface SourceOptions {
  signal?: AbortSignal | undefined;
  fetch?: typeof fetch;
  /** The download fails after this many consecutive breaks with little data between them. */
  tries?: number;
  /** The wait before the first retry; it doubles with each one. */
  backoffMs?: number;
  /** A connection without data for this long counts as broken; later ones get up to four times as long. */
  stallMs?: number;
  /** Called when no more data arrives, before the connection is retried. */
  onStall?: (() => void) | undefined;
}

/** After this many bytes a connection works, and earlier breaks are forgotten. */
const PROGRESS_BYTES = 1 << 20;

/** The longest wait that a server may ask for. */
const LONGEST_WAIT_MS = 60_000;

/** Tries at a server that never answered: few, since it is unlikely to answer later. */
const TRIES_UNREACHED = 3;

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

export async function openSource(model: string | Blob, options: SourceOptions = {}): Promise<Source> {
  if (typeof model !== "string") return new FileSource(model, options.signal);
  const source = new UrlSource(model, options);
  await source.open();
  return source;
}

class FileSource implements Source {
  readonly size: number;
  #blob: Blob;
  #signal: AbortSignal | undefined;

  constructor(blob: Blob, signal: AbortSignal | undefined) {
    this.#blob = blob;
    this.#signal = signal;
    this.size = blob.size;
  }

  async *pieces() {
    const reader = this.#blob.stream().getReader();
    try {
      for (;;) {
        if (this.#signal?.aborted) throw abortError();
        const { done, value } = await reader.read();
        if (done) return;
        yield value;
      }
    } catch (e) {
      if (e instanceof PagelmError) throw e;
      throw new PagelmError("io", `the file could not be read (${text(e)}); was it moved or changed?`);
    } finally {
      void reader.cancel().catch(() => {});
    }
  }
}

class UrlSource implements Source {
  size: number | undefined;
  #url: string;
  #signal: AbortSignal | undefined;
  #fetch: typeof fetch;
  #tries: number;
  #backoffMs: number;
  #stallMs: number;
  #onStall: (() => void) | undefined;
  /** Bytes that were passed on. */
  #at = 0;
  /** The end of the part that the server is sending, if it sends one: some send large files in several. */
  #partEnd: number | undefined;
  #etag: string | null = null;
  #connection: AbortController | null = null;
  #body: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>> | null = null;
  #breaks = 0;
  #lastBreak = 0;

  constructor(url: string, o: SourceOptions) {
    this.#url = url;
    this.#signal = o.signal;
    this.#fetch = o.fetch ?? ((...args) => fetch(...args));
    this.#tries = o.tries ?? 5;
    this.#backoffMs = o.backoffMs ?? 250;
    this.#stallMs = o.stallMs ?? 15_000;
    this.#onStall = o.onStall;
  }

  async open(): Promise<void> {
    this.#signal?.addEventListener("abort", () => this.#connection?.abort());
    await this.#persist(async () => {
      const response = await this.#request();
      const part = partOf(response);
      if (part && part.start !== 0) {
        void response.body?.cancel();
        throw this.#error("http-status", `the server sent the file from byte ${part.start} on, unasked`);
      }
      const type = response.headers.get("Content-Type") ?? "";
      if (type.startsWith("text/html")) {
        void response.body?.cancel();
        throw this.#error(
          "not-gguf",
          "the server sent a web page, not a GGUF file; is this the address of the file itself?",
        );
      }
      // The length of a compressed answer is not that of the file.
      const length = response.headers.get("Content-Length");
      const encoded = response.headers.get("Content-Encoding") ?? "identity";
      if (response.status === 206) this.size = part?.total;
      else if (length !== null && encoded === "identity") this.size = Number(length);
      this.#etag = response.headers.get("ETag");
      this.#read(response);
    });
  }

  async *pieces() {
    try {
      for (;;) {
        const piece = await this.#persist(() => this.#next());
        if (!piece) return;
        this.#at += piece.length;
        if (this.#at - this.#lastBreak >= PROGRESS_BYTES) this.#breaks = 0;
        yield piece;
      }
    } finally {
      this.#close();
    }
  }

  /** The next piece, over a new connection if there is none; undefined at the end of the file. */
  async #next(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    if (!this.#body && !(await this.#resume())) return undefined;
    const { done, value } = await this.#readOne();
    if (!done) {
      if (this.size !== undefined && this.#at + value.length > this.size) {
        throw this.#error("model-changed", `the server sent more than the ${this.size} bytes that it announced`);
      }
      return value;
    }
    // The end of a part, perhaps of the file.
    if (this.#at !== this.size && this.#at === this.#partEnd) {
      this.#close();
      return this.#next();
    }
    if (this.size !== undefined && this.#at < this.size) {
      throw new Broken(`the connection ended at byte ${this.#at} of ${this.size}`);
    }
    return undefined;
  }

  /**
   * Requests the rest of the file; false if there is none. A server that ignores the range sends all of it: then the
   * start is discarded.
   */
  async #resume(): Promise<boolean> {
    const response = await this.#request({ Range: `bytes=${this.#at}-` });
    if (response.status === 416) return false;
    const etag = response.headers.get("ETag");
    const whole = response.status !== 206;
    const part = partOf(response);
    // Across origins these headers can be hidden: then they are not compared.
    const total = whole ? Number(response.headers.get("Content-Length") ?? Number.NaN) : part?.total;
    const sameSize = this.size === undefined || !total || total === this.size;
    const sameStart = whole || !part || part.start === this.#at;
    if ((etag && this.#etag && etag !== this.#etag) || !sameSize || !sameStart) {
      void response.body?.cancel();
      throw this.#error("model-changed", "the file on the server changed during the download; load it again");
    }
    this.#read(response);
    let skip = whole ? this.#at : 0;
    while (skip > 0) {
      const { done, value } = await this.#readOne();
      if (done) throw new Broken(`the connection ended while the first ${this.#at} bytes came again`);
      if (value.length > skip) {
        this.#pushBack = value.subarray(skip);
      }
      skip -= Math.min(skip, value.length);
    }
    return true;
  }

  #pushBack: Uint8Array<ArrayBuffer> | null = null;

  async #readOne(): Promise<{ done: true; value?: undefined } | { done: false; value: Uint8Array<ArrayBuffer> }> {
    const value = this.#pushBack;
    if (value) {
      this.#pushBack = null;
      return { done: false, value };
    }
    return (await this.#withTimeout(this.#body!.read())) as { done: false; value: Uint8Array<ArrayBuffer> };
  }

  /** Waits for data from the server. Too long a silence is a broken connection. */
  async #withTimeout<T>(promise: Promise<T>, unreached = false): Promise<T> {
    const ms = this.#stallMs * Math.min(2 ** this.#breaks, 4);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const notice = setTimeout(() => this.#onStall?.(), this.#stallMs);
    const timeout = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Broken(`nothing came for ${ms / 1000} s`, { unreached })), ms);
    });
    try {
      return await Promise.race([promise, timeout]);
    } catch (e) {
      throw e instanceof Broken ? e : new Broken(text(e), { unreached });
    } finally {
      clearTimeout(timer);
      clearTimeout(notice);
    }
  }

  async #request(headers: Record<string, string> = {}): Promise<Response> {
    const connection = new AbortController();
    this.#connection = connection;
    const policy = watchPolicy();
    let response: Response;
    try {
      response = await this.#withTimeout(this.#fetch(this.#url, { headers, signal: connection.signal }), true);
    } catch (e) {
      const violation = this.#signal?.aborted ? undefined : await policy.violation(["connect-src"]);
      if (violation) throw this.#error("network", allow(new URL(this.#url).origin, violation.effectiveDirective));
      throw e;
    } finally {
      policy.end();
    }
    const { status } = response;
    const ended = status === 416 && this.size === undefined && this.#at === this.#partEnd;
    if (response.ok || ended) return response;
    void response.body?.cancel();
    if (status === 416) throw this.#error("model-changed", `the file on the server no longer has byte ${this.#at}`);
    const said = `the server answered ${status}${response.statusText && ` (${response.statusText})`}`;
    // 429 and 5xx are often temporary: a server that is busy or restarts.
    if (status !== 429 && status < 500) throw this.#error("http-status", said);
    const waitMs = retryAfter(response.headers.get("Retry-After")) ?? 0;
    const asked = waitMs ? `${said} and asked to wait ${Math.ceil(waitMs / 1000)} s (Retry-After)` : said;
    if (waitMs > LONGEST_WAIT_MS) throw this.#error("http-status", asked);
    throw new Broken(asked, { code: "http-status", waitMs });
  }

  /** Retries when the connection breaks, until it broke too often. */
  async #persist<T>(step: () => Promise<T>): Promise<T> {
    for (;;) {
      if (this.#signal?.aborted) throw abortError();
      try {
        return await step();
      } catch (e) {
        this.#close();
        if (this.#signal?.aborted) throw abortError();
        if (!(e instanceof Broken)) throw e;
        this.#lastBreak = this.#at;
        this.#breaks++;
        this.#onStall?.();
        const never = e.unreached && this.#at === 0;
        if (this.#breaks >= (never ? Math.min(this.#tries, TRIES_UNREACHED) : this.#tries)) {
          const where = this.#at > 0 ? ` at byte ${this.#at}${this.size ? ` of ${this.size}` : ""}` : "";
          const why = e.unreached ? `; ${await whyUnreached(this.#url, this.#at > 0, this.#fetch, this.#signal)}` : "";
          if (this.#signal?.aborted) throw abortError();
          throw this.#error(e.code, `the download failed${where} after ${this.#breaks} tries: ${e.message}${why}`);
        }
        await wait(Math.max(this.#backoffMs * 2 ** (this.#breaks - 1), e.waitMs), this.#signal);
      }
    }
  }

  #read(response: Response): void {
    if (!response.body) throw new Broken("the answer has no body");
    const length = Number(response.headers.get("Content-Length") ?? Number.NaN);
    const end = partOf(response)?.end ?? this.#at + length;
    this.#partEnd = response.status === 206 && end > this.#at ? end : undefined;
    this.#body = response.body.getReader();
  }

  #close(): void {
    void this.#body?.cancel().catch(() => {});
    // A request without an answer yet has no body to cancel.
    this.#connection?.abort();
    this.#connection = null;
    this.#body = null;
    this.#pushBack = null;
  }

  #error(code: "network" | "http-status" | "model-changed" | "not-gguf", message: string): PagelmError {
    return new PagelmError(code, message, this.#url);
  }
}

/** The range of a partial answer: the bytes from `start` to before `end`, and the total size. */
function partOf(response: Response): { start: number; end: number; total: number | undefined } | undefined {
  const found = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(response.headers.get("Content-Range") ?? "");
  if (response.status !== 206 || !found) return undefined;
  return { start: Number(found[1]), end: Number(found[2]) + 1, total: found[3] === "*" ? undefined : Number(found[3]) };
}

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
