// Why a download fails, as far as a page can find out: browsers say "Failed to fetch" for every failure.

import type { FetchFunction } from "../shared/types.ts";

/** The wait that a server asks for, in ms: a number of seconds, or until a date. */
export function retryAfter(header: string | null, now = Date.now()): number | undefined {
  if (header === null) return undefined;
  const seconds = /^\s*\d+\s*$/.test(header);
  const date = /[a-z]/i.test(header) ? Date.parse(header) : Number.NaN;
  const ms = seconds ? Number(header) * 1000 : date - now;
  return Number.isNaN(ms) ? undefined : Math.max(ms, 0);
}

/** The possible causes if a request got no answer, and what to do. */
export async function whyUnreached(
  url: string,
  wasReached: boolean,
  get: FetchFunction,
  signal: AbortSignal | undefined,
): Promise<string> {
  const { origin, protocol, hostname } = new URL(url);
  const page = globalThis.origin;
  if (protocol !== "http:" && protocol !== "https:") return `is ${protocol} data that can still be read?`;
  if (globalThis.navigator?.onLine === false) return "this device is offline";
  if (wasReached) return "is the connection down?";
  const local = hostname === "localhost" || hostname.startsWith("127.");
  if (page?.startsWith("https:") && protocol === "http:" && !local) {
    return "a page over https cannot fetch over http: give an https address";
  }
  const cors = `CORS: its server must send Access-Control-Allow-Origin with the file`;
  if (origin === page) return `is the server at ${origin} running?`;
  if (await answers(url, get, signal)) return `the server answers, but not to pages of ${page} (${cors})`;
  return `is there a server at ${origin}, and may this page read its files (${cors})?`;
}

/** How long a server may take to respond. */
const PROBE_MS = 5000;

/** Whether a server answers requests whose answers the page may not read. */
async function answers(url: string, get: FetchFunction, signal: AbortSignal | undefined): Promise<boolean> {
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), PROBE_MS);
  const abort = () => stop.abort();
  signal?.addEventListener("abort", abort);
  try {
    await get(url, { method: "HEAD", mode: "no-cors", cache: "no-store", signal: stop.signal });
    return true;
  } catch {
    return false;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
  }
}
