// A server of OpenAI's API that takes over where the page's engine cannot answer: `pagelm/remote`, a separate entry point.
import { createParser } from "eventsource-parser";
import { type Endpoints, type Engine, type ErrorCode, PagelmError, type RequestOptions } from "./index.ts";
import { sendable } from "./sendable.ts";

export { PagelmError };

/** What a rule decides on. */
export interface Situation {
  /** `failed`: the engine did not load, or it can answer no more. */
  engine: "loading" | "ready" | "failed";
  /** Why it failed, or why it did not answer this request. */
  error: PagelmError | null;
  /** What is asked for, such as `/v1/chat/completions`. */
  path: string;
  /** The parameters of the request. */
  params: Record<string, unknown>;
}

export interface RemoteOptions {
  /** The address of the API, with `/v1` if the server has it there. */
  baseURL: string | URL;
  /** The model of the server: it takes the place of the one that a request names. */
  model: string;
  /**
   * A key, or what gets one for each request. Whoever opens a page can read a key in it: let your own server give out keys
   * that do not live long.
   */
  apiKey?: string | (() => string | Promise<string>);
  headers?: Record<string, string>;
  /** Sends the requests, in place of the page's `fetch`. */
  fetch?: typeof fetch;
  /**
   * When the server answers. Texts of the user leave the page then, so there is no default.
   *
   * - `"never"`;
   * - `"unable"`: the engine did not load, since this browser cannot run the model, as `canRun` says before;
   * - `"failed"`: also if it did not load for another reason, or broke while it answered, before anything of the answer came;
   * - a function: asked before each request, and again if the engine fails to answer it.
   */
  when: "never" | "unable" | "failed" | ((situation: Situation) => boolean | Promise<boolean>);
  /** Called before each request to the server: with the error, if the engine failed. */
  onRemote?: (error: PagelmError | null) => void;
}

/** OpenAI's API, of whichever answers. */
export interface WithRemote extends Endpoints {
  /** For clients that speak HTTP, like that of an engine. */
  fetch: typeof fetch;
}

/** The parts of an engine that are used: a `fetch` and functions of OpenAI's API. */
export type Local = Pick<Engine, "chat" | "completions" | "responses" | "embeddings" | "fetch" | "ended">;

/** This browser cannot run the model. */
const UNABLE: ErrorCode[] = [
  "no-gpu",
  "out-of-memory",
  "gguf-version",
  "unsupported-architecture",
  "unsupported-type",
  "unknown-content",
  "bad-config",
  "bad-tokenizer",
  "missing-tensor",
  "bad-tensor",
];
/** The engine broke. */
const BROKEN: ErrorCode[] = ["device-lost", "gpu-error", "out-of-memory", "worker-lost", "internal"];
/** Somebody wants no answer. */
const STOPPED: ErrorCode[] = ["aborted", "disposed"];

/** Answers by an engine, or what `createEngine` returns, and by a server where the rule says so. */
export function withRemote(engine: Local | Promise<Local>, options: RemoteOptions): WithRemote {
  const { when, onRemote } = options;
  const rules = ["never", "unable", "failed"];
  if (typeof when !== "function" && !rules.includes(when)) {
    const message = `must be ${rules.map((rule) => `"${rule}"`).join(", ")} or a function, is ${JSON.stringify(when)}`;
    throw new PagelmError("invalid-argument", message, "when");
  }
  const server = new Server(options);
  let state: Situation["engine"] = "loading";
  let failure: PagelmError | null = null;
  const loaded = Promise.resolve(engine).then(
    (local) => {
      state = "ready";
      return local;
    },
    (e) => {
      state = "failed";
      failure = errorOf(e);
      return null;
    },
  );

  type Asked = Pick<Situation, "path" | "params">;
  const takes = async (error: PagelmError, asked: Asked, stage: "load" | "answer"): Promise<boolean> => {
    if (STOPPED.includes(error.code)) return false;
    if (typeof when === "function") return when({ engine: state, error, ...asked });
    if (when === "unable") return stage === "load" && UNABLE.includes(error.code);
    return when === "failed" && (stage === "load" || BROKEN.includes(error.code));
  };
  /** The engine, or null where the server answers. */
  const choose = async (asked: Asked): Promise<Local | null> => {
    const early = typeof when === "function" && (await when({ engine: state, error: failure, ...asked }));
    if (early) {
      onRemote?.(failure);
      return null;
    }
    const local = await loaded;
    const error = failure ?? local?.ended;
    if (local && !error) return local;
    if (local?.ended) state = "failed";
    if (!(await takes(error!, asked, failure ? "load" : "answer"))) throw error;
    onRemote?.(error!);
    return null;
  };
  const over = async (e: unknown, asked: Asked): Promise<void> => {
    const error = errorOf(e);
    if (!(await takes(error, asked, "answer"))) throw e;
    onRemote?.(error);
  };

  const at = (path: string, of: (local: Local) => Door): Door => ({
    async create(params, given) {
      const asked = { path, params: params as Params };
      const remote = () => server.create(path, asked.params, given);
      const local = await choose(asked);
      if (!local) return remote();
      try {
        const made = await of(local).create(params, given);
        return asked.params.stream ? await primed(guarded(made as Stream, (e) => over(e, asked).then(remote))) : made;
      } catch (e) {
        await over(e, asked);
        return remote();
      }
    },
  });
  return {
    chat: { completions: at("/v1/chat/completions", (local) => local.chat.completions as Door) },
    completions: at("/v1/completions", (local) => local.completions as Door),
    responses: at("/v1/responses", (local) => local.responses as Door),
    embeddings: at("/v1/embeddings", (local) => local.embeddings as Door),
    async fetch(input: RequestInfo | URL, init?: RequestInit) {
      const request = new Request(input, init);
      const { pathname } = new URL(request.url);
      const path = pathname.slice(Math.max(pathname.indexOf("/v1/"), 0));
      const text = await request.text();
      const asked = { path, params: (parsed(text) ?? {}) as Params };
      const { method, signal } = request;
      const remote = async () => server.send(method, path, text && (await server.named(asked.params)), signal);
      const local = await choose(asked);
      if (!local) return remote();
      const response = await local.fetch(request.url, { method, body: text || null, signal });
      if (response.status < 500) return response;
      const { error } = (await response.clone().json()) as { error: { code: ErrorCode; message: string } };
      try {
        await over(new PagelmError(error.code, error.message), asked);
      } catch {
        return response;
      }
      return remote();
    },
  } as WithRemote;
}

