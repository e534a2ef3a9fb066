// What conversations keep: small files in the page's private file system (OPFS). Where the browser has none or no room, the
// file stays in memory, and the page is told.

import { lock, type Release } from "./shared/locks.ts";

export interface Size {
  bytes: number;
  /** When it was written last, in milliseconds since 1970. */
  written: number;
}

/** A folder of files. Each is written as a whole: who is killed meanwhile leaves what was there before. */
export class Shelf {
  /** Why something is in memory only, if so. */
  problem: string | null = null;
  #folder: FileSystemDirectoryHandle | null = null;
  #told: (problem: string) => void;
  /** Files that the folder did not take. */
  #memory = new Map<string, { blob: Blob; written: number }>();

  private constructor(told: (problem: string) => void) {
    this.#told = told;
  }

  static async open(name: string, told: (problem: string) => void): Promise<Shelf> {
    const shelf = new Shelf(told);
    try {
      const root = await navigator.storage.getDirectory();
      shelf.#folder = await root.getDirectoryHandle(name, { create: true });
    } catch (e) {
      shelf.#failed(e);
    }
    return shelf;
  }

  /** Whether the browser stores files for this page. */
  get stores(): boolean {
    return this.#folder !== null;
  }

  #failed(e: unknown): void {
    const problem = e instanceof Error ? `${e.name}: ${e.message}` : String(e);
    if (problem === this.problem) return;
    this.problem = problem;
    this.#told(problem);
  }

  /** A file, which the browser reads when it is asked for its bytes; null if there is none. */
  async read(file: string): Promise<Blob | null> {
    const kept = this.#memory.get(file);
    if (kept) return kept.blob;
    try {
      return (await (await this.#folder?.getFileHandle(file))?.getFile()) ?? null;
    } catch {
      return null;
    }
  }

  /** Writes a file whole, piece by piece. Throws if there is no room. */
  async stream(file: string, blob: Blob): Promise<void> {
    if (!this.#folder) throw new Error("nothing is stored");
    const handle = await this.#folder.getFileHandle(file, { create: true });
    await blob.stream().pipeTo(await handle.createWritable());
  }

  async write(file: string, text: string): Promise<void> {
    const blob = new Blob([text]);
    try {
      await this.stream(file, blob);
      this.#memory.delete(file);
    } catch (e) {
      this.#keep(file, blob, e);
    }
  }

  /** Adds to the end of a file. */
  async append(file: string, text: string): Promise<void> {
    const kept = this.#memory.get(file)?.blob;
    if (kept) return this.write(file, `${await kept.text()}${text}`);
    try {
      if (!this.#folder) throw new Error("nothing is stored");
      const handle = await this.#folder.getFileHandle(file, { create: true });
      const to = await handle.createWritable({ keepExistingData: true });
      await to.write({ type: "write", position: (await handle.getFile()).size, data: text });
      await to.close();
    } catch (e) {
      const before = await this.read(file);
      this.#keep(file, new Blob([...(before ? [await before.arrayBuffer()] : []), text]), e);
    }
  }

  #keep(file: string, blob: Blob, e: unknown): void {
    this.#memory.set(file, { blob, written: Date.now() });
    if (this.#folder) this.#failed(e);
  }

  async remove(file: string): Promise<void> {
    this.#memory.delete(file);
    await this.#folder?.removeEntry(file).catch(() => {});
  }

  async files(): Promise<Map<string, Size>> {
    const all = new Map<string, Size>();
    if (this.#folder) {
      for await (const name of this.#folder.keys()) {
        const file = await (await this.#folder.getFileHandle(name)).getFile().catch(() => null);
        if (file) all.set(name, { bytes: file.size, written: file.lastModified });
      }
    }
    for (const [name, { blob, written }] of this.#memory) all.set(name, { bytes: blob.size, written });
    return all;
  }
}

/** Names that this page holds, where the browser has no locks: then it has no other page either that would share files. */
const held = new Set<string>();

/** Holds a name for this page; null if it is held already, by any page of the origin. */
export async function hold(name: string): Promise<Release | null> {
  if (globalThis.navigator?.locks) return lock(name, { ifAvailable: true });
  if (held.has(name)) return null;
  held.add(name);
  return async () => held.delete(name);
}

/** Which of the names that begin so are held, by any page. */
export async function holding(start: string): Promise<string[]> {
  const locks = globalThis.navigator?.locks;
  const all = locks ? (await locks.query()).held?.map(({ name = "" }) => name.replace(/^pagelm /, "")) : [...held];
  return (all ?? []).filter((name) => name.startsWith(start)).map((name) => name.slice(start.length));
}

/** Does something while nobody else does something of this name. */
export async function alone<T>(name: string, work: () => Promise<T>): Promise<T> {
  if (!globalThis.navigator?.locks) return work();
  const release = await lock(name, {});
  try {
    return await work();
  } finally {
    await release!();
  }
}
