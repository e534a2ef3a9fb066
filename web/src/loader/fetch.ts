// The bytes of a model, in order, from a URL or a file, in pieces: nothing here holds more than one of them. A broken
// connection is taken up again where it broke.
import { abortError, PagelmError } from "../errors.ts";

export interface Source {
  /** Bytes in all, where known. */
  readonly size: number | undefined;
  /** Can be run through once. */
  pieces(): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void>;
}

export interface SourceOptions {
  signal?: AbortSignal | undefined;
  fetch?: typeof fetch;
  /** Breaks in a row, without much coming between, after which the download has failed. */
  tries?: number;
  /** The wait before the first new try; it doubles from try to try. */
  backoffMs?: number;
  /** A connection that brings nothing for so long counts as broken. */
  stallMs?: number;
}

/** So many bytes show that a connection works, and earlier breaks are forgotten. */
const PROGRESS_BYTES = 1 << 20;

/** A connection that broke, as opposed to an answer that says no. */
class Broken extends Error {}

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
  /** Bytes given out. */
  #at = 0;
  #etag: string | null = null;
  #body: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>> | null = null;
  #breaks = 0;
  #lastBreak = 0;

  constructor(url: string, o: SourceOptions) {
    this.#url = url;
    this.#signal = o.signal;
    this.#fetch = o.fetch ?? ((...args) => fetch(...args));
    this.#tries = o.tries ?? 5;
    this.#backoffMs = o.backoffMs ?? 250;
    this.#stallMs = o.stallMs ?? 60_000;
  }

  async open(): Promise<void> {
    await this.#persist(async () => {
      const response = await this.#request();
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
      if (length !== null && encoded === "identity") this.size = Number(length);
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
        yield piece;
      }
    } finally {
      this.#close();
    }
  }

  /** The next piece, over a new connection if there is none; undefined at the end of the file. */
  async #next(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    if (!this.#body) await this.#resume();
    const { done, value } = await this.#readOne();
    if (!done) {
      if (this.size !== undefined && this.#at + value.length > this.size) {
        throw this.#error("model-changed", `the server sent more than the ${this.size} bytes that it announced`);
      }
      return value;
    }
    if (this.size !== undefined && this.#at < this.size) {
      throw new Broken(`the connection ended at byte ${this.#at} of ${this.size}`);
    }
    return undefined;
  }

  /** Asks for the rest of the file. A server that ignores this sends all of it: then the start is thrown away. */
  async #resume(): Promise<void> {
    const response = await this.#request({ Range: `bytes=${this.#at}-` });
    const etag = response.headers.get("ETag");
    const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.headers.get("Content-Range") ?? "");
    const length = response.headers.get("Content-Length");
    const whole = response.status !== 206;
    // Across origins these headers can be hidden: what is not shown is not compared.
    const total = whole ? length : range?.[2] !== "*" ? range?.[2] : undefined;
    const sameSize = this.size === undefined || !total || Number(total) === this.size;
    const sameStart = whole || !range || Number(range[1]) === this.#at;
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
  }

  #pushBack: Uint8Array<ArrayBuffer> | null = null;

  async #readOne(): Promise<{ done: true; value?: undefined } | { done: false; value: Uint8Array<ArrayBuffer> }> {
    const value = this.#pushBack;
    if (value) {
      this.#pushBack = null;
      return { done: false, value };
    }
    let timer: ReturnType<typeof setTimeout> | undefined;
    const stall = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Broken(`nothing came for ${this.#stallMs / 1000} s`)), this.#stallMs);
    });
    try {
      return (await Promise.race([this.#body!.read(), stall])) as { done: false; value: Uint8Array<ArrayBuffer> };
    } catch (e) {
      throw e instanceof Broken ? e : new Broken(text(e));
    } finally {
      clearTimeout(timer);
    }
  }

  async #request(headers: Record<string, string> = {}): Promise<Response> {
    let response: Response;
    try {
      response = await this.#fetch(this.#url, { headers, signal: this.#signal ?? null });
    } catch (e) {
      throw new Broken(text(e));
    }
    if (response.ok) return response;
    void response.body?.cancel();
    const { status } = response;
    if (status === 416) throw this.#error("model-changed", `the file on the server has no byte ${this.#at} any more`);
    const said = `the server answered ${status}${response.statusText && ` (${response.statusText})`}`;
    // These pass, often: a server that is busy or restarts.
    if (status === 429 || status >= 500) throw Object.assign(new Broken(said), { code: "http-status" as const });
    throw this.#error("http-status", said);
  }

  /** Tries again when the connection breaks, until it broke too often. */
  async #persist<T>(step: () => Promise<T>): Promise<T> {
    for (;;) {
      if (this.#signal?.aborted) throw abortError();
      try {
        return await step();
      } catch (e) {
        this.#close();
        if (this.#signal?.aborted) throw abortError();
        if (!(e instanceof Broken)) throw e;
        if (this.#at - this.#lastBreak >= PROGRESS_BYTES) this.#breaks = 0;
        this.#lastBreak = this.#at;
        if (++this.#breaks >= this.#tries) {
          const code = "code" in e ? (e.code as "http-status") : "network";
          const where = this.#at > 0 ? ` at byte ${this.#at}${this.size ? ` of ${this.size}` : ""}` : "";
          throw this.#error(code, `the download failed${where} after ${this.#breaks} tries: ${e.message}`);
        }
        await wait(this.#backoffMs * 2 ** (this.#breaks - 1), this.#signal);
      }
    }
  }

  #read(response: Response): void {
    if (!response.body) throw new Broken("the answer has no body");
    this.#body = response.body.getReader();
  }

  #close(): void {
    void this.#body?.cancel().catch(() => {});
    this.#body = null;
    this.#pushBack = null;
  }

  #error(code: "network" | "http-status" | "model-changed" | "not-gguf", message: string): PagelmError {
    return new PagelmError(code, message, this.#url);
  }
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
