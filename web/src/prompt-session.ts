// A session of the Prompt API: its messages, what they take of the context window, and one call after the other.
import type { ChatMessage, ChatParams, ChatTool, ChatToolCall, ChatUsage, Engine } from "./index.ts";
import { errorOf } from "./lazy.ts";
import {
  canonical,
  constrained,
  error,
  type Input,
  named,
  type Prompt,
  quotaExceeded,
  telling,
} from "./prompt-input.ts";
import { type SamplingMode, type Settings, type Thinking, thoughts } from "./prompt-settings.ts";
import { type LanguageModelToolCall, written } from "./prompt-tools.ts";
import { type RunnableTool, runTools } from "./tools.ts";

/** A part of the window that is left for the answer, where older messages can go. */
const ANSWER = 8;

export interface State {
  settings: Settings;
  /** They stay. */
  initial: ChatMessage[];
  /** What was asked and answered: the oldest go first when the window is full. */
  turns: ChatMessage[][];
  usage: number;
}

type Handler = ((event: Event) => unknown) | null;
interface Options {
  responseConstraint?: object;
  omitResponseConstraintInput?: boolean;
  thinking?: Thinking;
  signal?: AbortSignal;
}

/** Of an answer: text, or a call that the page runs. */
type Piece = string | { type: "tool-call"; value: LanguageModelToolCall };

export class Session extends EventTarget {
  oncontextoverflow: Handler = null;
  onquotaoverflow: Handler = null;
  #engine: Engine;
  #state: State;
  #left: () => void;
  #again: (state: State) => Session;
  #gone = new AbortController();
  #last: Promise<unknown> = Promise.resolve();

  constructor(engine: Engine, state: State, left: () => void, again: (state: State) => Session) {
    super();
    this.#engine = engine;
    this.#state = state;
    this.#left = left;
    this.#again = again;
  }

  get contextUsage(): number {
    return this.#state.usage;
  }
  get contextWindow(): number {
    return this.#engine.info.contextLength;
  }
  get inputUsage(): number {
    return this.contextUsage;
  }
  get inputQuota(): number {
    return this.contextWindow;
  }
  get samplingMode(): SamplingMode | null {
    return this.#state.settings.samplingMode;
  }
  get topK(): number | undefined {
    return this.#state.settings.topK;
  }
  get temperature(): number | undefined {
    return this.#state.settings.temperature;
  }

  /** Counts what the session starts with. */
  async begin(): Promise<void> {
    const usage = await this.#count(this.#state.initial);
    if (usage > this.contextWindow) throw quotaExceeded(usage, this.contextWindow);
    this.#state.usage = usage;
  }

  async prompt(input: Prompt, options: Options = {}): Promise<string | object[]> {
    const pieces: Piece[] = [];
    await this.#next(options.signal, (signal) => this.#ask(input, options, signal, (more) => pieces.push(more)));
    const value = pieces.filter((piece) => typeof piece === "string").join("");
    const called = pieces.filter((piece) => typeof piece !== "string");
    return called.length > 0 ? [...(value ? [{ type: "text", value }] : []), ...called] : value;
  }

