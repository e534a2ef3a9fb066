export { type Capabilities, capabilities } from "./capabilities.ts";
export { type CanRun, canRun, createEngine, Engine, Session, shaderSources } from "./engine.ts";
export { type ErrorCode, type ErrorData, PagelmError } from "./errors.ts";
export { models } from "./models.ts";
export type {
  ChatChunk,
  ChatCompletion,
  ChatMessage,
  ChatParams,
  ChatUsage,
  Completions,
  FinishReason,
  RequestOptions,
} from "./openai.ts";
export type { Message } from "./protocol.ts";
export type * from "./types.ts";
