"use client";

// React's hook: `pagelm/react`, a separate entry point.
import { useEffect, useMemo, useState, useSyncExternalStore } from "react";
import { Conversation, type Said, type Talk, type TalkOptions } from "./conversation.ts";
import {
  type CanRun,
  type ChatMessage,
  canRun,
  type Endpoints,
  type EngineOptions,
  type LoadProgress,
  PagelmError,
} from "./index.ts";
import { type Create, errorOf, Lazy, waited } from "./lazy.ts";

export type { RunnableTool } from "./tools.ts";
export type { Said, TalkOptions };
export { PagelmError };

/**
 * - `idle`: nothing was begun, as on a server;
 * - `checking`: the header of the model is read, to see whether it can run;
 * - `unable`: it cannot, as `verdict` says. `load()` tries even so;
 * - `loading`, `ready`, `answering`;
 * - `failed`: the load failed, as `error` says. `load()` tries again.
 */
export type Status = "idle" | "checking" | "unable" | "loading" | "ready" | "answering" | "failed";

interface Common extends TalkOptions {
  /** What the conversation starts with, such as a system prompt. */
  initialMessages?: readonly ChatMessage[];
}

/** How a model is loaded. Components that name the same model with the same options share it. */
export interface ModelHookOptions extends Common, Omit<EngineOptions, "signal"> {
  /** `"now"`, the default: when the component is there. `"asked"`: when `load` or `send` is called. */
  load?: "now" | "asked";
  /** Whether `canRun` is asked before anything is downloaded; so it is by default. */
  check?: boolean;
  /** Suspends the component until the model is loaded, and throws what went wrong to the error boundary. */
  suspense?: boolean;
  /** What loads it, in the place of `createEngine`, and what checks it, in the place of `canRun`. */
  create?: Create;
  canRun?: typeof canRun;
}

/** An engine, or what `withRemote` makes of one: it stays the caller's. */
export interface EngineHookOptions extends Common {
  engine: Pick<Endpoints, "chat"> | Promise<Pick<Endpoints, "chat">>;
}

export interface UsePagelm {
  status: Status;
  /** How far the download is. */
  progress: LoadProgress | null;
  /** What `canRun` said. */
  verdict: CanRun | null;
  messages: readonly Said[];
  /** Tokens and speeds of the last answer. */
  usage: Talk["usage"];
  /** Why the load or the last answer failed. */
  error: PagelmError | null;
  /** Loads the model. It never rejects: `error` says what was wrong. */
  load(): Promise<void>;
  send: Conversation["send"];
  stop: Conversation["stop"];
  regenerate: Conversation["regenerate"];
  setMessages: Conversation["setMessages"];
}

/** A conversation with a model. It stays when the model changes. */
export function usePagelm(options: ModelHookOptions | EngineHookOptions): UsePagelm {
  const key = keyOf(options);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the key says what of the options matters
  const shared = useMemo(() => sharedOf(key, options), [key]);
  const model = useSyncExternalStore(shared.subscribe, shared.snapshot, atServer);
  const [conversation] = useState(() => new Conversation(options.initialMessages));
  const now = () => conversation.talk;
  const talk = useSyncExternalStore(conversation.subscribe, now, now);
  const { params, tools, maxRounds } = options;
  useEffect(() => {
    conversation.engine = shared.get;
    conversation.options = { params, tools, maxRounds };
  }, [conversation, shared, params, tools, maxRounds]);
  useEffect(() => conversation.stop, [conversation]);
  const loads = "model" in options && options.load !== "asked";
  useEffect(() => shared.use(loads), [shared, loads]);
  if (loads && options.suspense) shared.suspend();
  const { send, stop, regenerate, setMessages } = conversation;
  return {
    ...model,
    status: talk.answering && model.status === "ready" ? "answering" : model.status,
    messages: talk.messages,
    usage: talk.usage,
    error: model.error ?? talk.error,
    load: shared.load,
    ...{ send, stop, regenerate, setMessages },
  };
}

type Model = Pick<UsePagelm, "progress" | "verdict" | "error"> & { status: Exclude<Status, "answering"> };

const IDLE: Model = { status: "idle", progress: null, verdict: null, error: null };
const atServer = () => IDLE;

/** How long a model stays whose component was suspended and never came, in milliseconds. */
const WAIT = 30_000;

/** A snapshot, and who is told of the next. */
class Store {
  #model: Model;
  #listeners = new Set<() => void>();

  constructor(model: Model) {
    this.#model = model;
  }

  snapshot = (): Model => this.#model;

  subscribe = (changed: () => void): (() => void) => {
    this.#listeners.add(changed);
    return () => void this.#listeners.delete(changed);
  };

  tell(more: Partial<Model>): void {
    this.#model = { ...this.#model, ...more };
    for (const changed of this.#listeners) changed();
  }
}

/** A model that components share: loaded while one of them is there. */
class Shared extends Store {
  #lazy: Lazy;
  #check: ((signal: AbortSignal) => Promise<CanRun>) | null;
  /** What is said as long as no load has begun. */
  #own = IDLE;
  #checking: Promise<void> | null = null;
  #suspended: Promise<void> | null = null;
  #users = 0;
  /** Whether one of them wants it now. */
  #wanted = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #stop = new AbortController();

