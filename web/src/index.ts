export type { Endpoint, Endpoints } from "./page/api.ts";
export { type CanRun, canRun } from "./page/can-run.ts";
export { type Capabilities, capabilities } from "./page/capabilities.ts";
export { createEngine, Engine, Session } from "./page/engine.ts";
export { type Downloaded, models } from "./page/models.ts";
export type * from "./page/openai-types.ts";
export type { SessionOptions } from "./page/params.ts";
export { type ErrorCode, type ErrorData, PagelmError } from "./shared/errors.ts";
export type * from "./shared/types.ts";
