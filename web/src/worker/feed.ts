// The bytes of one file of a model: what is stored is read, what is missing is fetched, checked and stored on the way.

import { abortError, PagelmError } from "../shared/errors.ts";
import type { Entry } from "./entry.ts";
import { type Bytes, type Connection, Remote, type RemoteOptions } from "./fetch.ts";
import { BLOCK } from "./log.ts";
import { share } from "./shared.ts";
import type { Part } from "./source.ts";

export type From = "network" | "cache" | "file";

export interface Piece {
  offset: number;
  /** Valid until the next piece is asked for. */
  bytes: Bytes;
  from: From;
}

/** A sum of bytes that come in pieces. */
export interface Hash {
  push(bytes: Uint8Array): void;
  finish(): string;
  free(): void;
}

export interface FeedOptions extends RemoteOptions {
  /** Bytes of the first request, whole blocks; later ones are larger. */
  segment?: number;
  /** Makes the sum of the whole file, where one is to be made. */
  hash?: Hash | undefined;
}

/** Bytes of one request: many, for each costs a round trip, but not all, so that several connections share them. */
const SEGMENT = 64 << 20;

export class Feed {
  readonly part: Part;
  readonly entry: Entry | null;
  /** Bytes by where they came from. */
  readonly taken: Record<From, number> = { network: 0, cache: 0, file: 0 };
  /** Whether several connections may be used: pieces then come in any order. */
  spread = false;
  /** The sum of all bytes, once they came, where one was made. */
  sum: string | null = null;
  #remote: Remote | null;
  #open = new Set<Connection>();
  #options: FeedOptions;
  #hash: Hash | null;
  /** Bytes from the start that are in the sum. */
  #hashed = 0;
  /** Bytes up to the last that came: the length of a file for which nothing else says it. */
  #length = 0;

  constructor(part: Part, entry: Entry | null, options: FeedOptions) {
    this.part = part;
    this.entry = entry;
    this.#options = options;
    this.#remote = part.blob ? null : new Remote(part.url!, options);
    const { meta } = entry ?? {};
    if (this.#remote && meta && meta.size !== null) {
      // What is fetched must be of the same file.
      this.#remote.size = meta.size;
      this.#remote.version = meta.version;
    }
    this.#hash = options.hash ?? null;
  }

  get size(): number | undefined {
    return this.part.blob?.size ?? this.entry?.meta.size ?? this.#remote?.size ?? undefined;
  }

