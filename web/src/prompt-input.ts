// What calls of the Prompt API are given, checked as the specification says, and the errors that it names.
import type { ChatMessage, ChatParams, ChatToolCall, ErrorCode, ImagePart, PagelmError, TextPart } from "./index.ts";
import { errorOf } from "./lazy.ts";
import { calledBy, type LanguageModelToolCall, type ToolResponse, toldOf } from "./prompt-tools.ts";

export type Role = "system" | "user" | "assistant";
export type ContentType = "text" | "image" | "audio" | "tool-call" | "tool-response";

export interface Content {
  type: ContentType;
  value: string | ImageBitmapSource | AudioBuffer | BufferSource | LanguageModelToolCall | ToolResponse;
}

export interface Message {
  role: Role;
  content: string | Content[];
  /** Goes on with it: only the last message, of the assistant. */
  prefix?: boolean;
}

export type Prompt = string | Message[];

export interface Expected {
  type: ContentType;
  /** Language tags. They are checked; which languages a model knows, no file says. */
  languages?: string[];
}

/** Messages as the engine takes them, and whether the last is gone on with. */
export interface Input {
  messages: ChatMessage[];
  prefix: boolean;
}

const ROLES = ["system", "user", "assistant"];
const TYPES = ["text", "image", "audio", "tool-call", "tool-response"];

export const error = (name: string, message: string, cause?: unknown): DOMException => {
  const made = new DOMException(message, name);
  return cause === undefined ? made : Object.assign(made, { cause });
};

/** Of the browser where it has that class, else an exception of that name. */
export function quotaExceeded(requested: number, quota: number): DOMException {
  const message = `the input takes ${requested} tokens, and the context window has ${quota}`;
  type Made = new (message: string, options: { quota: number; requested: number }) => DOMException;
  const { QuotaExceededError } = globalThis as { QuotaExceededError?: Made };
  if (QuotaExceededError) return new QuotaExceededError(message, { quota, requested });
  return Object.assign(error("QuotaExceededError", message), { quota, requested });
}

/** Messages of an input; `begun`: messages came before. @throws TypeError, DOMException */
export function canonical(input: unknown, types: ReadonlySet<ContentType>, begun: boolean): Input {
  // As WebIDL does with what is no list.
  if (!Array.isArray(input)) return { messages: [{ role: "user", content: String(input) }], prefix: false };
  if (input.length === 0) return { messages: [{ role: "user", content: "" }], prefix: false };
  const messages: ChatMessage[] = [];
  let prefix = false;
  for (const [i, given] of input.entries()) {
    const { role, content, prefix: last } = (given ?? {}) as Partial<Message>;
    if (!ROLES.includes(role as string))
      throw new TypeError(`[${i}].role must be one of ${ROLES.join(", ")}, is ${role}`);
    if (content === undefined) throw new TypeError(`[${i}].content is missing`);
    if (last && (role !== "assistant" || i < input.length - 1))
      throw error("SyntaxError", `[${i}].prefix: only the last message, of the assistant, can be gone on with`);
    if (role === "system" && (begun || i > 0))
      throw new TypeError(`[${i}]: the message of the system must be the first of the session`);
    prefix = !!last;
    const { parts, calls, responses } = partsOf(role as Role, content, types, `[${i}].content`);
    messages.push(...responses);
    if (responses.length > 0 && parts.length === 0) continue;
    const [only = { type: "text", text: "" }] = parts;
    const plain = parts.length <= 1 && only.type === "text";
    const called = calls.length > 0 && { tool_calls: calls };
    messages.push({ role, content: plain ? only.text : parts, ...called } as ChatMessage);
  }
  return { messages, prefix };
}

interface Parts {
  parts: (TextPart | ImagePart)[];
  calls: ChatToolCall[];
  /** Results of calls are messages of their own. */
  responses: ChatMessage[];
}

function partsOf(role: Role, content: unknown, types: ReadonlySet<ContentType>, at: string): Parts {
  const made: Parts = { parts: [], calls: [], responses: [] };
  const { parts } = made;
  if (!Array.isArray(content)) {
    parts.push({ type: "text", text: String(content) });
    return made;
  }
  for (const [i, given] of content.entries()) {
    const { type, value } = (given ?? {}) as Content;
    const place = `${at}[${i}]`;
    if (!TYPES.includes(type)) throw new TypeError(`${place}.type must be one of ${TYPES.join(", ")}, is ${type}`);
    const assistant = role === "assistant";
    if (type === "text" ? false : assistant !== (type === "tool-call"))
      throw error("NotSupportedError", `${place}: messages of the role ${role} have no ${type}`);
    if (type !== "text" && type !== "tool-call" && !types.has(type))
      throw error("NotSupportedError", `${place}: expectedInputs of the session has no ${type}`);
    if (type === "text") {
      if (typeof value !== "string") throw new TypeError(`${place}.value must be a string`);
      const last = parts.at(-1);
      if (last?.type === "text") last.text += value;
      else parts.push({ type, text: value });
    } else if (type === "image") parts.push({ type: "image_url", image_url: { url: imageOf(value, place) } });
    else if (type === "tool-call") made.calls.push(calledBy(value, place));
    else if (type === "tool-response") made.responses.push(toldOf(value, place));
    else throw error("NotSupportedError", `${place}: ${type} is not supported as an input`);
  }
  return made;
}