  constructor(given: ModelHookOptions) {
    super(IDLE);
    const { check = true, create, canRun: ask = canRun } = given;
    const options = without(given, [...OF_TALK, ...OF_HOOK]) as EngineOptions;
    const { model, ...asked } = without(options, ["threads", "tune", "onProgress"]) as EngineOptions;
    this.#lazy = new Lazy(options, create);
    this.#check = check ? (signal) => ask(model, { ...asked, signal }) : null;
    this.#lazy.subscribe(() => this.#say({}));
  }

  /** For as long as a component is there. React may take it away and bring it back at once. */
  use(loads: boolean): () => void {
    this.#users++;
    clearTimeout(this.#timer);
    this.#wanted ||= loads;
    void this.#begin();
    return () => {
      this.#users--;
      this.#leave(0);
    };
  }

  /** Even if it was said that it cannot run. */
  load = async (): Promise<void> => {
    await this.#lazy.get().catch(() => {});
  };

  get = (signal: AbortSignal): Promise<Pick<Endpoints, "chat">> => {
    const { status, error } = this.#own;
    if (this.#lazy.state === "idle" && status === "unable") return Promise.reject(error);
    return this.#lazy.get(signal);
  };

  /** Throws, as React wants it: the promise of what is to come, or the error. */
  suspend(): void {
    const { status, error } = this.snapshot();
    if (typeof window === "undefined" || status === "ready") return;
    if (error) {
      // A boundary that is reset tries again.
      this.#leave(0);
      throw error;
    }
    this.#wanted = true;
    this.#suspended ??= this.#begin().finally(() => {
      this.#suspended = null;
      if (this.#lazy.engine) this.#leave(WAIT);
    });
    throw this.#suspended;
  }

  /** Sees whether it can run, then loads it. It never rejects. */
  async #begin(): Promise<void> {
    const { signal } = this.#stop;
    if (this.#check) this.#checking ??= this.#look(this.#check, signal);
    await this.#checking;
    const { status } = this.snapshot();
    if (!signal.aborted && this.#wanted && (status === "idle" || status === "loading")) await this.load();
  }

  async #look(check: (signal: AbortSignal) => Promise<CanRun>, signal: AbortSignal): Promise<void> {
    this.#say({ status: "checking" });
    try {
      const verdict = await check(signal);
      if (signal.aborted) return;
      const { ok, code, reason } = verdict;
      const error = ok ? null : new PagelmError(code ?? "internal", reason ?? "the model cannot run here");
      if (ok && this.#wanted) void this.load();
      this.#say({ verdict, error, status: ok ? "idle" : "unable" });
    } catch (e) {
      if (signal.aborted) return;
      this.#say({ status: "failed", error: errorOf(e) });
    }
  }

  #leave(after: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.#users > 0) return;
      this.#stop.abort();
      this.#stop = new AbortController();
      this.#checking = null;
      this.#wanted = false;
      this.#own = IDLE;
      this.#lazy.dispose();
    }, after);
  }

  #say(more: Partial<Model>): void {
    this.#own = { ...this.#own, ...more };
    const { state, progress, error } = this.#lazy;
    this.tell({ ...this.#own, progress, ...(state !== "idle" && { status: state, error }) });
  }
}

/** An engine that is somebody else's. */
class Owned extends Store {
  #engine: EngineHookOptions["engine"];

  constructor(engine: EngineHookOptions["engine"]) {
    super({ ...IDLE, status: "then" in engine ? "loading" : "ready" });
    this.#engine = engine;
    Promise.resolve(engine).then(
      () => this.tell({ status: "ready" }),
      (error) => this.tell({ status: "failed", error }),
    );
  }

  use(): () => void {
    return () => {};
  }

  suspend(): void {}

  load = async (): Promise<void> => {
    await this.get().catch(() => {});
  };

  get = (signal?: AbortSignal): Promise<Pick<Endpoints, "chat">> => waited(Promise.resolve(this.#engine), signal);
}

/** By their options. They stay, without their models, when no component uses them. */
const models = new Map<string, Shared>();
const engines = new WeakMap<object, Owned>();

function sharedOf(key: string, options: ModelHookOptions | EngineHookOptions): Shared | Owned {
  if ("engine" in options) {
    const owned = engines.get(options.engine) ?? new Owned(options.engine);
    engines.set(options.engine, owned);
    return owned;
  }
  const shared = models.get(key) ?? new Shared(options);
  // A server has many visitors, and loads nothing.
  if (typeof window !== "undefined") models.set(key, shared);
  return shared;
}

/** What is not about the model. */
const OF_TALK = ["initialMessages", "params", "tools", "maxRounds"];
const OF_HOOK = ["load", "check", "suspense", "create", "canRun"];

const without = (options: object, names: string[]): object =>
  Object.fromEntries(Object.entries(options).filter(([name]) => !names.includes(name)));

const numbers = new WeakMap<object, number>();
let count = 0;
const numberOf = (object: object): number => {
  const number = numbers.get(object) ?? ++count;
  numbers.set(object, number);
  return number;
};

/**
 * What tells models apart. Functions do not: components often make new ones each time that they are drawn. Those of the
 * first stay.
 */
function keyOf(options: ModelHookOptions | EngineHookOptions): string {
  if ("engine" in options) return `engine ${numberOf(options.engine)}`;
  return JSON.stringify(without(options, [...OF_TALK, "load", "suspense"]), (_, value) => {
    const plain = typeof value !== "object" || value === null || Array.isArray(value);
    return plain || Object.getPrototypeOf(value) === Object.prototype ? value : `object ${numberOf(value)}`;
  });
}
