/** The codes of the engine (`crate/error.rs`). They are stable: test for them, not for messages. */
export const ENGINE_CODES = [
  "not-gguf",
  "gguf-version",
  "gguf-truncated",
  "gguf-invalid",
  "bad-checkpoint",
  "missing-key",
  "wrong-key-type",
  "bad-config",
  "unsupported-architecture",
  "no-images",
  "bad-image",
  "unsupported-type",
  "missing-tensor",
  "bad-tensor",
  "unknown-content",
  "split-file",
  "bad-tokenizer",
  "no-template",
  "bad-template",
  "template-raised",
  "template-limit",
  "bad-grammar",
  "context-overflow",
  "cache-full",
  "bad-snapshot",
  "empty-prompt",
  "token-out-of-range",
  "degenerate-logits",
  "invalid-argument",
  "invalid-state",
  "out-of-memory",
  "no-gpu",
  "device-lost",
  "gpu-error",
  "aborted",
  "io",
] as const;

/** The codes of errors outside the engine. */
export const HOST_CODES = [
  /** The server could not be reached, or the connection broke repeatedly. */
  "network",
  /** The server answered with an error status. */
  "http-status",
  /** The file on the server changed during the download. */
  "model-changed",
  /** The file does not have the SHA-256 that is expected. */
  "bad-checksum",
  /** The browser does not store the file: there is no room, or this page may not. */
  "not-stored",
  /** The engine's script or wasm file could not be loaded. */
  "engine-not-loaded",
  /** The worker died. */
  "worker-lost",
  /** The engine was disposed of. */
  "disposed",
  /** A bug in pagelm. The engine cannot be used any more; a new one can be made. */
  "internal",
] as const;

export type ErrorCode = (typeof ENGINE_CODES)[number] | (typeof HOST_CODES)[number];

/** An error as plain data, as the worker sends it. */
export interface ErrorData {
  code: ErrorCode;
  /** A tensor, a key, a URL, a byte offset; empty if there is none. */
  place: string;
  /** What was expected, what was found and, if there is one, the remedy. */
  message: string;
}

/**
 * Every error that this package throws. After an abort by a signal the code is `aborted` and, as with `fetch`, the name
 * `AbortError`, or `TimeoutError` for `AbortSignal.timeout`; `cause` is the signal's reason.
 */
export class PagelmError extends Error implements ErrorData {
  readonly code: ErrorCode;
  readonly place: string;

  constructor(code: ErrorCode, message: string, place = "", options?: ErrorOptions) {
    super(message, options);
    const timeout = options?.cause instanceof Error && options.cause.name === "TimeoutError";
    this.name = code !== "aborted" ? "PagelmError" : timeout ? "TimeoutError" : "AbortError";
    this.code = code;
    this.place = place;
  }

  static from(data: ErrorData): PagelmError {
    return new PagelmError(data.code, data.message, data.place);
  }
}

/** Codes of the browser's own errors are numbers. */
const isData = (e: unknown): e is ErrorData =>
  typeof e === "object" && e !== null && "code" in e && typeof e.code === "string" && "message" in e;

/** Plain data of anything thrown. */
export function errorData(e: unknown): ErrorData {
  if (isData(e)) return { code: e.code, place: e.place ?? "", message: e.message };
  if (e instanceof Error && e.name === "AbortError") return { code: "aborted", place: "", message: "stopped" };
  return { code: "internal", place: "", message: e instanceof Error ? `${e.name}: ${e.message}` : String(e) };
}

/** The error of a signal: always the same code, whatever its reason. */
export function abortError(signal?: AbortSignal): PagelmError {
  const options = signal?.aborted ? { cause: signal.reason } : undefined;
  return new PagelmError("aborted", "the operation was stopped by its signal", "", options);
}