  /** All bytes, once. */
  async *pieces(): AsyncGenerator<Piece, void, void> {
    try {
      for await (const piece of this.#all()) {
        if (this.#options.signal?.aborted) throw abortError();
        const { offset, bytes, from } = piece;
        this.taken[from] += bytes.length;
        if (from !== "cache" && this.entry) {
          await this.entry.write(offset, bytes);
        }
        if (offset === this.#hashed) this.#push(bytes);
        yield piece;
      }
      await this.#finish();
    } catch (e) {
      // What was stored is of another file than what the server has now.
      if (e instanceof PagelmError && e.code === "model-changed") await this.entry?.discard();
      throw e;
    }
  }

  /** Releases everything. What is stored stays. */
  close(): void {
    for (const connection of this.#open) connection.close();
    this.entry?.close();
    this.#hash?.free();
    this.#hash = null;
  }

  async *#all(): AsyncGenerator<Piece, void, void> {
    const { entry } = this;
    for (let at = 0; at < (this.size ?? Number.POSITIVE_INFINITY); ) {
      if (entry?.has(at)) {
        for await (const bytes of entry.read(at)) {
          yield { offset: at, bytes, from: "cache" };
          at += bytes.length;
        }
        if (entry.has(at)) await entry.drop(at);
        continue;
      }
      let end = at + BLOCK;
      while (end < (this.size ?? 0) && !entry?.has(end)) end += BLOCK;
      const from = at;
      for await (const piece of this.part.blob ? this.#read(at) : this.#fetch(at, entry?.has(end) ? end : undefined)) {
        yield piece;
        at = Math.max(at, piece.offset + piece.bytes.length);
      }
      this.#length = at;
      // The end of a file of unknown length.
      if (at === from || this.size === undefined) return;
    }
  }

  async *#read(start: number): AsyncGenerator<Piece, void, void> {
    const reader = this.part.blob!.slice(start).stream().getReader();
    let offset = start;
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        yield { offset, bytes: value, from: "file" };
        offset += value.length;
      }
    } catch (e) {
      throw new PagelmError("io", `the file could not be read (${(e as Error).message}); was it moved or changed?`);
    } finally {
      void reader.cancel().catch(() => {});
    }
  }

  /** The bytes from `start` to before `end`, over as many connections as make it faster. */
  async *#fetch(start: number, end = Number.POSITIVE_INFINITY): AsyncGenerator<Piece, void, void> {
    const remote = this.#remote!;
    let { segment = SEGMENT } = this.#options;
    const open = this.#open;
    const limit = () => Math.min(end, remote.size ?? Number.POSITIVE_INFINITY);
    let next = start;
    async function* connection(entry: Entry | null): AsyncGenerator<Piece, void, void> {
      while (next < limit()) {
        const from = next;
        const to = Math.min(from + segment, limit());
        next = to;
        segment = Math.min(segment * 2, SEGMENT);
        const connection = await remote.connect(from, to);
        open.add(connection);
        const { size = null, version } = remote;
        await entry?.note({ size, version });
        let offset = from;
        for await (const bytes of connection) {
          yield { offset, bytes, from: "network" };
          offset += bytes.length;
        }
        open.delete(connection);
        // A server that does not know ranges sends more; less is the end of a file of unknown length.
        next = Math.max(next, offset);
        if (offset < to) end = offset;
      }
    }
    const ramp = new Ramp();
    const running = new Map<object, Promise<{ of: AsyncGenerator<Piece>; result: IteratorResult<Piece, void> }>>();
    const pull = (of: AsyncGenerator<Piece, void, void>) =>
      running.set(
        of,
        of.next().then((result) => ({ of, result })),
      );
    pull(connection(this.entry));
    try {
      while (running.size) {
        const { of, result } = await Promise.race(running.values());
        if (result.done) {
          running.delete(of);
          continue;
        }
        ramp.count(result.value.bytes.length);
        yield result.value;
        pull(of);
        const more = this.#maySpread() && remote.ranged && next < limit() && running.size < ramp.connections;
        if (more) pull(connection(null));
      }
    } finally {
      for (const promise of running.values()) promise.catch(() => {});
      for (const connection of open) connection.close();
    }
  }

  /** A sum needs the bytes in order, or those that came early again. */
  #maySpread(): boolean {
    return this.spread && (!this.#hash || this.entry?.open === true);
  }

  #push(bytes: Uint8Array): void {
    this.#hash?.push(bytes);
    this.#hashed += bytes.length;
  }

  /** Completes what is stored, and checks the sum. */
  async #finish(): Promise<void> {
    const { entry, part } = this;
    const size = this.size ?? this.#length;
    if (this.taken.network + this.taken.file > 0) await entry?.finish({ size });
    if (!this.#hash) return;
    if (this.#hashed < size && entry) {
      const skip = this.#hashed % BLOCK;
      let first = skip;
      for await (const bytes of entry.read(this.#hashed - skip)) {
        this.#push(bytes.subarray(first));
        first = 0;
      }
    }
    // Some bytes came early and could not be stored.
    if (this.#hashed < size) return;
    this.sum = this.#hash.finish();
    const want = part.sha256 ?? entry?.meta.sha256;
    if (want && want !== this.sum) {
      await entry?.discard();
      const message = `its SHA-256 is ${this.sum}, expected ${want}; it was not kept`;
      throw new PagelmError("bad-checksum", message, part.name);
    }
    await entry?.note({ sha256: this.sum, checked: true });
    if (want && this.taken.network && entry?.complete) await share(want, !this.#options.headers, entry);
  }
}

/** The most connections: browsers have six for a server, and the page needs some itself. */
const MOST_CONNECTIONS = 4;
/** How long a rate is measured, and how much better it must be for a connection to pay. */
const WINDOW_MS = 1500;
const PAYS = 1.15;

/** Adds connections as long as each makes the download faster. */
class Ramp {
  connections = 1;
  #since = performance.now();
  #bytes = 0;
  #best = 0;
  #done = false;

  count(bytes: number): void {
    this.#bytes += bytes;
    const ms = performance.now() - this.#since;
    if (this.#done || ms < WINDOW_MS) return;
    const rate = this.#bytes / ms;
    this.#done = rate < this.#best * PAYS || this.connections === MOST_CONNECTIONS;
    if (!this.#done) this.connections++;
    this.#best = rate;
    this.#bytes = 0;
    this.#since = performance.now();
  }
}
