// Conversations that outlive the page: `pagelm/conversations`, a separate entry point. Their messages are kept, and snapshots of
// what the cache has of them, so that the next turn reads only what is new; an answer whose page died is finished.
import { Answering, type Asked, type Begun, messageOf, readLog, type SendParams } from "./answering.ts";
import { type ChatChunk, type ChatMessage, type Engine, PagelmError } from "./index.ts";
import { alone, hold, holding, Shelf } from "./kept.ts";
import { sendable } from "./sendable.ts";
import { line, readLine } from "./shared/lines.ts";
import type { Release } from "./shared/locks.ts";
import { Snapshots } from "./snapshots.ts";

export type { SendParams };

export interface ConversationsOptions {
  /** Those of one name are together; pages have them side by side. */
  name?: string;
  /** How many bytes snapshots may take together, 2 GB by default. The least recently used ones go first. */
  quota?: number;
  /** Told why something is kept in memory only, so that it ends with the page. */
  onProblem?: (problem: string) => void;
}

/** What the list of conversations has of each. */
export interface ConversationInfo {
  id: string;
  title: string;
  /** The name of the model that answered last. */
  model: string | null;
  /** When it was made and when it was answered last, in milliseconds since 1970. */
  created: number;
  updated: number;
  /** What is stored of it, with its snapshot. */
  bytes: number;
  /** An answer comes now, in this page or another one; or one was begun, and its page died: `resume` finishes it. */
  state: "idle" | "answering" | "unfinished";
}

/** What is written at the start of a file, for the list. */
interface Head extends Pick<ConversationInfo, "title" | "model" | "created" | "updated"> {
  /** Whether somebody chose the title. */
  named: boolean;
}

/** A conversation as it is written. */
interface Kept {
  head: Head;
  messages: ChatMessage[];
}

/** What a list reads of each file. */
const HEAD_BYTES = 4096;
const TITLE = 80;

/** Opens the conversations of this origin, to be answered by this engine. */
export async function openConversations(engine: Engine, options: ConversationsOptions = {}): Promise<Conversations> {
  const { name = "", quota = 2e9, onProblem = () => {} } = options;
  if (typeof name !== "string") throw new PagelmError("invalid-argument", "must be a string", "name");
  if (!(quota >= 0)) throw new PagelmError("invalid-argument", `must be a number of bytes, is ${quota}`, "quota");
  // A name for files.
  const folder = ["pagelm-conversations", ...(name ? [encodeURIComponent(name).replaceAll(".", "%2E")] : [])].join("-");
  return Conversations.on(engine, await Shelf.open(folder, onProblem), folder, quota);
}

export class Conversations {
  #engine: Engine;
  #shelf: Shelf;
  #folder: string;
  #snapshots: Snapshots;
  #answers = new Set<Answering>();
  #over = new AbortController();

