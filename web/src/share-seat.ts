// A tab's place among those that share an engine. To the tab's client it is a worker; the engine is in this tab or another.
//
// The tab that holds a lock has the engine. All others wait for that lock, so one of them gets it when the tab closes, breaks
// or is frozen. It loads the model, and says so: each tab then sends its open requests there, with their journals.
import type { Port } from "./page/client.ts";
import { Hub, type Link, type LoadRequest } from "./share-hub.ts";
import { type ErrorData, errorData } from "./shared/errors.ts";
import type { FromWorker, Request, ToWorker } from "./shared/protocol.ts";

type Role = "leader" | "follower";

export interface SeatOptions {
  /** Starts the worker of an engine. */
  open(): Promise<Port>;
  /** The name of those that may share: the same for the same model and options. Throws where there is none. */
  group(load: LoadRequest): string;
  /** Called before the client makes another engine in the place of one that broke. */
  onLost(load: LoadRequest): void;
  onRole?: ((role: Role) => void) | undefined;
}

/** Between tabs of a group: one has the engine now, and one wants to use it, over a channel of this name. */
type Call = { op: "lead" } | { op: "join"; id: string };

type Sent = Request & { session?: number; fork?: number | undefined };

const opens = (op: string | undefined) => op === "openSession" || op === "restore";

export class Seat implements Port {
  onmessage: Port["onmessage"] = null;
  onerror: Port["onerror"] = null;
  onmessageerror: Port["onmessageerror"] = null;
  #options: SeatOptions;
  #load!: LoadRequest;
  #name = "";
  /** What the engine has loaded, once it has. */
  #info: object | undefined;
  /** What is not answered, as the client goes on to write it. */
  #open = new Map<number, Request>();
  /** The numbers of sessions in the engine, by those that the client knows. */
  #sessions = new Map<number, number>();
  #numbers = 0;
  #link: Link | null = null;
  /** Gives up the way to another tab. */
  #unjoin = () => {};
  /** Ends the stay in the group; null outside of it. */
  #stay: AbortController | null = null;
  /** Whether there is time to wait for the end of the worker. */
  #patient = true;
  #life = new AbortController();

  constructor(options: SeatOptions) {
    this.#options = options;
    const { signal } = this.#life;
    // A frozen tab answers nobody, and would keep what it holds.
    const leave = ({ type, persisted }: Event & { persisted?: boolean }) => {
      if (type !== "freeze" && !persisted) return;
      this.#patient = false;
      this.#leave();
    };
    const back = () => this.#name && this.#enter();
    for (const [target, away, again] of [
      [globalThis.document, "freeze", "resume"],
      [globalThis, "pagehide", "pageshow"],
    ] as const) {
      target?.addEventListener(away, leave, { signal });
      target?.addEventListener(again, back, { signal });
    }
  }

  postMessage(message: ToWorker): void {
    switch (message.op) {
      case "load":
        this.#load = message;
        try {
          this.#name = this.#options.group(message);
        } catch (e) {
          return void this.#refuse(message.id, errorData(e));
        }
        return void this.#enter();
      case "abort":
        this.#open.delete(message.target);
        return void this.#link?.postMessage(message);
      case "credit":
        return void this.#link?.postMessage(message);
      case "thread":
      case "end":
        return;
      default:
        this.#open.set(message.id, message);
        this.#send(message);
    }
  }

  terminate(): void {
    this.#life.abort();
    this.#leave();
  }

