// Calls of tools that a page runs itself, as values of the Prompt API.
import type { ChatMessage, ChatToolCall } from "./index.ts";

interface Of {
  /** What pairs a call with its result. */
  callId: string;
  name: string;
}

/** A call of a tool. */
export class LanguageModelToolCall implements Of {
  readonly callId: string;
  readonly name: string;
  readonly arguments: Record<string, unknown>;
  constructor(init: Of & { arguments: Record<string, unknown> }) {
    this.callId = String(init.callId);
    this.name = String(init.name);
    this.arguments = init.arguments;
  }
}

/** What a call gave. */
export class LanguageModelToolSuccess implements Of {
  readonly callId: string;
  readonly name: string;
  readonly result: { type: "text" | "object"; value: unknown }[];
  constructor(init: Of & { result: { type: "text" | "object"; value: unknown }[] }) {
    this.callId = String(init.callId);
    this.name = String(init.name);
    this.result = [...init.result];
  }
}

/** Why a call failed. */
export class LanguageModelToolError implements Of {
  readonly callId: string;
  readonly name: string;
  readonly errorMessage: string;
  constructor(init: Of & { errorMessage: string }) {
    this.callId = String(init.callId);
    this.name = String(init.name);
    this.errorMessage = String(init.errorMessage);
  }
}

export type ToolResponse = LanguageModelToolSuccess | LanguageModelToolError;

/** @throws TypeError */
export function calledBy(value: unknown, at: string): ChatToolCall {
  if (!(value instanceof LanguageModelToolCall)) throw new TypeError(`${at}.value must be a LanguageModelToolCall`);
  const { callId: id, name, arguments: given } = value;
  return { id, type: "function", function: { name, arguments: JSON.stringify(given) } };
}

/** @throws TypeError */
export function toldOf(value: unknown, at: string): ChatMessage {
  if (value instanceof LanguageModelToolError)
    return { role: "tool", tool_call_id: value.callId, content: `error: ${value.errorMessage}` };
  if (!(value instanceof LanguageModelToolSuccess))
    throw new TypeError(`${at}.value must be a LanguageModelToolSuccess or LanguageModelToolError`);
  const texts = value.result.map(({ type, value: part }, i) => {
    if (type === "text" && typeof part === "string") return part;
    if (type === "object") return JSON.stringify(part);
    throw new TypeError(`${at}.value.result[${i}] must be a text or an object`);
  });
  return { role: "tool", tool_call_id: value.callId, content: texts.join("\n") };
}

/** A call that the model wrote. @throws SyntaxError where the window was full before its end */
export function written({ id, function: { name, arguments: text } }: ChatToolCall): LanguageModelToolCall {
  return new LanguageModelToolCall({ callId: id, name, arguments: JSON.parse(text || "{}") });
}