  private constructor(engine: Engine, shelf: Shelf, folder: string, quota: number) {
    this.#engine = engine;
    this.#shelf = shelf;
    this.#folder = folder;
    this.#snapshots = new Snapshots(engine, shelf, quota);
    // The page may be gone soon, or its timers stand still.
    const hidden = () => {
      for (const answer of this.#answers) void answer.flush();
      void this.#snapshots.write();
    };
    const { signal } = this.#over;
    globalThis.document?.addEventListener("visibilitychange", () => document.hidden && hidden(), { signal });
    globalThis.document?.addEventListener("freeze", hidden, { signal });
    globalThis.addEventListener?.("pagehide", hidden, { signal });
  }

  /** @internal */
  static on(engine: Engine, shelf: Shelf, folder: string, quota: number): Conversations {
    return new Conversations(engine, shelf, folder, quota);
  }

  /** Why something is in memory only, if so: it ends with the page. */
  get problem(): string | null {
    return this.#shelf.problem;
  }

  /** The most recently answered ones first. */
  async list(): Promise<ConversationInfo[]> {
    const [files, answering] = await Promise.all([this.#shelf.files(), holding(`${this.#folder} `)]);
    const all: ConversationInfo[] = [];
    for (const name of files.keys()) {
      if (!name.endsWith(".chat")) continue;
      const id = name.slice(0, -5);
      const [, first = ""] = (await (await this.#shelf.read(name))?.slice(0, HEAD_BYTES).text())?.split("\n") ?? [];
      const head = readLine(first) as Head | undefined;
      if (!head) continue;
      const { named: _, ...rest } = head;
      const bytes = ["chat", "answer", "cache"].reduce((sum, of) => sum + (files.get(`${id}.${of}`)?.bytes ?? 0), 0);
      const begun = files.has(`${id}.answer`) ? "unfinished" : "idle";
      all.push({ id, ...rest, bytes, state: answering.includes(id) ? "answering" : begun });
    }
    return all.sort((a, b) => b.updated - a.updated);
  }

  /** A new one, perhaps with what was said elsewhere, such as a system message. */
  async create({ title, messages = [] }: { title?: string; messages?: ChatMessage[] } = {}): Promise<Conversation> {
    const now = Date.now();
    const named = title !== undefined;
    const head = { title: (title ?? "").slice(0, TITLE), model: null, created: now, updated: now, named };
    const kept: Kept = { head, messages: (await sendable(messages, "messages")) as ChatMessage[] };
    const id = crypto.randomUUID();
    await this.#write(id, kept);
    return this.#opened(id, kept, null);
  }

  /** One of the list. Its cache is restored meanwhile, if there is a snapshot that fits the engine. */
  async open(id: string): Promise<Conversation> {
    const { kept, begun } = await this.#read(id);
    void this.#snapshots.restore(id);
    return this.#opened(id, kept, begun);
  }

  async rename(id: string, title: string): Promise<void> {
    await this.#change(id, ({ head, messages }) => ({
      head: { ...head, title: title.slice(0, TITLE), named: true },
      messages,
    }));
  }

  /** Removes it and all that is kept of it. */
  async delete(id: string): Promise<void> {
    const release = await this.#hold(id);
    try {
      await this.#snapshots.forget(id);
      for (const of of ["answer", "chat", "cache"]) await this.#shelf.remove(`${id}.${of}`);
    } finally {
      await release();
    }
  }

  /**
   * Finishes an answer whose page died: `history` is what there was of it, and `stream` what follows, as if nothing had happened.
   * One page gets it: others are refused (`invalid-state`), as they are where nothing is unfinished.
   */
  async resume(
    id: string,
    options: Pick<SendParams, "signal" | "onPrefill"> = {},
  ): Promise<{ conversation: Conversation; history: ChatChunk[]; stream: AsyncGenerator<ChatChunk, void, void> }> {
    const release = await this.#hold(id);
    try {
      const { kept, begun } = await this.#read(id);
      if (!begun) throw new PagelmError("invalid-state", "no answer of it is unfinished: send a message", id);
      const model = this.#model();
      if (begun.asked.model !== model) {
        const what = `the answer was begun by another model, ${begun.asked.model}, this is ${model}`;
        throw new PagelmError("invalid-state", `${what}: open that one, or send a message to leave it as it is`, id);
      }
      const conversation = this.#opened(id, kept, begun);
      await this.#snapshots.restore(id);
      const stream = this.#run(conversation, kept, begun, options, release, false);
      // It goes on from here, whether somebody takes what comes or not.
      await stream.next();
      return { conversation, history: begun.chunks, stream: stream as AsyncGenerator<ChatChunk, void, void> };
    } catch (e) {
      await release();
      throw e;
    }
  }

  [Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")](): Promise<void> {
    return this.close();
  }

  /** Writes what is left, and holds nothing of the engine any more. */
  async close(): Promise<void> {
    this.#over.abort();
    await this.#snapshots.close();
  }

  #opened(id: string, kept: Kept, begun: Begun | null): Conversation {
    return Conversation.of(id, kept.head.title, shown(kept, begun), !!begun, (conversation, said, params) =>
      this.#send(conversation, said, params),
    );
  }

  /** All that is known of the model, by which another one is told from it. */
  #model(): string {
    const { name, architecture, quantization, parameters, fileBytes } = this.#engine.info.model;
    return [name, architecture, quantization, parameters, fileBytes].join(" ");
  }

