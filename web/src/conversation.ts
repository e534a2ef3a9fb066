// A conversation that answers itself, as what draws it needs it: each change gives a new snapshot.
import {
  type ChatChunk,
  type ChatMessage,
  type ChatParams,
  type ChatUsage,
  type Endpoints,
  type FinishReason,
  PagelmError,
} from "./index.ts";
import { errorOf } from "./lazy.ts";
import { type RunnableTool, runTools, type ToolEvent } from "./tools.ts";

/** A message, with what of it is still to come. */
export type Said = ChatMessage & {
  /** Stays the same while the message grows. */
  id: string;
  /** `waiting`: nothing came yet; `stopped` and `failed`: it is what came until then. */
  state: "waiting" | "streaming" | "done" | "stopped" | "failed";
  /** Why an answer ended. */
  finishReason?: FinishReason;
};

type UserContent = Extract<ChatMessage, { role: "user" }>["content"];

export interface Talk {
  messages: readonly Said[];
  answering: boolean;
  /** Why the last answer failed. */
  error: PagelmError | null;
  /** Tokens and speeds of the last answer. */
  usage: ChatUsage | null;
}

/** How answers are made: parameters of chat completions, and tools that run. */
export interface TalkOptions {
  params?: Omit<ChatParams, "messages" | "stream" | "n" | "tools" | "signal"> | undefined;
  tools?: RunnableTool[] | undefined;
  /** How often a turn may ask the model, with tools; 8 by default. */
  maxRounds?: number | undefined;
}

type Engine = Pick<Endpoints, "chat">;

/** How often what listens is told while an answer comes, in milliseconds: a screen shows no more. */
const PACE = 16;

export class Conversation {
  /** Looked at when an answer begins, as is what answers. */
  options: TalkOptions = {};
  engine: (signal: AbortSignal) => Promise<Engine> = () =>
    Promise.reject(new PagelmError("invalid-state", "no engine"));
  talk: Talk;
  #stop: AbortController | null = null;
  #last: Promise<void> = Promise.resolve();
  #listeners = new Set<() => void>();
  #ids = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #list: Said[];

