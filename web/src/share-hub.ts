// The engine of several tabs, in the one that has it: whose requests run, and whose answers are whose.
import type { Port } from "./page/client.ts";
import type { ErrorData } from "./shared/errors.ts";
import { watchLife } from "./shared/locks.ts";
import type { FromWorker, Request, ToWorker } from "./shared/protocol.ts";
import type { Embeddings, EngineInfo } from "./shared/types.ts";

export type LoadRequest = Extract<Request, { op: "load" }>;
type Run = Extract<Request, { op: "generate" | "request" }>;

/** A tab's way to the engine. */
export interface Link {
  postMessage(message: ToWorker): void;
  /** Ends what the tab has in the engine, and nothing else. */
  close(): void;
}

/** How many pieces of a generation come before it makes way for that of a tab that has fewer. */
export const TURN = 128;
/** Texts that are embedded before others have their turn: as many as a step has room for. */
const TEXTS = 16;
/** Generations that run at once if the options do not say, as in the engine. */
const SEQUENCES = 2;
/** The number of the load in the worker. */
const LOAD = 0;

/** A request of a tab. */
interface Job {
  guest: Guest;
  message: Request;
  /** Its number in the worker; 0 while it waits. */
  as: number;
  /** Pieces since it began, or began again; of texts to embed, those that are done. */
  taken: number;
  /** Embeddings of those texts. */
  rows?: Embeddings;
}

interface Guest {
  say(message: FromWorker): void;
  jobs: Map<number, Job>;
  waiting: Job[];
  running: Set<Job>;
  sessions: Set<number>;
  /** The number of its load, until that is answered. */
  load?: number | undefined;
  /** When a generation of it began last. */
  served: number;
}

const isRun = (message: Request): message is Run => message.op === "generate" || message.op === "request";
const opens = ({ op }: Request) => op === "openSession" || op === "restore";
/** Whether somebody takes what comes of it. */
const taken = ({ message }: Job) => (message as Run).credit > 0;

export class Hub {
  #port: Port;
  #life: string;
  #over = new AbortController();
  #slots: number;
  #info: EngineInfo | undefined;
  #guests = new Set<Guest>();
  /** What the worker has, by the numbers there. Sessions that nobody waits for any more are closed once they are open. */
  #jobs = new Map<number, Job>();
  #next = LOAD + 1;
  #failed: (error: ErrorData) => void;

  /** `failed` is told if the model does not load. */
  constructor(port: Port, load: LoadRequest, failed: (error: ErrorData) => void) {
    this.#port = port;
    this.#life = load.life;
    this.#slots = load.options.sequences ?? SEQUENCES;
    this.#failed = failed;
    const lose = (message: string) => this.#lose({ code: "worker-lost", place: "", message });
    port.onmessage = ({ data }) => this.#receive(data);
    port.onerror = (event) => {
      event.preventDefault?.();
      lose(`the worker failed${event.message ? `: ${event.message}` : ""}`);
    };
    port.onmessageerror = () => lose("a message of the worker could not be read");
    port.postMessage({ ...load, id: LOAD });
  }

  /** Takes in a tab, which hears by `say` what comes of its requests. */
  attach(say: Guest["say"]): Link {
    const guest: Guest = { say, jobs: new Map(), waiting: [], running: new Set(), sessions: new Set(), served: 0 };
    this.#guests.add(guest);
    return {
      postMessage: (message) => this.#take(guest, message),
      close: () => {
        this.#guests.delete(guest);
        for (const job of guest.jobs.values()) this.#drop(job);
        for (const session of guest.sessions) this.#closeSession(session);
        this.#schedule();
      },
    };
  }

  /** Ends the worker. */
  close(): void {
    const port = this.#port;
    port.onmessage = port.onerror = port.onmessageerror = null;
    this.#guests.clear();
    port.terminate();
  }

  #lose(error: ErrorData): void {
    for (const { say } of [...this.#guests]) say({ op: "fatal", error });
  }

  #take(guest: Guest, message: ToWorker): void {
    if (message.op === "thread" || message.op === "end") return;
    if (message.op === "load") {
      guest.load = message.id;
      return void this.#tellLoaded(guest);
    }
    if (message.op === "abort" || message.op === "credit") {
      const job = guest.jobs.get(message.target);
      if (!job) return;
      if (message.op === "abort") this.#drop(job);
      else {
        (job.message as Run).credit += message.pieces;
        if (job.as) this.#port.postMessage({ ...message, target: job.as });
      }
      return void this.#schedule();
    }
    // A tab's own page goes on to write into the message.
    const copy = isRun(message) ? { ...message, replay: [...message.replay] } : message;
    const job: Job = { guest, message: copy, as: 0, taken: 0 };
    guest.jobs.set(message.id, job);
    if (!isRun(message)) return void this.#send(job);
    guest.waiting.push(job);
    this.#schedule();
  }