  promptStreaming(input: Prompt, options: Options = {}): ReadableStream<Piece> {
    const stop = new AbortController();
    const { signal: given } = options;
    const signal = given ? AbortSignal.any([given, stop.signal]) : stop.signal;
    let wanted = () => {};
    return new ReadableStream<Piece>(
      {
        start: (to) => {
          const piece = async (more: Piece) => {
            to.enqueue(more);
            // Who reads slowly makes the engine wait.
            if ((to.desiredSize ?? 1) <= 0)
              await new Promise<void>((done) => {
                wanted = done;
                signal.addEventListener("abort", () => done(), { once: true });
              });
          };
          this.#next(signal, (all) => this.#ask(input, options, all, piece)).then(
            () => to.close(),
            (e) => stop.signal.aborted || to.error(e),
          );
        },
        pull: () => wanted(),
        cancel: () => stop.abort(),
      },
      { highWaterMark: 8 },
    );
  }

  async append(input: Prompt, { signal }: { signal?: AbortSignal } = {}): Promise<undefined> {
    await this.#next(signal, async (all) => {
      const { messages } = this.#canonical(input);
      const turns = await this.#fit(messages, all);
      // The engine reads the prompt now, and finds it in its cache when something is asked.
      const usage = await this.#run([...this.#state.initial, ...turns.flat(), ...messages], all);
      this.#keep([...turns, messages], usage);
    });
  }

  async measureContextUsage(input: Prompt, options: Options = {}): Promise<number> {
    const { responseConstraint, omitResponseConstraintInput = false, signal } = options;
    const { told } = constrained(responseConstraint, omitResponseConstraintInput);
    const messages = telling(this.#canonical(input, false).messages, told);
    return this.#with(
      signal,
      async (all) => (await this.#count([...this.#all(), ...messages], all)) - (await this.#count(this.#all(), all)),
    );
  }

  measureInputUsage(input: Prompt, options: Options = {}): Promise<number> {
    return this.measureContextUsage(input, options);
  }

  async clone({ signal }: { signal?: AbortSignal } = {}): Promise<Session> {
    // What was asked before is part of it.
    return this.#next(signal, async () => {
      const { settings, initial, turns, usage } = this.#state;
      return this.#again({ settings, initial, turns: [...turns], usage });
    });
  }

  destroy(): undefined {
    this.end(error("InvalidStateError", "the session was destroyed"));
  }

  /** Rejects all that is asked, with this. */
  end(reason: unknown): void {
    if (this.#gone.signal.aborted) return;
    this.#gone.abort(reason);
    this.#left();
  }

  async #ask(input: Prompt, options: Options, signal: AbortSignal, piece: (more: Piece) => unknown): Promise<void> {
    const { responseConstraint, omitResponseConstraintInput = false } = options;
    const { params, told } = constrained(responseConstraint, omitResponseConstraintInput);
    const { prefix, ...given } = this.#canonical(input);
    const messages = telling(given.messages, told);
    const turns = await this.#fit(messages, signal);
    const asked = [...this.#state.initial, ...turns.flat(), ...messages];
    const own = { ...this.#state.settings.params, ...thoughts(options.thinking) };
    const all = { ...own, ...params, ...(prefix && { continue_final_message: true }) };
    const runs = { ...all, messages: asked, stream_options: { include_usage: true } };
    let usage: ChatUsage | undefined;
    let finish: string | null = null;
    let kept: ChatMessage[] = [];
    let text = "";
    const calls: ChatToolCall[] = [];
    for await (const event of this.#answers(runs, signal)) {
      if (event.type === "done") kept = event.messages.slice(asked.length);
      if (event.type !== "chunk") continue;
      const [choice] = event.chunk.choices;
      usage = event.chunk.usage ?? usage;
      finish = choice?.finish_reason ?? finish;
      const { content, tool_calls = [] } = choice?.delta ?? {};
      for (const { index, id = "", function: of } of tool_calls) {
        calls[index] ??= { id, type: "function", function: { name: of?.name ?? "", arguments: "" } };
        calls[index].function.arguments += of?.arguments ?? "";
      }
      if (!content) continue;
      text += content;
      await piece(content);
    }
    if (responseConstraint && finish === "length")
      throw error("SyntaxError", "the context window was full before the answer fitted responseConstraint");
    signal.throwIfAborted();
    const called = this.#state.settings.open ? calls : [];
    for (const call of called) await piece({ type: "tool-call", value: written(call) });
    if (kept.length === 0)
      kept = [{ role: "assistant", content: text, ...(called.length > 0 && { tool_calls: called }) }];
    // What was gone on with and the answer are one message.
    if (prefix) {
      const first = messages.pop()!;
      kept = [{ role: "assistant", content: `${first.content}${text}` }];
    }
    // Thoughts are not shown to the model again.
    kept = kept.map((message) => ("reasoning_content" in message ? without(message) : message));
    const thought = usage?.completion_tokens_details?.reasoning_tokens ?? 0;
    this.#keep([...turns, [...messages, ...kept]], usage ? usage.total_tokens - thought : this.#state.usage);
  }

  /** An answer; with tools that run by themselves, all answers until one calls none. */
  async *#answers(params: Omit<ChatParams, "stream">, signal: AbortSignal) {
    const { tools, open } = this.#state.settings;
    const described = this.#described();
    if (tools.length > 0 && !open) {
      const runnable: RunnableTool[] = described.map((tool, i) => ({
        ...tool,
        execute: (args) => tools[i]?.execute?.(args),
      }));
      yield* runTools(this.#engine, { ...params, tools: runnable }, { signal });
      return;
    }
    const asked = { ...params, ...(open && { tools: described }), stream: true as const };
    for await (const chunk of await this.#engine.chat.completions.create(asked, { signal }))
      yield { type: "chunk" as const, chunk };
  }

  /** The turns that can stay beside these messages. */
  async #fit(messages: ChatMessage[], signal: AbortSignal): Promise<ChatMessage[][]> {
    const window = this.contextWindow;
    const { initial, turns } = this.#state;
    const left = [...turns];
    for (;;) {
      const needs = await this.#count([...initial, ...left.flat(), ...messages], signal);
      // The answer needs room too, where there is something that can go.
      if (needs <= window - (left.length > 0 ? Math.floor(window / ANSWER) : 0)) break;
      if (left.length === 0) throw quotaExceeded(needs, window);
      left.shift();
      // Results of calls are nothing without these.
      while (left[0]?.[0]?.role === "tool") left.shift();
    }
    if (left.length < turns.length) this.#overflowed();
    return left;
  }

  #overflowed(): void {
    for (const name of ["contextoverflow", "quotaoverflow"] as const) {
      const event = new Event(name);
      this.dispatchEvent(event);
      this[`on${name}`]?.(event);
    }
  }

  #keep(turns: ChatMessage[][], usage: number): void {
    this.#state.turns = turns;
    this.#state.usage = usage;
  }

  #all = (): ChatMessage[] => [...this.#state.initial, ...this.#state.turns.flat()];

  #canonical(input: Prompt, begun = this.#all().length > 0): Input {
    return canonical(input, this.#state.settings.types, begun);
  }

  #described(): ChatTool[] {
    return this.#state.settings.tools.map(({ name, description, inputSchema }) => ({
      type: "function",
      function: { name, description, parameters: inputSchema as Record<string, unknown>, strict: true },
    }));
  }

  /** Tokens of messages. */
  async #count(messages: ChatMessage[], signal?: AbortSignal): Promise<number> {
    if (messages.length === 0) return 0;
    const tools = this.#described();
    const drawn = messages.some(
      ({ content }) => Array.isArray(content) && content.some(({ type }) => type === "image_url"),
    );
    // Only the encoder knows. What it makes is found again when the same is asked.
    if (drawn) return this.#run(messages, signal);
    const text = await this.#engine.render(
      messages as Parameters<Engine["render"]>[0],
      tools.length > 0 ? tools : undefined,
    );
    return (await this.#engine.tokenize(text, { parseSpecial: true })).length;
  }

  /** Reads messages; how many tokens they are. */
  async #run(messages: ChatMessage[], signal?: AbortSignal): Promise<number> {
    const tools = this.#described();
    const params = { ...this.#state.settings.params, messages, max_tokens: 1, ...(tools.length > 0 && { tools }) };
    const given = { ...params, stream: false as const };
    return (await this.#engine.chat.completions.create(given, { signal: signal ?? null })).usage.prompt_tokens;
  }

  /** After what was asked before. */
  #next<T>(signal: AbortSignal | undefined, what: (signal: AbortSignal) => Promise<T>): Promise<T> {
    return this.#with(signal, (all) => {
      const turn = this.#last.then(() => {
        all.throwIfAborted();
        return what(all);
      });
      this.#last = turn.catch(() => {});
      return turn;
    });
  }

  async #with<T>(signal: AbortSignal | undefined, what: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const all = signal ? AbortSignal.any([this.#gone.signal, signal]) : this.#gone.signal;
    all.throwIfAborted();
    try {
      return await orReason(what(all), all);
    } catch (e) {
      if (all.aborted) throw all.reason;
      if (errorOf(e).code === "context-overflow") throw quotaExceeded(this.contextWindow + 1, this.contextWindow);
      throw named(e, "UnknownError");
    }
  }
}

function without({ reasoning_content: _, ...rest }: ChatMessage & { reasoning_content?: unknown }): ChatMessage {
  return rest as ChatMessage;
}

/** A promise, or the reason of a signal that is aborted before. */
export function orReason<T>(promise: Promise<T>, signal?: AbortSignal): Promise<T> {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });
}
