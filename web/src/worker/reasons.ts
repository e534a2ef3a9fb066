// Why a download fails, as far as a page can find out: browsers say "Failed to fetch" for every failure.

import type { Bindings } from "#bindings";
import type { FetchFunction } from "../shared/types.ts";

/** The wait that a server asks for, in ms: a number of seconds, or until a date. */
export function retryAfter(header: string | null, now = Date.now()): number | undefined {
  if (header === null) return undefined;
  const seconds = /^\s*\d+\s*$/.test(header);
  const date = /[a-z]/i.test(header) ? Date.parse(header) : Number.NaN;
  const ms = seconds ? Number(header) * 1000 : date - now;
  return Number.isNaN(ms) ? undefined : Math.max(ms, 0);
}

/** What knows the causes: `whyUnreached` of the module, once that is there. */
export type Why = (...facts: Parameters<Bindings["whyUnreached"]>) => string | undefined | Promise<string | undefined>;

/** The possible causes if a request got no answer, and what to do. */
export async function whyUnreached(
  why: Why,
  url: string,
  wasReached: boolean,
  get: FetchFunction,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  const online = globalThis.navigator?.onLine !== false;
  const say = (answered?: boolean) => why(url, globalThis.origin ?? "", online, wasReached, answered);
  return (await say()) ?? say(await answers(url, get, signal));
}

/** How long a server may take to respond. */
const PROBE_MS = 5000;

/** Whether a server answers requests whose answers the page may not read. */
async function answers(url: string, get: FetchFunction, signal: AbortSignal | undefined): Promise<boolean> {
  const limit = AbortSignal.timeout(PROBE_MS);
  try {
    await get(url, {
      method: "HEAD",
      mode: "no-cors",
      cache: "no-store",
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
    return true;
  } catch {
    return false;
  }
}
