import type { LoadProgress } from "../shared/types.ts";

/** Passes on a new phase and a stall immediately, and other progress at most every `everyMs`. */
export function throttled(report: (p: LoadProgress) => void, everyMs = 50): (p: LoadProgress) => void {
  let before: LoadProgress | undefined;
  let last = Number.NEGATIVE_INFINITY;
  return (p) => {
    const now = performance.now();
    const same = p.phase === before?.phase && p.stalled === before.stalled;
    if (same && now - last < everyMs && p.loaded !== p.total) return;
    before = p;
    last = now;
    report(p);
  };
}
