// The page's own fetch function, for the worker that loads a model.

import { errorData } from "../shared/errors.ts";
import type { FetchAnswer, FromWorker } from "../shared/protocol.ts";
import type { FetchFunction } from "../shared/types.ts";
import { isA, refuse, shown } from "./check.ts";

export type Asked = Extract<FromWorker, { op: "fetch" }>;

/**
 * Answers a request of the worker: first with what `get` resolves to, and then, each time that it is asked for more, with
 * a piece of the body. Not with the stream itself: some browsers cannot transfer streams.
 */
export async function serveFetch(get: FetchFunction, { url, init, port }: Asked, over: AbortSignal): Promise<void> {
  const request = new AbortController();
  const stop = () => request.abort();
  const failed = (e: unknown) => port.postMessage({ error: errorData(e) } satisfies FetchAnswer);
  over.addEventListener("abort", stop);
  port.onmessage = stop;
  try {
    const response = await get(url, { ...init, signal: request.signal });
    if (!isA("Response", response)) refuse("fetch", `must return a Response, returned ${shown(response)}`);
    const { status, statusText, headers, body } = response;
    const reader = body?.getReader();
    const more = async () => {
      const { value } = await reader!.read();
      // A copy: the memory may be one that `get` uses again.
      const bytes = value?.slice();
      port.postMessage({ bytes } satisfies FetchAnswer, bytes ? [bytes.buffer] : []);
    };
    port.onmessage = ({ data }: MessageEvent<"more" | "stop">) => {
      if (data === "more") return more().catch(failed);
      stop();
      return reader?.cancel().catch(() => {});
    };
    port.postMessage({ head: { status, statusText, headers: [...headers] }, empty: !body } satisfies FetchAnswer);
  } catch (e) {
    failed(e);
  }
}
