// `LanguageModel` of the browsers' Prompt API, on a model of the page's: `pagelm/prompt-api`, a separate entry point.
import { canRun, type Engine, type EngineOptions, PagelmError } from "./index.ts";
import { type Create, errorOf, Lazy } from "./lazy.ts";
import { type Content, canonical, error, type Message, named, type Prompt } from "./prompt-input.ts";
import { orReason, Session, type State } from "./prompt-session.ts";
import { type CreateCoreOptions, type SamplingMode, settingsOf, type Thinking, type Tool } from "./prompt-settings.ts";
import { LanguageModelToolCall, LanguageModelToolError, LanguageModelToolSuccess } from "./prompt-tools.ts";

export type { Content, ContentType, Expected, Message, Prompt, Role } from "./prompt-input.ts";
export type { CreateCoreOptions, SamplingMode, Thinking, Tool } from "./prompt-settings.ts";
export {
  LanguageModelToolCall,
  LanguageModelToolError,
  LanguageModelToolSuccess,
  type ToolResponse,
} from "./prompt-tools.ts";
export { PagelmError };

export type Availability = "unavailable" | "downloadable" | "downloading" | "available";
export interface CreateOptions extends CreateCoreOptions {
  /** Also ends the session. */
  signal?: AbortSignal;
  monitor?: (monitor: EventTarget & { ondownloadprogress: ((event: ProgressEvent) => unknown) | null }) => void;
  initialPrompts?: Message[];
}

export interface PromptOptions {
  responseConstraint?: object;
  omitResponseConstraintInput?: boolean;
  thinking?: Thinking;
  signal?: AbortSignal;
}

/** A session whose tools the page runs: an answer with calls is a list, its text first. */
export interface OpenLanguageModel extends Omit<LanguageModel, "prompt" | "promptStreaming" | "clone"> {
  prompt(input: Prompt, options?: PromptOptions): Promise<string | Content[]>;
  /** Texts as they come, and then calls. */
  promptStreaming(input: Prompt, options?: PromptOptions): ReadableStream<string | Content>;
  clone(options?: { signal?: AbortSignal }): Promise<OpenLanguageModel>;
}

export interface LanguageModel extends EventTarget {
  prompt(input: Prompt, options?: PromptOptions): Promise<string>;
  promptStreaming(input: Prompt, options?: PromptOptions): ReadableStream<string>;
  append(input: Prompt, options?: { signal?: AbortSignal }): Promise<undefined>;
  measureContextUsage(input: Prompt, options?: PromptOptions): Promise<number>;
  clone(options?: { signal?: AbortSignal }): Promise<LanguageModel>;
  destroy(): undefined;
  readonly contextUsage: number;
  readonly contextWindow: number;
  oncontextoverflow: ((event: Event) => unknown) | null;
  readonly samplingMode: SamplingMode | null;
  readonly topK: number | undefined;
  readonly temperature: number | undefined;
  /** The names of before. */
  measureInputUsage(input: Prompt, options?: PromptOptions): Promise<number>;
  readonly inputUsage: number;
  readonly inputQuota: number;
  onquotaoverflow: ((event: Event) => unknown) | null;
}

export interface LanguageModelClass {
  new (): never;
  readonly prototype: LanguageModel;
  availability(options?: CreateCoreOptions): Promise<Availability>;
  create(options: CreateOptions & { tools: (Tool & { execute?: never })[] }): Promise<OpenLanguageModel>;
  create(options?: CreateOptions): Promise<LanguageModel>;
}

/** How the model is loaded: as for `createEngine`. */
export interface PromptApiOptions extends Omit<EngineOptions, "signal"> {
  /** Seconds after which a model that no session uses is taken out of memory: 60 by default. */
  unloadAfterS?: number;
  /** What loads it, in the place of `createEngine`, and what checks it, in the place of `canRun`. */
  create?: Create;
  canRun?: typeof canRun;
}