  #receive(message: FromWorker): void {
    if (message.op === "fatal") return void this.#lose(message.error);
    if (message.op === "hello" || message.op === "threads") return;
    if (message.id === LOAD) return void this.#loads(message);
    const job = this.#jobs.get(message.id);
    if (!job) return;
    const { guest, message: asked } = job;
    const said = { ...message, id: asked.id };
    if (message.op === "pieces") {
      if (isRun(asked)) {
        asked.replay.push(...message.journal);
        asked.credit -= message.values.length;
      }
      job.taken += message.values.length;
      guest.say(said);
    } else {
      this.#jobs.delete(message.id);
      if (said.op === "done" && asked.op === "embed") {
        said.value = gathered(job, said.value as Embeddings);
        if (job.taken < asked.texts.length) return void this.#send(job);
      }
      guest.running.delete(job);
      const wanted = guest.jobs.delete(asked.id);
      if (message.op === "done" && opens(asked)) {
        if (wanted) guest.sessions.add(message.value as number);
        else this.#closeSession(message.value as number);
      }
      if (asked.op === "closeSession") guest.sessions.delete(asked.session);
      if (wanted) guest.say(said);
    }
    this.#schedule();
  }

  #loads(message: Exclude<FromWorker, { op: "fatal" | "hello" | "threads" }>): void {
    if (message.op === "error") return void this.#failed(message.error);
    if (message.op === "done") {
      this.#info = message.value as EngineInfo;
      watchLife(this.#life, this.#over.signal, () => {
        // What else of it ends is not told again.
        this.#over.abort();
        this.#port.onerror?.({ message: "something ended it" });
      });
      for (const guest of this.#guests) this.#tellLoaded(guest);
      return;
    }
    // Ports do not travel to other tabs: the page that loads is the first.
    const guests = message.op === "fetch" ? [...this.#guests].slice(0, 1) : this.#guests;
    for (const { say, load } of guests) if (load !== undefined) say({ ...message, id: load });
  }

  #tellLoaded(guest: Guest): void {
    if (guest.load === undefined || !this.#info) return;
    const id = guest.load;
    guest.load = undefined;
    guest.say({ op: "done", id, value: this.#info });
  }

  #send(job: Job): void {
    job.as = this.#next++;
    this.#jobs.set(job.as, job);
    const { message } = job;
    const { texts } = message as { texts?: unknown[] };
    const part = texts && { texts: texts.slice(job.taken, job.taken + TEXTS) };
    try {
      this.#port.postMessage({ ...message, ...part, id: job.as } as Request);
    } catch (e) {
      this.#receive({ op: "error", id: job.as, error: { code: "invalid-argument", place: "", message: String(e) } });
    }
  }

  /** Forgets a request of which nobody waits for the answer. */
  #drop(job: Job): void {
    const { guest, message, as } = job;
    guest.jobs.delete(message.id);
    guest.running.delete(job);
    guest.waiting = guest.waiting.filter((other) => other !== job);
    if (!as) return;
    if (!opens(message)) this.#jobs.delete(as);
    this.#port.postMessage({ op: "abort", target: as });
  }

  #closeSession(session: number): void {
    this.#port.postMessage({ op: "closeSession", id: this.#next++, session });
  }

  /** Starts generations: first of the tab that has the fewest, and of those of the one that waits longest. */
  #schedule(): void {
    for (;;) {
      const [guest] = [...this.#guests]
        .filter(({ waiting }) => waiting.some(taken))
        .sort((a, b) => a.running.size - b.running.size || a.served - b.served);
      if (!guest) return;
      const all = [...this.#guests].flatMap(({ running }) => [...running]);
      if (all.length >= this.#slots) {
        const other = makesWay(all, guest);
        if (!other) return;
        this.#interrupt(other);
      }
      const job = guest.waiting.find(taken)!;
      guest.waiting = guest.waiting.filter((other) => other !== job);
      guest.running.add(job);
      guest.served = this.#next;
      job.taken = 0;
      this.#send(job);
    }
  }

  /** Puts a generation back into the queue. It goes on as one whose worker was lost. */
  #interrupt(job: Job): void {
    this.#port.postMessage({ op: "abort", target: job.as });
    this.#jobs.delete(job.as);
    job.as = 0;
    job.guest.running.delete(job);
    job.guest.waiting.push(job);
  }
}

/** Adds the embeddings of some texts to those before them. */
function gathered(job: Job, { embeddings, tokens }: Embeddings): Embeddings {
  job.rows ??= { embeddings: [], tokens: 0 };
  job.rows.embeddings.push(...embeddings);
  job.rows.tokens += tokens;
  job.taken += TEXTS;
  return job.rows;
}

/** Which of those that run makes way for one of `guest`: one whose pieces nobody takes, or one of a tab that has more. */
function makesWay(all: Job[], { running: { size } }: Guest): Job | undefined {
  const [longest] = all
    .filter((job) => job.guest.running.size > size + (job.taken < TURN ? 1 : 0))
    .sort((a, b) => b.taken - a.taken);
  return all.find((job) => !taken(job)) ?? longest;
}
