// A model that is loaded when it is first needed, once for all who need it. What other libraries get stands on it.
import { createEngine, type Engine, type EngineOptions, type LoadProgress, PagelmError } from "./index.ts";

/** Makes an engine: `createEngine`, or what a test has in its place. */
export type Create = (options: EngineOptions) => Promise<Engine>;

/** `failed`: the last load. The next one tries again. */
export type LazyState = "idle" | "loading" | "ready" | "failed";

export class Lazy {
  /** How far the load is; null before it begins. */
  progress: LoadProgress | null = null;
  /** Why the last load failed. */
  error: PagelmError | null = null;
  #options: Omit<EngineOptions, "signal">;
  #create: Create;
  #engine: Engine | null = null;
  #loading: Promise<Engine> | null = null;
  #stop = new AbortController();
  #listeners = new Set<() => void>();

  constructor(options: EngineOptions, create: Create = createEngine) {
    this.#options = options;
    this.#create = create;
  }

  get state(): LazyState {
    if (this.engine) return "ready";
    if (this.#loading) return "loading";
    return this.error ? "failed" : "idle";
  }

  /** The engine, once it is there and as long as it can answer. */
  get engine(): Engine | null {
    return this.#engine?.ended ? null : this.#engine;
  }

  /** Calls `changed` whenever the state or the progress changed, until what it returns is called. */
  subscribe(changed: () => void): () => void {
    this.#listeners.add(changed);
    return () => void this.#listeners.delete(changed);
  }

  /** The engine: loaded now, if it is not there. A signal ends the wait, not the load, for which others may wait. */
  get(signal?: AbortSignal | null): Promise<Engine> {
    if (this.engine) return Promise.resolve(this.engine);
    this.#loading ??= this.#load();
    return waited(this.#loading, signal);
  }

  /** Ends a load, and the engine. What is asked later loads it again. */
  dispose(): void {
    this.#stop.abort();
    this.#engine?.dispose();
    this.#stop = new AbortController();
    this.#engine = this.#loading = this.progress = this.error = null;
    this.#tell();
  }

  async #load(): Promise<Engine> {
    const { signal } = this.#stop;
    const mine = () => this.#stop.signal === signal;
    this.error = null;
    // Listeners may ask for the state, which knows of this load only once it has returned.
    await null;
    this.#tell();
    try {
      const { onProgress, ...options } = this.#options;
      const progress = (now: LoadProgress) => {
        if (!mine()) return;
        this.progress = now;
        onProgress?.(now);
        this.#tell();
      };
      const engine = await this.#create({ ...options, signal, onProgress: progress });
      if (!mine()) {
        engine.dispose();
        throw new PagelmError("disposed", "the model was disposed of while it was loaded");
      }
      this.#engine = engine;
      return engine;
    } catch (e) {
      if (mine()) this.error = errorOf(e);
      throw e;
    } finally {
      if (mine()) {
        this.#loading = null;
        this.#tell();
      }
    }
  }

  #tell(): void {
    for (const changed of this.#listeners) changed();
  }
}

/** An error of the engine, also of another copy of this package. */
export function errorOf(e: unknown): PagelmError {
  const known = e instanceof Error && typeof (e as { code?: unknown }).code === "string";
  return known ? (e as PagelmError) : new PagelmError("internal", String(e), "", { cause: e });
}

/** A promise, or the error of a signal that ends the wait for it. */
export function waited<T>(promise: Promise<T>, signal?: AbortSignal | null): Promise<T> {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const stop = () =>
      reject(new PagelmError("aborted", "the wait was stopped by its signal", "", { cause: signal.reason }));
    if (signal.aborted) return stop();
    signal.addEventListener("abort", stop, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });
}