  constructor(messages: readonly ChatMessage[] = []) {
    this.#list = messages.map((message) => this.#said(message));
    this.talk = { messages: this.#list, answering: false, error: null, usage: null };
  }

  subscribe = (changed: () => void): (() => void) => {
    this.#listeners.add(changed);
    return () => void this.#listeners.delete(changed);
  };

  /** Asks. While an answer comes, the question waits for its end. It never rejects: `error` says what was wrong. */
  send = (content: UserContent): Promise<void> =>
    this.#next(() => {
      this.#list.push(this.#said({ role: "user", content }));
      return this.#answer();
    });

  /** Answers the last question again, in place of what came after it. */
  regenerate = (): Promise<void> => {
    this.stop();
    return this.#next(() => {
      const last = this.#list.findLastIndex(({ role }) => role === "user");
      if (last < 0) throw new PagelmError("invalid-state", "nothing was asked yet: send a message first");
      this.#list.length = last + 1;
      return this.#answer();
    });
  };

  /** Ends the answer that comes. What came of it stays. */
  stop = (): void => this.#stop?.abort();

  /** Another conversation in the place of this one, such as one that was kept, or `[]`. */
  setMessages = (messages: readonly ChatMessage[]): void => {
    this.stop();
    void this.#next(async () => {
      this.#list = messages.map((message) => this.#said(message));
    });
  };

  #said(message: ChatMessage): Said {
    return { state: "done", id: `${++this.#ids}`, ...message };
  }

  /** One after the other. */
  #next(what: () => Promise<void>): Promise<void> {
    this.#last = this.#last.then(async () => {
      let error: PagelmError | null = null;
      try {
        this.#tell({ error: null });
        await what();
      } catch (e) {
        error = errorOf(e);
        if (error.code === "aborted") error = null;
      }
      this.#tell({ answering: false, error });
    });
    return this.#last;
  }

  async #answer(): Promise<void> {
    const stop = new AbortController();
    this.#stop = stop;
    const messages = told(this.#list);
    const answer = this.#begin();
    this.#tell({ answering: true, usage: null });
    try {
      const engine = await this.engine(stop.signal);
      await this.#read(this.#events(engine, messages, stop.signal), answer);
    } catch (e) {
      const last = this.#list.at(-1)!;
      if (last.state !== "done") this.#grow(last, { state: stop.signal.aborted ? "stopped" : "failed" });
      throw e;
    } finally {
      this.#stop = null;
    }
  }

  #begin(): Said {
    const answer: Said = { ...this.#said({ role: "assistant", content: "" }), state: "waiting" };
    this.#list.push(answer);
    return answer;
  }

  async #read(events: AsyncGenerator<ToolEvent, void, void>, answer: Said): Promise<void> {
    let round = 1;
    for await (const event of events) {
      if (event.type === "chunk") {
        if (event.round > round) answer = this.#begin();
        round = event.round;
        answer = this.#add(answer, event.chunk);
      } else if (event.type === "call" && answer.role === "assistant") {
        answer = this.#grow(answer, { tool_calls: [...(answer.tool_calls ?? []), event.call], state: "done" });
      } else if (event.type === "result") {
        const { call, content, failed } = event;
        const result: Said = this.#said({ role: "tool", tool_call_id: call.id, content });
        this.#list.push(failed ? { ...result, state: "failed" } : result);
        this.#soon();
      }
    }
    if (answer.state !== "done") this.#grow(answer, { state: "done" });
  }

  /** With tools the loop that runs them, else one answer. */
  #events(engine: Engine, messages: ChatMessage[], signal: AbortSignal): AsyncGenerator<ToolEvent, void, void> {
    const { params, tools, maxRounds } = this.options;
    const asked = { ...params, messages, stream_options: { include_usage: true } };
    if (tools?.length) return runTools(engine, { ...asked, tools }, { signal, ...(maxRounds && { maxRounds }) });
    return (async function* () {
      for await (const chunk of await engine.chat.completions.create({ ...asked, stream: true }, { signal }))
        yield { type: "chunk" as const, chunk, round: 1 };
    })();
  }

  #add(answer: Said, { choices: [choice], usage }: ChatChunk): Said {
    if (usage) this.#set({ usage });
    const { content, reasoning_content: thought } = choice?.delta ?? {};
    const reason = choice?.finish_reason;
    if (answer.role !== "assistant" || (!content && !thought && !reason)) return answer;
    return this.#grow(answer, {
      content: `${answer.content ?? ""}${content ?? ""}`,
      ...(thought && { reasoning_content: `${answer.reasoning_content ?? ""}${thought}` }),
      ...(reason ? { finishReason: reason, state: "done" } : { state: "streaming" }),
    });
  }

  /** The message with more to it, in its place. */
  #grow(message: Said, more: Partial<Said>): Said {
    const grown = { ...message, ...more } as Said;
    this.#list[this.#list.indexOf(message)] = grown;
    this.#soon();
    return grown;
  }

  #set(more: Partial<Talk>): void {
    this.talk = { ...this.talk, ...more, messages: [...this.#list] };
  }

  #soon(): void {
    this.#timer ??= setTimeout(() => this.#tell({}), PACE);
  }

  #tell(more: Partial<Talk>): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#set(more);
    for (const changed of this.#listeners) changed();
  }
}

/** What the model is told: without answers of which nothing came, and what they were asked, which may be why. */
function told(list: readonly Said[]): ChatMessage[] {
  const messages: ChatMessage[] = [];
  for (const message of list) {
    const answer = message.role === "assistant";
    if (!answer || message.content || message.tool_calls?.length || message.state === "done")
      messages.push(plain(message));
    else if (messages.at(-1)?.role === "user") messages.pop();
  }
  return messages;
}

/** A message as the API takes it. */
function plain(message: Said): ChatMessage {
  const { id: _, state: __, finishReason: ___, ...rest } = message;
  return rest as ChatMessage;
}
