// One file of the store while it is loaded: its blocks are read, checked and written.

import { line } from "../shared/lines.ts";
import { lock, type Release } from "../shared/locks.ts";
import type { Bytes } from "./fetch.ts";
import { yieldToEventLoop } from "./lanes.ts";
import { BLOCK, complete, type Log, lengthOf, type Meta } from "./log.ts";

/** A `FileSystemSyncAccessHandle`. */
interface SyncFile {
  read(bytes: Bytes, options: { at: number }): number;
  write(bytes: Bytes, options: { at: number }): number;
  getSize(): number;
  flush(): void;
  close(): void;
}

const syncFile = (file: FileSystemFileHandle, options: object) =>
  (file as unknown as { createSyncAccessHandle(options: object): Promise<SyncFile> }).createSyncAccessHandle(options);

/** The files of a page that was killed are released a little later than its locks. */
async function retried<T>(open: () => Promise<T>): Promise<T> {
  for (let left = 20; ; left--) {
    try {
      return await open();
    } catch (e) {
      if (!left) throw e;
      await new Promise((go) => setTimeout(go, 50));
    }
  }
}

/** The engine's module, which may still be on its way: the sum by which a damaged block is known. */
export type Sums = Promise<{ wasm: { blockSum(bytes: Bytes): string } }>;

/** One file of the store, for one load. */
export class Entry {
  /** Why nothing is written any more. */
  problem: string | null = null;
  #folder: FileSystemDirectoryHandle;
  #id: string;
  #sums: Sums;
  #log: Log;
  #release: Release;
  /** Null in an entry that is only read. */
  #records: SyncFile | null = null;
  #data: SyncFile | Blob | null = null;
  /** Blocks of which only the start has come. */
  #partial = new Map<number, { bytes: Bytes; filled: number }>();
  #spare: Bytes[] = [];

  constructor(folder: FileSystemDirectoryHandle, id: string, sums: Sums, log: Log, release: Release) {
    this.#folder = folder;
    this.#id = id;
    this.#sums = sums;
    this.#log = log;
    this.#release = release;
  }

  /** Opens it to be read or also written. */
  async opened(write: boolean): Promise<this> {
    try {
      await this.#open(write);
      return this;
    } catch (e) {
      this.close();
      throw e;
    }
  }

