// An answer while it comes: what there is of it goes to who asked and into a log, from which another page finishes it.
import type { ChatChunk, ChatMessage, ChatParams, Endpoints } from "./index.ts";
import { line, readLine } from "./shared/lines.ts";
import { Answer } from "./tools.ts";

/** How an answer is made: parameters of chat completions. */
export type SendParams = Omit<ChatParams, "messages" | "stream" | "n">;

/** What the answer is to. */
export interface Asked {
  /** How many messages the conversation had before. */
  after: number;
  /** What was said then. */
  said: ChatMessage[];
  params: Record<string, unknown>;
  /** The time and random numbers of the request. */
  given: number[];
  /** The model, by all that is known of it. */
  model: string;
}

/** What came at a time: the engine's journal of it, and the chunks without what is as in the first. */
interface Part {
  journal: number[];
  chunks: Record<string, unknown>[];
}

/** An answer that was begun, as its log has it. */
export interface Begun {
  asked: Asked;
  replay: number[];
  chunks: ChatChunk[];
}

/** How often the log is written, in milliseconds. */
const PACE = 250;

/** The chunks that follow differ from the first in little. */
const without = (first: Record<string, unknown>, chunk: Record<string, unknown>) =>
  Object.fromEntries(Object.entries(chunk).filter(([k, v]) => JSON.stringify(v) !== JSON.stringify(first[k])));

/** What a log says: up to the first line that is not whole. Null where it does not even say what was asked. */
export function readLog(text: string): Begun | null {
  const [, ...lines] = text.split("\n");
  const asked = readLine(lines.shift() ?? "") as Asked | undefined;
  if (!asked) return null;
  const begun: Begun = { asked, replay: [], chunks: [] };
  for (const line of lines) {
    const part = readLine(line) as Part | undefined;
    if (!part) break;
    // Not by spreading it: a call takes only so many arguments.
    for (const n of part.journal) begun.replay.push(n);
    for (const chunk of part.chunks) begun.chunks.push({ ...begun.chunks[0], ...chunk } as ChatChunk);
  }
  return begun;
}

/** The message that these chunks make; null if nothing is in it. */
export function messageOf(chunks: Iterable<ChatChunk>): ChatMessage | null {
  const answer = new Answer();
  for (const chunk of chunks) answer.add(chunk);
  const message = answer.message();
  return Object.values(message).some((v) => v && v !== "assistant") ? message : null;
}

/** The tokens that were drawn, by a journal (`crate/api/journal.rs`). */
function drawn(journal: number[]): number[] {
  const tokens: number[] = [];
  for (let at = 0; at < journal.length; ) {
    const [kind, id, , likeliest] = journal.slice(at, at + 4) as [number, number, number, number];
    // Of three bits; above them is which answer it is of: here is one.
    if (kind === 3 || kind === 4) tokens.push(id);
    at += kind < 2 ? 1 : kind === 4 ? 4 + 2 * likeliest : 2;
  }
  return tokens;
}

/** Where the log is kept. */
export type Append = (text: string) => Promise<void>;

export class Answering {
  readonly asked: Asked;
  /** All that came. */
  readonly chunks: ChatChunk[];
  /** How it ended. */
  state: "coming" | "whole" | { error: unknown } = "coming";
  #journal: { given: number[]; replay: number[] };
  #append: Append;
  #stop = new AbortController();
  /** How much of both is in the log. */
  #logged: { replay: number; chunks: number };
  /** How many chunks who asked has got. */
  #taken: number;
  #wake = () => {};
  #come = () => {};
  /** Resolves once something came, or nothing will: until then it may wait for images, and need what is restored for it. */
  readonly begun = new Promise<void>((come) => {
    this.#come = come;
  });
  #last = performance.now();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #writing: Promise<unknown> = Promise.resolve();

  constructor({ asked, replay, chunks }: Begun, append: Append) {
    this.asked = asked;
    this.chunks = [...chunks];
    this.#append = append;
    this.#journal = { given: asked.given, replay: [...replay] };
    this.#logged = { replay: replay.length, chunks: chunks.length };
    this.#taken = chunks.length;
  }

  /** Asks, and resolves once the engine answers. What was asked is in the log before. */
  async begin(engine: Pick<Endpoints, "chat">, messages: ChatMessage[], own: SendParams, fresh: boolean) {
    if (fresh) this.#write(line(this.asked));
    const { signal, onPrefill } = own;
    const stop = this.#stop.signal;
    const params = { ...this.asked.params, ...(onPrefill && { onPrefill }), messages, stream: true as const };
    const journal = this.#journal;
    const stream = await engine.chat.completions.create(params as ChatParams & { stream: true }, {
      signal: signal ? AbortSignal.any([signal, stop]) : stop,
      journal,
    });
    void this.#pump(stream);
  }

  /** Whether who asked takes it or not: it is kept. */
  async #pump(stream: AsyncGenerator<ChatChunk, void, void>): Promise<void> {
    try {
      for await (const chunk of stream) {
        this.chunks.push(chunk);
        this.#come();
        this.#wake();
        this.#soon();
      }
      this.state = "whole";
    } catch (error) {
      this.state = { error };
    }
    this.#come();
    this.#wake();
  }

  /** What follows, to its end. */
  async *rest(): AsyncGenerator<ChatChunk, void, void> {
    for (;;) {
      const chunk = this.chunks[this.#taken];
      if (chunk) {
        this.#taken++;
        yield chunk;
      } else if (this.state === "whole") return;
      else if (this.state !== "coming") throw this.state.error;
      else
        await new Promise<void>((wake) => {
          this.#wake = wake;
        });
    }
  }

  /** What who asked has got. */
  get given(): ChatChunk[] {
    return this.chunks.slice(0, this.#taken);
  }

  /** The tokens of it that came. */
  get tokens(): number[] {
    return drawn(this.#journal.replay);
  }

  /** Nobody wants what follows. */
  drop(): void {
    this.#stop.abort();
  }

  /** Writes some times a second. Timers of pages that nobody sees wait for up to a minute: messages do not. */
  #soon(): void {
    if (performance.now() - this.#last < PACE) {
      this.#timer ??= setTimeout(() => this.flush(), PACE);
      return;
    }
    this.#last = performance.now();
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      void this.flush();
    };
    port2.postMessage(null);
  }

  /** Writes what the log lacks. It must be called from a task of its own: then what the journal says has come as chunks. */
  flush(): Promise<unknown> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const { replay } = this.#journal;
    const from = this.#logged;
    if (replay.length <= from.replay) return this.#writing;
    this.#last = performance.now();
    const [first] = this.chunks as unknown as Record<string, unknown>[];
    const chunks = this.chunks.slice(from.chunks) as unknown as Record<string, unknown>[];
    const part: Part = {
      journal: replay.slice(from.replay),
      chunks: chunks.map((chunk) => (chunk === first ? chunk : without(first!, chunk))),
    };
    this.#logged = { replay: replay.length, chunks: this.chunks.length };
    return this.#write(line(part));
  }

  #write(text: string): Promise<unknown> {
    this.#writing = this.#writing.then(() => this.#append(text));
    return this.#writing;
  }

  /** Resolves once nothing is written any more. */
  async settled(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#logged.replay = Number.POSITIVE_INFINITY;
    await this.#writing;
  }
}