  #enter(): void {
    if (this.#stay) return;
    this.#patient = true;
    this.#stay = new AbortController();
    const { signal } = this.#stay;
    const group = new BroadcastChannel(this.#name);
    signal.addEventListener("abort", () => group.close());
    group.onmessage = ({ data }: MessageEvent<Call>) => data.op === "lead" && this.#join(group);
    navigator.locks
      .request(this.#name, { signal }, () => this.#lead(group, signal))
      .catch((e) => {
        if (signal.aborted) return;
        const message = `this page gets no Web Lock (${e}), by which tabs share an engine; leave share out`;
        this.#fail({ code: "invalid-argument", place: "share", message });
      });
    this.#join(group);
  }

  #leave(): void {
    this.#unjoin();
    this.#link = null;
    this.#stay?.abort();
    this.#stay = null;
  }

  /** Asks the tab that has the engine, if there is one, over a channel of its own: so what an earlier one said is not heard. */
  #join(group: BroadcastChannel): void {
    this.#unjoin();
    this.#link = null;
    const id = `pagelm tab ${crypto.randomUUID()}`;
    const channel = new BroadcastChannel(id);
    const over = new AbortController();
    this.#unjoin = () => {
      over.abort();
      channel.close();
    };
    channel.onmessage = ({ data }: MessageEvent<FromWorker>) => {
      if (data.op === "hello") this.#attach({ postMessage: (m) => channel.postMessage(m), close() {} }, "follower");
      else this.#receive(data);
    };
    channel.onmessageerror = (event) => this.onmessageerror?.(event);
    // Who holds this lock still listens.
    const held = new Promise<void>((release) => over.signal.addEventListener("abort", () => release()));
    const wait = () => {
      group.postMessage({ op: "join", id });
      return held;
    };
    navigator.locks.request(id, { signal: over.signal }, wait).catch(() => {});
  }

  /** Has the engine, until the stay ends. */
  async #lead(group: BroadcastChannel, signal: AbortSignal): Promise<void> {
    group.onmessage = null;
    this.#unjoin();
    this.#link = null;
    // The page's own fetch function is asked for a load of the client only.
    if (this.#info && this.#load.source.fetch)
      return void this.#fail({ code: "worker-lost", place: "", message: "the tab that had the engine is gone" });
    let port: Port;
    try {
      port = await this.#options.open();
    } catch (e) {
      return void this.#fail(errorData(e));
    }
    if (signal.aborted) return void port.terminate();
    const life = crypto.randomUUID();
    const hub = new Hub(port, { ...this.#load, life }, (error) => this.#fail(error));
    const over = new Promise<void>((end) => {
      signal.addEventListener("abort", () => {
        hub.close();
        end();
      });
    });
    this.#attach(
      hub.attach((message) => this.#receive(message)),
      "leader",
    );
    group.onmessage = ({ data }: MessageEvent<Call>) => data.op === "join" && admit(hub, data.id, signal);
    group.postMessage({ op: "lead" });
    await over;
    // The next one has room only once the worker is gone.
    if (this.#patient) await navigator.locks.request(`pagelm ${life}`, () => {});
  }

  #attach(link: Link, role: Role): void {
    this.#link = link;
    this.#sessions.clear();
    const { id, op } = this.#load;
    link.postMessage({ op, id } as LoadRequest);
    for (const message of [...this.#open.values()]) this.#send(message);
    // Nothing that this throws is ours.
    queueMicrotask(() => this.#options.onRole?.(role));
  }

  #send(message: Sent): void {
    if (!this.#link) return;
    const { id, op } = message;
    const known = message.session ?? message.fork;
    const session = known && this.#sessions.get(known);
    if (known && !session) {
      if (op === "closeSession") return void this.#receive({ op: "done", id, value: undefined });
      const lost = "the tab that had the engine is gone, and the session with it";
      const remedy = "open another one, from a snapshot if there is one";
      return void this.#refuse(id, { code: "worker-lost", place: "", message: `${lost}; ${remedy}` });
    }
    try {
      this.#link.postMessage(known ? { ...message, [message.fork ? "fork" : "session"]: session } : message);
    } catch (e) {
      this.#refuse(id, { code: "invalid-argument", place: "", message: String(e) });
    }
  }

  #receive(message: FromWorker): void {
    if (message.op === "fatal") this.#options.onLost(this.#load);
    if (message.op === "done" || message.op === "error") {
      const { op } = this.#open.get(message.id) ?? {};
      this.#open.delete(message.id);
      if (message.op === "done" && opens(op)) {
        this.#sessions.set(++this.#numbers, message.value as number);
        message = { ...message, value: this.#numbers };
      }
      if (message.op === "done" && message.id === this.#load.id) {
        // The engine of another tab may run on another backend.
        this.#info = Object.assign(this.#info ?? {}, message.value);
        message = { ...message, value: this.#info };
      }
    }
    this.onmessage?.({ data: message });
  }

  #refuse(id: number, error: ErrorData): void {
    this.#receive({ op: "error", id, error });
  }

  /** The model did not load here: as an answer, or as the loss of what there was. */
  #fail(error: ErrorData): void {
    if (this.#info) this.#receive({ op: "fatal", error });
    else this.#refuse(this.#load.id, error);
  }
}

/** Takes a tab in that asked for it, until it is gone. */
function admit(hub: Hub, id: string, signal: AbortSignal): void {
  const channel = new BroadcastChannel(id);
  const link = hub.attach((message) => channel.postMessage(message));
  channel.onmessage = ({ data }: MessageEvent<ToWorker>) => link.postMessage(data);
  const gone = () => {
    channel.close();
    link.close();
  };
  navigator.locks.request(id, { signal }, gone).catch(() => channel.close());
  channel.postMessage({ op: "hello" });
}