  async #open(write: boolean): Promise<void> {
    const file = (type: string) => this.#folder.getFileHandle(`${this.#id}.${type}`, { create: write });
    if (write) {
      const open = (type: string) => retried(async () => syncFile(await file(type), {}));
      this.#data = await open("gguf");
      this.#records = await open("log");
      this.#append(this.meta);
    } else {
      // Several pages may read at once, where the browser knows this mode; elsewhere the second one reads a `File`.
      const data = await file("gguf");
      this.#data = await syncFile(data, { mode: "read-only" }).catch(() => data.getFile());
    }
  }

  get meta(): Meta {
    return this.#log.meta;
  }

  get complete(): boolean {
    return complete(this.#log);
  }

  /** Whether it can be written. */
  get open(): boolean {
    return this.#records !== null && this.problem === null;
  }

  /** Whether the block that begins at this byte is there. */
  has(at: number): boolean {
    return this.meta.size !== null && this.#log.blocks.has(at / BLOCK);
  }

  /** The blocks from byte `start` on, as far as they are there and whole. Their bytes are valid until the next is taken. */
  async *read(start: number): AsyncGenerator<Bytes, void, void> {
    const memory = new Uint8Array(BLOCK);
    for (let i = start / BLOCK; this.has(i * BLOCK); i++) {
      // Files are read at once: in between an abort may come.
      await yieldToEventLoop();
      const bytes = await this.#block(i, memory, await this.#sums);
      if (!bytes) return;
      yield bytes;
    }
  }

  async #block(i: number, memory: Bytes, sums: Awaited<Sums>): Promise<Bytes | null> {
    const length = lengthOf(i, this.meta.size!);
    const at = i * BLOCK;
    let bytes = memory.subarray(0, length);
    try {
      if (this.#data instanceof Blob) {
        bytes = new Uint8Array(await this.#data.slice(at, at + length).arrayBuffer());
      } else if (this.#data!.read(bytes, { at }) !== length) return null;
      return sums.wasm.blockSum(bytes) === this.#log.blocks.get(i) ? bytes : null;
    } catch {
      // The browser may take the file away.
      return null;
    }
  }

  /** Forgets the block at this byte, which could not be read: it is to be written again. */
  async drop(at: number): Promise<void> {
    await this.#writable();
    this.#log.blocks.delete(at / BLOCK);
    this.#append([at / BLOCK]);
  }

  /** Waits until nobody else reads it, if it was only read up to now. */
  async #writable(): Promise<void> {
    if (this.#records) return;
    this.#closeFiles();
    await this.#release();
    this.#release = (await lock(this.#id, {}))!;
    await this.#open(true).catch((e) => this.#fail(e));
  }

  /** Takes what comes; whole blocks are written. */
  async write(offset: number, bytes: Bytes): Promise<void> {
    const sums = await this.#sums;
    for (let at = 0; at < bytes.length; ) {
      const i = Math.floor((offset + at) / BLOCK);
      const inside = offset + at - i * BLOCK;
      const length = Math.min(bytes.length - at, BLOCK - inside);
      if (this.open && !this.#log.blocks.has(i)) {
        if (inside === 0) this.#partial.set(i, { bytes: this.#spare.pop() ?? new Uint8Array(BLOCK), filled: 0 });
        const block = this.#partial.get(i);
        // A block that was not seen from its start on is left out.
        if (block?.filled === inside) {
          block.bytes.set(bytes.subarray(at, at + length), inside);
          block.filled += length;
          if (block.filled === BLOCK) this.#seal(i, sums);
        }
      }
      at += length;
    }
  }

  #seal(i: number, sums: Awaited<Sums>): void {
    const block = this.#partial.get(i)!;
    const bytes = block.bytes.subarray(0, block.filled);
    this.#partial.delete(i);
    try {
      (this.#data as SyncFile).write(bytes, { at: i * BLOCK });
    } catch (e) {
      this.#fail(e);
      return;
    }
    const sum = sums.wasm.blockSum(bytes);
    this.#spare.push(block.bytes);
    this.#log.blocks.set(i, sum);
    this.#append([i, sum]);
  }

  /** Takes note of what is now known of the file. */
  async note(known: Partial<Meta>): Promise<void> {
    const now = { ...this.meta, ...known };
    const grown = now.size !== this.meta.size;
    if (JSON.stringify(now) === JSON.stringify(this.meta)) return;
    await this.#writable();
    this.#log.meta = now;
    if (grown && now.size && this.open) {
      const { quota = Number.POSITIVE_INFINITY, usage = 0 } = await navigator.storage.estimate();
      const need = now.size - this.#log.blocks.size * BLOCK;
      if (need > quota - usage) {
        return this.#fail(`it needs ${need} bytes more, the browser gives ${quota - usage}`);
      }
    }
    this.#append(now);
  }

  /** Writes what is left: the last block is shorter. */
  async finish(known: Partial<Meta>): Promise<void> {
    await this.note(known);
    const { size } = this.meta;
    const sums = await this.#sums;
    for (const [i, { filled }] of this.#partial) if (size && filled === lengthOf(i, size)) this.#seal(i, sums);
  }

  /** Waits until the disk has all of it. A load need not: a block that a power cut loses is known by its sum. */
  flush(): void {
    if (!this.open) return;
    try {
      (this.#data as SyncFile).flush();
      this.#records!.flush();
    } catch (e) {
      this.#fail(e);
    }
  }

  /** Removes the file, whose bytes are of another one. */
  async discard(): Promise<void> {
    this.close();
    const release = await lock(this.#id, {});
    for (const type of ["log", "gguf"]) await this.#folder.removeEntry(`${this.#id}.${type}`).catch(() => {});
    release!();
  }

  #append(value: Meta | [number, string?]): void {
    if (!this.open) return;
    try {
      this.#records!.write(new TextEncoder().encode(line(value)), { at: this.#records!.getSize() });
    } catch (e) {
      this.#fail(e);
    }
  }

  /** Gives up writing: the load goes on without. */
  #fail(e: unknown): void {
    this.problem ??= e instanceof Error ? `${e.name}: ${e.message}` : String(e);
    this.#partial.clear();
  }

  #closeFiles(): void {
    for (const file of [this.#data, this.#records]) {
      try {
        if (file && "close" in file) file.close();
      } catch {
        // The browser took it away.
      }
    }
    this.#data = this.#records = null;
  }

  close(): void {
    this.#closeFiles();
    void this.#release();
  }
}
