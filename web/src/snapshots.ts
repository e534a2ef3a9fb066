// What the cache has of conversations, on disk: as much as the quota allows, the most recently used ones.
import type { Engine, EngineInfo, Session } from "./index.ts";
import type { Shelf } from "./kept.ts";

/** How long after an answer its snapshot is taken, in milliseconds: who asks on at once needs none. */
const LATER = 500;

export class Snapshots {
  #engine: Engine;
  #shelf: Shelf;
  #quota: number;
  /** Whose answer was the last: the cache has it. */
  #last: { id: string; info: EngineInfo } | null = null;
  /** Whose snapshot is still to be taken. */
  #due: { id: string; timer: ReturnType<typeof setTimeout> } | null = null;
  /** Restored, until the next turn has gone on from it. */
  #restored: { id: string; session: Promise<Session | null> } | null = null;
  #writing: Promise<void> = Promise.resolve();

  constructor(engine: Engine, shelf: Shelf, quota: number) {
    this.#engine = engine;
    this.#shelf = shelf;
    this.#quota = quota;
  }

  /** Brings what the cache had of a conversation back, if need be, before its next turn or when it is opened. */
  async restore(id: string): Promise<void> {
    if (this.#due?.id === id) this.#cancel();
    else await this.write();
    const { info } = this.#engine;
    if (this.#last?.id === id && this.#last.info === info) return;
    if (this.#restored?.id !== id) {
      await this.#release();
      this.#restored = { id, session: this.#read(id) };
    }
    await this.#restored!.session;
  }

  async #read(id: string): Promise<Session | null> {
    const restore = await this.#shelf.read(`${id}.cache`);
    if (!restore) return null;
    try {
      return await this.#engine.session({ restore });
    } catch (e) {
      // Of another model, or damaged: the turn reads all of its prompt.
      if ((e as { code?: string }).code === "bad-snapshot") await this.#shelf.remove(`${id}.cache`);
      return null;
    }
  }

  /** A turn of a conversation runs, and has what it needs of the snapshot. */
  used(id: string): void {
    this.#last = { id, info: this.#engine.info };
    void this.#release();
  }

  async #release(): Promise<void> {
    const { session } = this.#restored ?? {};
    this.#restored = null;
    await (await session)?.close().catch(() => {});
  }

  /** An answer has ended. */
  soon(id: string): void {
    // What another one left is not the last any more.
    this.#cancel();
    this.#due = { id, timer: setTimeout(() => void this.write(), LATER) };
  }

  #cancel(): void {
    clearTimeout(this.#due?.timer);
    this.#due = null;
  }

  /** Takes the snapshot that is due. Nobody waits for it who does not ask for anything. */
  write(): Promise<void> {
    const { id } = this.#due ?? {};
    this.#cancel();
    if (id) this.#writing = this.#writing.then(() => this.#take(id)).catch(() => {});
    return this.#writing;
  }

  async #take(id: string): Promise<void> {
    if (!this.#shelf.stores) return;
    const session = await this.#engine.session({ last: true });
    let snapshot: Blob;
    try {
      snapshot = await session.snapshot();
    } finally {
      void session.close().catch(() => {});
    }
    const file = `${id}.cache`;
    const files = [...(await this.#shelf.files())].filter(([name]) => name.endsWith(".cache") && name !== file);
    const others = files.sort(([, a], [, b]) => a.written - b.written);
    let used = others.reduce((sum, [, { bytes }]) => sum + bytes, snapshot.size);
    const evict = async () => {
      const [name, { bytes = 0 } = {}] = others.shift() ?? [];
      if (!name) return false;
      used -= bytes;
      await this.#shelf.remove(name);
      return true;
    };
    if (snapshot.size > this.#quota) return this.#shelf.remove(file);
    while (used > this.#quota && (await evict()));
    for (;;) {
      try {
        return await this.#shelf.stream(file, snapshot);
      } catch {
        // The browser gives less than that.
        if (!(await evict())) return this.#shelf.remove(file);
      }
    }
  }

  /** Nothing of a conversation is needed any more. */
  async forget(id: string): Promise<void> {
    if (this.#due?.id === id) this.#cancel();
    if (this.#restored?.id === id) await this.#release();
    await this.#writing;
  }

  async close(): Promise<void> {
    await this.write();
    await this.#release();
  }
}