  async #hold(id: string): Promise<Release> {
    const release = await hold(`${this.#folder} ${id}`);
    if (release) return release;
    throw new PagelmError("invalid-state", "an answer comes in this conversation already, in this page or another", id);
  }

  #write(id: string, { head, messages }: Kept): Promise<void> {
    return this.#shelf.write(`${id}.chat`, line(head) + line(messages));
  }

  async #read(id: string): Promise<{ kept: Kept; begun: Begun | null }> {
    const text = async (of: string) => (await (await this.#shelf.read(`${id}.${of}`))?.text()) ?? "";
    const [, head, messages] = (await text("chat")).split("\n").map(readLine) as [unknown, Head?, ChatMessage[]?];
    if (!head || !messages)
      throw new PagelmError("invalid-argument", "there is no such conversation, or its file is damaged", id);
    const begun = readLog(await text("answer"));
    // One that was finished, when the page died before its log was removed.
    return { kept: { head, messages }, begun: begun?.asked.after === messages.length ? begun : null };
  }

  #change(id: string, how: (kept: Kept) => Kept): Promise<void> {
    return alone(`${this.#folder} ${id} writes`, async () => this.#write(id, how((await this.#read(id)).kept)));
  }

  async *#send(
    conversation: Conversation,
    said: string | ChatMessage | ChatMessage[],
    params: SendParams,
  ): AsyncGenerator<ChatChunk, void, void> {
    const { id } = conversation;
    const { signal = null, onPrefill, ...rest } = params;
    const release = await this.#hold(id);
    let begun: Begun;
    let kept: Kept;
    try {
      const list = typeof said === "string" ? { role: "user" as const, content: said } : said;
      const more = (await sendable([list].flat(), "messages")) as ChatMessage[];
      const found = await this.#read(id);
      kept = found.kept;
      // What there was of an answer stays as it is.
      if (found.begun) {
        await this.#end(id, found.begun.asked, messageOf(found.begun.chunks));
        kept = (await this.#read(id)).kept;
      }
      const asked: Asked = {
        after: kept.messages.length,
        said: more,
        params: JSON.parse(JSON.stringify(await sendable(rest, ""))),
        given: [Date.now(), ...crypto.getRandomValues(new Uint32Array(4))],
        model: this.#model(),
      };
      begun = { asked, replay: [], chunks: [] };
      await this.#snapshots.restore(id);
    } catch (e) {
      await release();
      throw e;
    }
    const own = { signal, ...(onPrefill && { onPrefill }) };
    const all = this.#run(conversation, kept, begun, own, release, true);
    try {
      await all.next();
      for await (const chunk of all) yield chunk as ChatChunk;
    } finally {
      await all.return();
    }
  }

  /** Nothing once the engine answers, and then what comes. */
  async *#run(
    conversation: Conversation,
    kept: Kept,
    begun: Begun,
    own: Pick<SendParams, "signal" | "onPrefill">,
    release: Release,
    fresh: boolean,
  ): AsyncGenerator<ChatChunk | undefined, void, void> {
    const { id } = conversation;
    const { asked } = begun;
    const answer = new Answering(begun, (text) => this.#shelf.append(`${id}.answer`, text));
    // Where the engine is gone, another page goes on.
    let ours = true;
    try {
      conversation.show(shown(kept, begun), true);
      this.#answers.add(answer);
      try {
        await answer.begin(this.#engine, [...kept.messages, ...asked.said], own, fresh);
        void answer.begun.then(() => this.#snapshots.used(id));
        yield;
        yield* answer.rest();
      } catch (e) {
        ours = !this.#engine.ended;
        throw e;
      }
    } finally {
      this.#answers.delete(answer);
      answer.drop();
      await answer.settled();
      if (ours) {
        await this.#end(id, asked, messageOf(answer.given));
        conversation.show((await this.#read(id)).kept.messages, false);
        if (answer.given.length) this.#snapshots.soon(id, answer.tokens);
      }
      await release();
    }
  }

  /** Takes an answer into the conversation; where nothing came, what was asked is taken back. */
  async #end(id: string, { after, said }: Asked, message: ChatMessage | null): Promise<void> {
    const model = this.#engine.info.model.name;
    if (message)
      await this.#change(id, ({ head, messages }) => ({
        head: { ...head, model, updated: Date.now(), title: head.named ? head.title : titleOf([...messages, ...said]) },
        messages: [...messages.slice(0, after), ...said, message],
      }));
    await this.#shelf.remove(`${id}.answer`);
  }
}

/** The messages with an answer that is not finished. */
function shown({ messages }: Kept, begun: Begun | null): ChatMessage[] {
  const part = begun && messageOf(begun.chunks);
  return [...messages, ...(begun?.asked.said ?? []), ...(part ? [part] : [])];
}

/** The start of what was asked first. */
function titleOf(messages: ChatMessage[]): string {
  const { content } = messages.find(({ role }) => role === "user") ?? {};
  const parts = Array.isArray(content) ? content : [{ type: "text" as const, text: content ?? "" }];
  const text = parts.map((part) => (part.type === "text" ? part.text : "")).join(" ");
  return text.trim().replace(/\s+/g, " ").slice(0, TITLE);
}

type Send = (
  conversation: Conversation,
  said: string | ChatMessage | ChatMessage[],
  params: SendParams,
) => AsyncGenerator<ChatChunk, void, void>;

/** What was said, and what is said next. */
export class Conversation {
  readonly id: string;
  readonly title: string;
  #messages: readonly ChatMessage[];
  #unfinished: boolean;
  #send: Send;

  private constructor(id: string, title: string, messages: readonly ChatMessage[], unfinished: boolean, send: Send) {
    this.id = id;
    this.title = title;
    this.#messages = messages;
    this.#unfinished = unfinished;
    this.#send = send;
  }

  /** @internal */
  static of(id: string, title: string, messages: ChatMessage[], unfinished: boolean, send: Send): Conversation {
    return new Conversation(id, title, messages, unfinished, send);
  }

  /** With the part that there is of an unfinished answer. While an answer comes, without it. */
  get messages(): readonly ChatMessage[] {
    return this.#messages;
  }

  /** Whether an answer was begun and has not ended. `resume` finishes it, and `send` leaves it as it is. */
  get unfinished(): boolean {
    return this.#unfinished;
  }

  /**
   * Says something, such as a text, a message with images, or results of tools, and streams the answer, with parameters of chat
   * completions. It is asked when it is first iterated. Who leaves the loop stops the answer, as the signal does: what came
   * stays, and where nothing came, what was said is taken back.
   */
  send(said: string | ChatMessage | ChatMessage[], params: SendParams = {}): AsyncGenerator<ChatChunk, void, void> {
    return this.#send(this, said, params);
  }

  /** @internal */
  show(messages: ChatMessage[], unfinished: boolean): void {
    this.#messages = messages;
    this.#unfinished = unfinished;
  }
}
