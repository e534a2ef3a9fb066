// What the cache has of conversations, on disk: as much as the quota allows, the most recently used ones.
import type { Engine, EngineInfo, Session } from "./index.ts";
import type { Shelf } from "./kept.ts";

/** How long after an answer its snapshot is taken, in milliseconds: who asks on at once needs none. */
const LATER = 500;
/** How many tokens of an answer that was stopped may have run, at most, and did not come. */
const MORE = 64;

export class Snapshots {
  #engine: Engine;
  #shelf: Shelf;
  #quota: number;
  /** Whose answer was the last: the cache has it. */
  #last: { id: string; info: EngineInfo } | null = null;
  /** Whose snapshot is still to be taken. */
  #due: { id: string; tokens: number[]; timer: ReturnType<typeof setTimeout> } | null = null;
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

  /** An answer of these tokens has ended. */
  soon(id: string, tokens: number[]): void {
    // What another one left is not the last any more.
    this.#cancel();
    this.#due = { id, tokens, timer: setTimeout(() => void this.write(), LATER) };
  }

  #cancel(): void {
    clearTimeout(this.#due?.timer);
    this.#due = null;
  }

  /** Takes the snapshot that is due. Nobody waits for it who does not ask for anything. */
  write(): Promise<void> {
    const due = this.#due;
    this.#cancel();
    if (due) this.#writing = this.#writing.then(() => this.#take(due)).catch(() => {});
    return this.#writing;
  }

  async #take({ id, tokens }: { id: string; tokens: number[] }): Promise<void> {
    if (!this.#shelf.stores) return;
    const session = await this.#engine.session({ last: true });
    let snapshot: Blob;
    try {
      snapshot = await session.snapshot();
    } finally {
      void session.close().catch(() => {});
    }
    // A request of others may have ended since. What there is of the conversation stays: it is the start of it.
    if (!endsWith(await tokensOf(snapshot), tokens)) return;
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

/** The tokens of a snapshot (`crate/engine/snapshot.rs`): their number is behind two others. */
async function tokensOf(snapshot: Blob): Promise<Uint32Array> {
  const number = new DataView(await snapshot.slice(16, 24).arrayBuffer());
  const end = 24 + 4 * Number(number.getBigUint64(0, true));
  return new Uint32Array(await snapshot.slice(24, end).arrayBuffer());
}

/** Whether an answer is at the end. The last of its tokens need not have run, such as those that its grammar gave. */
function endsWith(tokens: Uint32Array, answer: number[]): boolean {
  for (let at = tokens.length - 1; at > 0 && tokens.length - at <= answer.length + MORE; at--) {
    const both = Math.min(tokens.length - at, answer.length);
    if (2 * both >= answer.length && answer.slice(0, both).every((id, i) => id === tokens[at + i])) return both > 0;
  }
  return false;
}