/** `LanguageModel` on this model, which is loaded when the first session is created. */
export function languageModel(options: PromptApiOptions): LanguageModelClass {
  const { unloadAfterS = 60, create, canRun: ask = canRun, ...rest } = options;
  const lazy = new Lazy(rest, create);
  let sessions = 0;
  let unload: ReturnType<typeof setTimeout> | undefined;
  const enter = () => {
    sessions++;
    clearTimeout(unload);
  };
  const leave = () => {
    clearTimeout(unload);
    if (--sessions === 0) unload = setTimeout(() => lazy.dispose(), unloadAfterS * 1000);
  };
  // Only this module makes sessions.
  const key = Symbol();

  class LanguageModel extends Session {
    constructor(given?: unknown, engine?: Engine, state?: State) {
      if (given !== key) throw new TypeError("Illegal constructor");
      super(engine!, state!, leave, (other) => {
        enter();
        return new LanguageModel(key, engine, other);
      });
    }

    static async availability(given: CreateCoreOptions = {}): Promise<Availability> {
      if (!settingsOf(given, !!rest.mmproj)) return "unavailable";
      if (lazy.engine) return "available";
      if (lazy.state === "loading") return "downloading";
      const { model, threads: _, tune: __, onProgress: ___, ...asked } = rest;
      const verdict = await ask(model, asked).catch((e) => {
        if (["network", "http-status"].includes(errorOf(e).code)) return null;
        throw named(e, "OperationError");
      });
      if (!verdict?.ok) return "unavailable";
      return verdict.stored ? "available" : "downloadable";
    }

    static async create(given: CreateOptions = {}): Promise<LanguageModel> {
      const { signal, monitor, initialPrompts } = given;
      signal?.throwIfAborted();
      const settings = settingsOf(given, !!rest.mmproj);
      if (!settings) throw error("NotSupportedError", "the model does not take, or make, what is expected");
      const { messages } = initialPrompts?.length ? canonical(initialPrompts, settings.types, false) : { messages: [] };
      const progress = monitored(lazy, monitor);
      enter();
      try {
        const engine = await orReason(lazy.get(), signal);
        progress.end();
        const state: State = { settings, initial: messages, turns: [], usage: 0 };
        const session = new LanguageModel(key, engine, state);
        await session.begin();
        // Who listens to the progress may still abort.
        await new Promise((done) => setTimeout(done));
        signal?.throwIfAborted();
        signal?.addEventListener("abort", () => session.end(signal.reason), { once: true });
        return session;
      } catch (e) {
        leave();
        if (signal?.aborted) throw signal.reason;
        throw named(e, "OperationError");
      } finally {
        progress.leave();
      }
    }
  }
  return LanguageModel as unknown as LanguageModelClass;
}

/** Progress as the specification wants it: from 0 to 1, both of them told, and each more than the last. */
function monitored(lazy: Lazy, monitor: CreateOptions["monitor"]): { end(): void; leave(): void } {
  if (!monitor) return { end() {}, leave() {} };
  const target = Object.assign(new EventTarget(), { ondownloadprogress: null }) as Parameters<typeof monitor>[0];
  target.addEventListener("downloadprogress", (event) => target.ondownloadprogress?.(event as ProgressEvent));
  monitor(target);
  let last = -1;
  const tell = (loaded: number) => {
    if (loaded <= last) return;
    last = loaded;
    target.dispatchEvent(new ProgressEvent("downloadprogress", { loaded, total: 1, lengthComputable: true }));
  };
  const leave = lazy.subscribe(() => {
    const { state, progress } = lazy;
    if (state === "loading" && progress?.total) tell(Math.min(progress.loaded / progress.total, 1 - 2 ** -16));
  });
  tell(0);
  return {
    end: () => tell(1),
    leave,
  };
}

/** Makes it the page's `LanguageModel`, with the classes of tools, unless the browser has one. */
export function polyfill(options: PromptApiOptions): LanguageModelClass {
  const page = globalThis as { LanguageModel?: LanguageModelClass };
  const tools = { LanguageModelToolCall, LanguageModelToolError, LanguageModelToolSuccess };
  if (!page.LanguageModel) Object.assign(page, { LanguageModel: languageModel(options), ...tools });
  return page.LanguageModel!;
}
