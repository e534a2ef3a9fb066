import type { LoadProgress } from "../types.ts";

/** Passes on a new phase at once, and within a phase not more than the eye can follow. */
export function throttled(report: (p: LoadProgress) => void, everyMs = 50): (p: LoadProgress) => void {
  let phase = "";
  let last = Number.NEGATIVE_INFINITY;
  return (p) => {
    const now = performance.now();
    if (p.phase === phase && now - last < everyMs && p.loaded !== p.total) return;
    phase = p.phase;
    last = now;
    report(p);
  };
}
