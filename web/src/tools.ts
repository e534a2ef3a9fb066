// Runs the tools that a model calls, and asks it again with what they gave: `pagelm/tools`, a separate entry point.
import {
  type ChatChunk,
  type ChatMessage,
  type ChatParams,
  type ChatTool,
  type ChatToolCall,
  PagelmError,
} from "./index.ts";

/** A tool with what runs it. */
export interface RunnableTool extends ChatTool {
  /**
   * Gets the arguments that the model wrote; they fit the schema where the tool is `strict`. What it returns is sent to the
   * model: a text as it is, all else as JSON. What it throws is sent as an error, so that the model can mend its call.
   */
  // biome-ignore lint/suspicious/noExplicitAny: the schema says what it is
  execute(args: any, context: { call: ChatToolCall; signal: AbortSignal | null }): unknown;
}

export interface RunToolsParams extends Omit<ChatParams, "tools" | "stream" | "n"> {
  tools: RunnableTool[];
}

export interface RunToolsOptions {
  signal?: AbortSignal | null;
  /** How often the model is asked at most; 8 by default. The last time it may call nothing. */
  maxRounds?: number;
}

/** What happens while tools run. */
export type ToolEvent =
  /** A piece of an answer. */
  | { type: "chunk"; chunk: ChatChunk; round: number }
  /** A call that is whole; it runs now. */
  | { type: "call"; call: ChatToolCall; round: number }
  /** What the model is told of it. */
  | { type: "result"; call: ChatToolCall; content: string; failed: boolean; round: number }
  /** The end: the last answer, and the conversation with it, to go on from. */
  | { type: "done"; content: string; messages: ChatMessage[]; rounds: number };

/** What answers: an engine, what `withRemote` makes of it, or a client of OpenAI's API. */
export interface Llm {
  chat: {
    completions: {
      // biome-ignore lint/suspicious/noExplicitAny: clients have parameters and chunks of their own
      create(params: any, options?: any): PromiseLike<any>;
    };
  };
}

/** Asks until an answer calls no more tools. The calls of one answer run side by side. */
export async function* runTools(
  llm: Llm,
  { tools, messages: given, tool_choice, signal: first, ...rest }: RunToolsParams,
  { signal: second, maxRounds = 8 }: RunToolsOptions = {},
): AsyncGenerator<ToolEvent, void, void> {
  if (!Number.isInteger(maxRounds) || maxRounds < 1)
    throw new PagelmError("invalid-argument", `must be a whole number from 1 on, is ${maxRounds}`, "maxRounds");
  const signals = [first, second].filter((signal) => signal != null);
  const signal = signals.length > 1 ? AbortSignal.any(signals) : (signals[0] ?? null);
  const described = tools.map(({ execute: _, ...tool }) => tool);
  const messages = [...given];
  for (let round = 1; ; round++) {
    // A call that must be made is made once: else it would never end.
    const choice = round === maxRounds ? "none" : round > 1 && tool_choice !== "none" ? "auto" : tool_choice;
    const params = { ...rest, messages, tools: described, stream: true, ...(choice && { tool_choice: choice }) };
    const answer = new Answer();
    for await (const chunk of await llm.chat.completions.create(params, { signal })) {
      answer.add(chunk);
      yield { type: "chunk", chunk, round };
    }
    if (round === maxRounds) answer.calls = [];
    messages.push(answer.message());
    const { calls } = answer;
    if (calls.length === 0) {
      yield { type: "done", content: answer.content, messages, rounds: round };
      return;
    }
    const running = calls.map((call) => ({ call, result: run(tools, call, signal) }));
    for (const { call } of running) yield { type: "call", call, round };
    for (const { call, result } of running) {
      const { content, failed } = await result;
      // A tool need not look at the signal.
      signal?.throwIfAborted();
      messages.push({ role: "tool", content, tool_call_id: call.id });
      yield { type: "result", call, content, failed, round };
    }
  }
}

/** An answer, put together from its pieces. */
class Answer {
  content = "";
  #reasoning = "";
  calls: ChatToolCall[] = [];

  add({ choices: [choice] }: ChatChunk): void {
    const { content, reasoning_content, tool_calls } = choice?.delta ?? {};
    this.content += content ?? "";
    this.#reasoning += reasoning_content ?? "";
    for (const { index, id, function: part } of tool_calls ?? []) {
      this.calls[index] ??= { id: id ?? "", type: "function", function: { name: "", arguments: "" } };
      const call = this.calls[index].function;
      call.name += part?.name ?? "";
      call.arguments += part?.arguments ?? "";
    }
  }

  message(): ChatMessage {
    return {
      role: "assistant",
      content: this.content || null,
      ...(this.#reasoning && { reasoning_content: this.#reasoning }),
      ...(this.calls.length > 0 && { tool_calls: this.calls }),
    };
  }
}

/** Runs one call. It never rejects: what goes wrong is told to the model. */
async function run(
  tools: RunnableTool[],
  call: ChatToolCall,
  signal: AbortSignal | null,
): Promise<{ content: string; failed: boolean }> {
  const { name, arguments: text } = call.function;
  try {
    const tool = tools.find((tool) => tool.function.name === name);
    if (!tool) throw new Error(`there is no tool ${name}; there are ${tools.map((t) => t.function.name).join(", ")}`);
    const result = await tool.execute(JSON.parse(text || "{}"), { call, signal });
    return { content: typeof result === "string" ? result : (JSON.stringify(result) ?? "done"), failed: false };
  } catch (e) {
    return { content: `error: ${e instanceof Error ? e.message : e}`, failed: true };
  }
}
