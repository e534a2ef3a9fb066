// Runs the tools that a model calls, and asks it again with what they gave; values by a JSON schema, with their types:
// `pagelm/tools`, a separate entry point.
import {
  type ChatChunk,
  type ChatCompletion,
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

/**
 * The values that a JSON schema allows, as far as the compiler can tell: write the schema in place or `as const`. What it
 * cannot (`$ref`, `allOf`, patterns) is `unknown` or wider than the schema.
 */
export type FromSchema<S> = S extends { const: infer C }
  ? C
  : S extends { enum: readonly (infer E)[] }
    ? E
    : S extends { anyOf: readonly (infer A)[] } | { oneOf: readonly (infer A)[] }
      ? FromSchema<A>
      : S extends { type: readonly (infer T)[] }
        ? OfType<T, S>
        : S extends { type: infer T }
          ? OfType<T, S>
          : unknown;

interface Scalars {
  string: string;
  number: number;
  integer: number;
  boolean: boolean;
  null: null;
}

// Each type of a list by itself.
type OfType<T, S> = T extends keyof Scalars
  ? Scalars[T]
  : T extends "array"
    ? S extends { items: infer I }
      ? FromSchema<I>[]
      : unknown[]
    : T extends "object"
      ? S extends { properties: infer P }
        ? OfProperties<P, S extends { required: readonly (infer R)[] } ? R : never>
        : Record<string, S extends { additionalProperties: infer V extends object } ? FromSchema<V> : unknown>
      : unknown;

type OfProperties<P, R> = { -readonly [K in keyof P as K extends R ? K : never]: FromSchema<P[K]> } & {
  -readonly [K in keyof P as K extends R ? never : K]?: FromSchema<P[K]>;
};

/** A tool by its schema: `execute` gets arguments of its type, which the grammar holds unless `strict` is false. */
export function defineTool<const S extends object>(tool: {
  name: string;
  description?: string;
  /** A JSON schema of an object. */
  parameters: S;
  strict?: boolean;
  execute(args: FromSchema<S>, context: { call: ChatToolCall; signal: AbortSignal | null }): unknown;
}): RunnableTool {
  const { execute, strict = true, ...rest } = tool;
  const described = { ...rest, strict, parameters: rest.parameters as Record<string, unknown> };
  return { type: "function", function: described, execute };
}

export interface ObjectParams<S extends object> extends Omit<ChatParams, "stream" | "n" | "response_format" | "tools"> {
  /** The JSON schema of the answer. */
  schema: S;
}

/**
 * Asks for an answer that a JSON schema allows, and reads it. `object` is null where the answer was cut, by `max_tokens` or the
 * end of the context.
 */
export async function generateObject<const S extends object>(
  llm: Llm,
  { schema, ...params }: ObjectParams<S>,
  options?: { signal?: AbortSignal | null },
): Promise<{ object: FromSchema<S> | null; completion: ChatCompletion }> {
  const response_format = { type: "json_schema", json_schema: { name: "answer", schema, strict: true } };
  const completion: ChatCompletion = await llm.chat.completions.create({ ...params, response_format }, options);
  const choice = completion.choices[0];
  const whole = choice?.finish_reason === "stop";
  return { object: whole ? JSON.parse(choice.message.content ?? "null") : null, completion };
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

/**
 * An answer, put together from its pieces.
 * @internal
 */
export class Answer {
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
