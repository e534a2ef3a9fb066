// Files of models in the page's private file system (OPFS). Each has its bytes, in blocks, and a log that says which
// blocks are there and what they hash to: whatever a crash, a full disk or a flipped bit did to them is found by reading.

import { lock } from "../shared/locks.ts";
import { Entry, type Sums } from "./entry.ts";
import { complete, type Log, lengthOf, type Meta, readLog } from "./log.ts";

const FOLDER = "pagelm-models";

/** Half of its SHA-256. */
async function idOf(url: string): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(url)));
  return Array.from(digest.subarray(0, 16), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export interface OpenOptions {
  /** Whether what is missing will be written; else only what is there is read. */
  write: boolean;
  /** Called if another page downloads the file, before that is waited for. */
  onWait?: (() => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** All files of the store. */
export class Store {
  #folder: FileSystemDirectoryHandle;
  #sums: Sums | undefined;

  private constructor(folder: FileSystemDirectoryHandle, sums: Sums | undefined) {
    this.#folder = folder;
    this.#sums = sums;
  }

  /** Throws if the browser has no such file system, or does not give it to this page. Entries need the sums. */
  static async open(sums?: Sums): Promise<Store> {
    const root = await navigator.storage.getDirectory();
    return new Store(await root.getDirectoryHandle(FOLDER, { create: true }), sums);
  }

  async *logs(): AsyncGenerator<Log & { id: string; bytes: number; complete: boolean }, void, void> {
    for await (const name of this.#folder.keys()) {
      const id = name.split(".log")[0] as string;
      const log = id === name ? null : await this.#log(id);
      if (!log) continue;
      const sizes = [...log.blocks.keys()].map((i) => lengthOf(i, log.meta.size ?? Number.POSITIVE_INFINITY));
      yield { ...log, id, bytes: sizes.reduce((a, b) => a + b, 0), complete: complete(log) };
    }
  }

  async #log(id: string): Promise<Log | null> {
    try {
      return readLog(await (await this.file(id, "log")).text());
    } catch {
      return null;
    }
  }

  async file(id: string, type: "gguf" | "log"): Promise<File> {
    return (await this.#folder.getFileHandle(`${id}.${type}`)).getFile();
  }

  /** The entry of a file; a file that is known by its contents is found under another URL too. Null if there is none. */
  async entry(meta: Meta, { write, onWait, signal }: OpenOptions): Promise<Entry | null> {
    let id = await idOf(meta.url);
    if (meta.sha256 && !(await this.#log(id))) {
      for await (const log of this.logs()) if (log.meta.sha256 === meta.sha256) id = log.id;
    }
    const mayWait = signal ? { signal } : {};
    let reading = await lock(id, { mode: "shared", ifAvailable: true });
    for (;;) {
      if (reading) {
        const log = await this.#log(id);
        if (log && (complete(log) || !write))
          return new Entry(this.#folder, id, this.#sums!, log, reading).opened(false);
        await reading();
      }
      if (!write) return null;
      let writing = await lock(id, { ifAvailable: true });
      if (!writing) {
        onWait?.();
        writing = await lock(id, mayWait);
      }
      const log = await this.#log(id);
      if (log && complete(log)) {
        await writing!();
        reading = await lock(id, { ...mayWait, mode: "shared" });
        continue;
      }
      // Where the length is not known, nobody could say which blocks are whole.
      const known = log?.meta.size ? log : { meta, blocks: new Map() };
      return new Entry(this.#folder, id, this.#sums!, known, writing!).opened(true);
    }
  }

  /** Removes a file, unless it is in use. */
  async remove(id: string): Promise<boolean> {
    const release = await lock(id, { ifAvailable: true });
    if (!release) return false;
    for (const type of ["log", "gguf"]) await this.#folder.removeEntry(`${id}.${type}`).catch(() => {});
    await release();
    return true;
  }
}