type Params = Record<string, unknown>;
type Stream = AsyncGenerator<unknown, void, void>;
/** An endpoint, whatever it takes. */
interface Door {
  create(params: object, options?: RequestOptions): Promise<unknown>;
}

/** The server, with errors of the same class as those of the engine. */
class Server {
  #options: RemoteOptions;
  #base: string;

  constructor(options: RemoteOptions) {
    this.#options = options;
    this.#base = String(options.baseURL).replace(/\/+$/, "");
  }

  /** Parameters as they are sent. */
  async named(params: Params): Promise<string> {
    return JSON.stringify(await sendable({ ...params, model: this.#options.model }, ""));
  }

  async send(method: string, path: string, body: string, signal?: AbortSignal | null): Promise<Response> {
    const { apiKey, headers, fetch: send = fetch } = this.#options;
    const url = `${this.#base}${path.replace(/^\/v1(?=\/)/, "")}`;
    const key = typeof apiKey === "function" ? await apiKey() : apiKey;
    const all = { "content-type": "application/json", ...(key && { authorization: `Bearer ${key}` }), ...headers };
    try {
      return await send(url, { method, headers: all, body: body || null, signal: signal ?? null });
    } catch (e) {
      throw broken(e, url, signal);
    }
  }

  async create(path: string, params: Params, options: RequestOptions = {}): Promise<unknown> {
    const { signal: first, onPrefill: _, ...rest } = params as { signal?: AbortSignal | null; onPrefill?: unknown };
    const signals = [first, options.signal].filter((signal) => signal != null);
    const signal = signals.length > 1 ? AbortSignal.any(signals) : signals[0];
    const response = await this.send("POST", path, await this.named(rest), signal);
    if (response.headers.get("content-type")?.startsWith("text/event-stream") && response.ok)
      return primed(events(response, signal));
    let text: string;
    try {
      text = await response.text();
    } catch (e) {
      throw broken(e, response.url, signal);
    }
    const whole = parsed(text) as { error?: ServerError } | undefined;
    if (!response.ok || !whole || whole.error) throw refused(response, whole?.error);
    return whole;
  }
}

interface ServerError {
  message?: string;
  code?: unknown;
  param?: string | null;
}

async function* events(response: Response, signal?: AbortSignal | null): Stream {
  const queue: string[] = [];
  const parser = createParser({ onEvent: ({ data }) => queue.push(data) });
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  try {
    yield;
    for (;;) {
      const { value, done } = await reader.read().catch((e) => {
        throw broken(e, response.url, signal);
      });
      if (done) return;
      parser.feed(value);
      for (const data of queue.splice(0)) {
        if (data.startsWith("[DONE]")) return;
        const event = parsed(data) as (ServerError & { error?: ServerError; type?: string }) | undefined;
        if (!event || event.error || event.type === "error") throw refused(response, event?.error ?? event);
        yield event;
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

/** A stream of the engine; if it breaks before anything came, that of the server. */
async function* guarded(stream: Stream, over: (e: unknown) => Promise<unknown>): Stream {
  let begun = false;
  try {
    yield;
    for await (const event of stream) {
      begun = true;
      yield event;
    }
  } catch (e) {
    if (begun) throw e;
    yield* (await over(e)) as Stream;
  } finally {
    await stream.return();
  }
}

/** A generator past its first, empty value: so its `finally` runs even if nobody iterates it and it is returned. */
async function primed(generator: Stream): Promise<Stream> {
  await generator.next();
  return generator;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const errorOf = (e: unknown): PagelmError =>
  e instanceof PagelmError ? e : new PagelmError("internal", String(e), "", { cause: e });

/** An error of the connection. */
function broken(e: unknown, url: string, signal?: AbortSignal | null): PagelmError {
  if (signal?.aborted)
    return new PagelmError("aborted", "the operation was stopped by its signal", "", { cause: signal.reason });
  return new PagelmError("network", `the server cannot be reached: ${(e as Error).message}`, url, { cause: e });
}

/** What the server says is wrong. */
function refused({ status, url }: Response, error: ServerError = {}): PagelmError {
  const { message = "it is no JSON of OpenAI's API", code, param } = error;
  const known = code === "context_length_exceeded" ? "context-overflow" : undefined;
  const kind = [400, 404, 422].includes(status) ? "invalid-argument" : "http-status";
  return new PagelmError(known ?? kind, `the server answered ${status}: ${message}`, param || url);
}