/** What the engine decodes. */
function imageOf(value: unknown, at: string): Blob | ImageBitmap | ImageData {
  const kind = Object.prototype.toString.call(value).slice(8, -1);
  if (["Blob", "File", "ImageBitmap", "ImageData"].includes(kind)) return value as Blob;
  if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return new Blob([value as BufferSource]);
  const { videoWidth, naturalWidth, displayWidth, width } = (value ?? {}) as Record<string, number | undefined>;
  const drawn = /^(HTML(Image|Canvas|Video)Element|SVGImageElement|OffscreenCanvas|VideoFrame)$/.test(kind);
  if (!drawn) throw new TypeError(`${at}.value must be an image or its bytes`);
  const source = value as CanvasImageSource;
  const wide = videoWidth ?? naturalWidth ?? displayWidth ?? Number(width);
  const { videoHeight, naturalHeight, displayHeight, height } = value as Record<string, number | undefined>;
  const high = videoHeight ?? naturalHeight ?? displayHeight ?? Number(height);
  const canvas = new OffscreenCanvas(wide, high);
  const context = canvas.getContext("2d")!;
  context.drawImage(source, 0, 0);
  // Throws a SecurityError for what another origin does not share.
  return context.getImageData(0, 0, wide, high);
}

/** Checks what is expected; whether a model with these can take it. @throws RangeError, TypeError */
export function supported(expected: Expected[] | undefined, types: readonly ContentType[]): boolean {
  let all = true;
  for (const { type, languages } of expected ?? []) {
    if (!TYPES.includes(type)) throw new TypeError(`type must be one of ${TYPES.join(", ")}, is ${type}`);
    if (languages) Intl.getCanonicalLocales(languages);
    all &&= types.includes(type);
  }
  return all;
}

/** Parameters of a constraint, and what the model is told of it. @throws TypeError, DOMException */
export function constrained(constraint: unknown, omit: boolean): { params: Partial<ChatParams>; told: string } {
  if (constraint === undefined || constraint === null) {
    if (omit) throw new TypeError("omitResponseConstraintInput needs a responseConstraint");
    return { params: {}, told: "" };
  }
  if (typeof constraint !== "object" || Array.isArray(constraint))
    throw new TypeError("responseConstraint must be a JSON schema or a RegExp");
  if (constraint instanceof RegExp) {
    const { source, flags } = constraint;
    const odd = [...flags].filter((flag) => !"dgysu".includes(flag));
    if (odd.length > 0)
      throw error("NotSupportedError", `responseConstraint: the flags ${odd.join("")} are not supported`);
    // The whole answer matches.
    const grammar = source.replace(/^\^/, "").replace(/(?<!\\)\$$/, "");
    const told = omit ? "" : `\n\nAnswer only with a text that this regular expression matches: ${source}`;
    return { params: { grammar, grammar_type: "regex" }, told };
  }
  const schema = constraint as Record<string, unknown>;
  const told = omit ? "" : `\n\nAnswer only with JSON of this schema: ${JSON.stringify(schema)}`;
  const json_schema = { name: "answer", schema, strict: true };
  return { params: { response_format: { type: "json_schema", json_schema } }, told };
}

/** The messages with what is told of a constraint, at the end of the last text of the user. */
export function telling(messages: ChatMessage[], told: string): ChatMessage[] {
  const at = messages.findLastIndex(({ role }) => role === "user");
  const { content } = messages[at] ?? {};
  if (!told || at < 0) return messages;
  const text: TextPart = { type: "text", text: told };
  const more = typeof content === "string" ? content + told : [...((content ?? []) as TextPart[]), text];
  return messages.map((message, i) => (i === at ? ({ ...message, content: more } as ChatMessage) : message));
}

/** What names of the specification mean here. */
const NAMES: Partial<Record<ErrorCode, string>> = {
  network: "NetworkError",
  "http-status": "NetworkError",
  "bad-grammar": "NotSupportedError",
  "bad-template": "NotSupportedError",
  "template-raised": "NotSupportedError",
  "no-template": "NotSupportedError",
  "no-images": "NotSupportedError",
  "unsupported-architecture": "NotSupportedError",
  "unsupported-type": "NotSupportedError",
  "out-of-memory": "NotSupportedError",
  "no-gpu": "NotSupportedError",
  "bad-image": "EncodingError",
  disposed: "InvalidStateError",
};

/** An error of the engine as the specification names it; what is one of its names already stays. */
export function named(e: unknown, otherwise: string): Error {
  if (e instanceof DOMException || e instanceof TypeError || e instanceof RangeError) return e;
  const { code, message }: PagelmError = errorOf(e);
  return error(NAMES[code] ?? otherwise, message, e);
}
