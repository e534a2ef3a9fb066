// OpenAI's API over an engine: by `fetch`, for clients that speak HTTP, and by functions of the same names.

import { abortError, type ErrorCode, errorData, PagelmError } from "../shared/errors.ts";
import type { Attached, ResponseHead } from "../shared/protocol.ts";
import { callback, given, isA, refuse, shown, signal } from "./check.ts";
import type { Client } from "./client.ts";
import type {
  ChatChunk,
  ChatCompletion,
  ChatParams,
  Completion,
  CompletionParams,
  CreateEmbeddingResponse,
  EmbeddingParams,
  PageParams,
  RequestOptions,
  Response as ResponseBody,
  ResponseEvent,
  ResponseParams,
} from "./openai-types.ts";
import { isBlob } from "./params.ts";
import { type Pieces, pieces } from "./stream.ts";

/** An endpoint: with `stream` what comes of an answer as it comes, else the whole answer. Requests run side by side. */
export interface Endpoint<Params, Whole, Part> {
  create(params: Params & { stream: true }, options?: RequestOptions): Promise<AsyncGenerator<Part, void, void>>;
  create(params: Params & { stream?: false | null }, options?: RequestOptions): Promise<Whole>;
  create(params: Params, options?: RequestOptions): Promise<AsyncGenerator<Part, void, void> | Whole>;
}

export interface Endpoints {
  chat: { completions: Endpoint<ChatParams, ChatCompletion, ChatChunk> };
  completions: Endpoint<CompletionParams, Completion, Completion>;
  responses: Endpoint<ResponseParams, ResponseBody, ResponseEvent>;
  embeddings: { create(params: EmbeddingParams, options?: RequestOptions): Promise<CreateEmbeddingResponse> };
}

/** @internal */
export function endpoints(client: Client): Endpoints {
  const at = (path: string) => ({
    create: (params: object, options?: RequestOptions) => create(client, `/v1/${path}`, params, options),
  });
  return {
    chat: { completions: at("chat/completions") },
    completions: at("completions"),
    responses: at("responses"),
    embeddings: at("embeddings"),
  } as Endpoints;
}

/**
 * Answers HTTP requests of OpenAI's API, whatever host they name.
 * @internal
 */
export async function fetchFrom(client: Client, input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
  const request = new Request(input, init);
  const { pathname } = new URL(request.url);
  try {
    const path = decodeURIComponent(pathname.slice(Math.max(pathname.indexOf("/v1/"), 0)));
    // Who cancels the body waits for nothing that is still to come.
    const cancelled = new AbortController();
    const signal = AbortSignal.any([request.signal, cancelled.signal]);
    const { head, texts } = await open(client, request.method, path, await request.text(), [], signal);
    const headers: HeadersInit = { "content-type": head.stream ? "text/event-stream" : "application/json" };
    if (head.unknown) headers["x-unknown-parameters"] = head.unknown;
    const encoder = new TextEncoder();
    const body = new ReadableStream({
      async pull(controller: ReadableStreamDefaultController<Uint8Array>) {
        const { value, done } = await texts.next();
        if (done) controller.close();
        else controller.enqueue(encoder.encode(value));
      },
      cancel: () => cancelled.abort(),
    });
    return new Response(body, { status: head.status, headers });
  } catch (e) {
    if (request.signal.aborted) throw abortError(request.signal);
    // It fails again if it is tried again.
    const { code, message } = errorData(e);
    const error = { message, type: "server_error", param: null, code };
    return Response.json({ error }, { status: 500, headers: { "x-should-retry": "false" } });
  }
}

/** The same for the page's own code: errors are thrown, events of a stream are parsed. */
async function create(client: Client, path: string, params: object, options: RequestOptions = {}): Promise<unknown> {
  const { signal: first, onPrefill, ...rest } = params as PageParams;
  given({ signal, onPrefill: callback }, { signal: first, onPrefill });
  const { signal: second, journal } = given({ signal, journal: () => {} }, options, "options") as RequestOptions;
  const signals = [first, second].filter((s) => s != null);
  const stop = AbortSignal.any(signals);
  const attached: Attached[] = [];
  const { head, texts } = await open(client, "POST", path, json(rest, attached), attached, stop, onPrefill, journal);
  if (head.unknown) console.warn(`pagelm does not know the parameters ${head.unknown}`);
  if (head.stream) return started(events(texts));
  let body = "";
  for await (const text of texts) body += text;
  const whole = JSON.parse(body);
  if (whole.error) throw failed(whole.error);
  return whole;
}

async function* events(texts: AsyncGenerator<string, void, void>): AsyncGenerator<unknown, void, void> {
  try {
    yield;
    for await (const text of texts) {
      // Without a head an error is JSON alone.
      const data = text.replace(/^(event.*\n)?data: /, "");
      if (data.startsWith("[DONE]")) return;
      const event = JSON.parse(data);
      if (event.error || event.type === "error") throw failed(event.error ?? event);
      yield event;
    }
  } finally {
    // Also if nothing of it was read.
    await texts.return();
  }
}

/** Sends a request, and waits for the head of its response. */
async function open(
  client: Client,
  method: string,
  path: string,
  body: string,
  attached: Attached[],
  signal?: AbortSignal | null,
  onPrefill?: PageParams["onPrefill"],
  journal?: RequestOptions["journal"],
): Promise<{ head: ResponseHead; texts: AsyncGenerator<string, void, void> }> {
  const given = [Date.now(), ...crypto.getRandomValues(new Uint32Array(4))];
  const run = pieces(client, "request", { method, path, body, attached, given, ...journal }, signal);
  // Who has a part of the answer has its head.
  let head = journal?.replay.length ? ({ stream: true } as ResponseHead) : null;
  while (!head) {
    const { value, done } = await run.next();
    if (done) throw new PagelmError("internal", "no head");
    if (value.kind === "head") head = value;
    else if (value.kind === "prefill") onPrefill?.(value);
  }
  return { head, texts: await started(bodyOf(run, onPrefill)) };
}

async function* bodyOf(
  run: Pieces<"request">,
  onPrefill?: PageParams["onPrefill"],
): AsyncGenerator<string, void, void> {
  try {
    yield "";
    for await (const piece of run) {
      if (piece.kind === "body") yield piece.text;
      else if (piece.kind === "prefill") onPrefill?.(piece);
    }
  } finally {
    await run.return();
  }
}

/** A generator past its first, empty value: so its `finally` runs even if nobody iterates it and it is returned. */
async function started<T>(generator: AsyncGenerator<T, void, void>): Promise<AsyncGenerator<T, void, void>> {
  await generator.next();
  return generator;
}

/** What JSON would leave out or change is refused: it would do nothing. Images go beside it. */
function json(params: object, attached: Attached[]): string {
  return JSON.stringify(params, (name, value) => {
    if (isBlob(value) || isA("ImageBitmap", value) || isA("ImageData", value))
      return `attached:${attached.push(value) - 1}`;
    const lost = ["bigint", "function", "symbol"].includes(typeof value);
    if (lost || (typeof value === "number" && !Number.isFinite(value)))
      refuse(name, `must be JSON, is ${shown(value)}`);
    return value;
  });
}

/** An error of OpenAI's shape. */
function failed({ message, param, code }: { message: string; param: string | null; code: string | null }): PagelmError {
  // OpenAI's codes have underscores, the engine's have none.
  const known = code === "context_length_exceeded" ? "context-overflow" : code?.includes("_") ? null : code;
  return new PagelmError((known ?? "invalid-argument") as ErrorCode, message, param ?? "");
}
