import type { LoadProgress } from "../shared/types.ts";

/** The time over which a rate is measured. */
const WINDOW_MS = 5000;

/** Passes on how far a load is: a new phase and a stall immediately, and the rest at most every `everyMs`. */
export class Meter {
  #report: (p: LoadProgress) => void;
  #everyMs: number;
  #now: LoadProgress = {
    phase: "header",
    loaded: 0,
    total: undefined,
    stalled: false,
    from: "network",
    bytesPerS: 0,
    secondsLeft: undefined,
  };
  #last = Number.NEGATIVE_INFINITY;
  #seen: [ms: number, loaded: number][] = [];

  constructor(report: (p: LoadProgress) => void, everyMs = 50) {
    this.#report = report;
    this.#everyMs = everyMs;
  }

  note(p: Partial<LoadProgress>): void {
    const before = this.#now;
    const next = { ...before, stalled: false, ...p };
    this.#now = next;
    const ms = performance.now();
    const same = next.phase === before.phase && next.stalled === before.stalled;
    if (same && ms - this.#last < this.#everyMs && next.loaded !== next.total) return;
    this.#last = ms;
    // Bytes of another phase count anew.
    if (next.phase !== before.phase) this.#seen = [];
    this.#seen.push([ms, next.loaded]);
    while (this.#seen.length > 2 && ms - this.#seen[1]![0] > WINDOW_MS) this.#seen.shift();
    const [since, loaded] = this.#seen[0]!;
    next.bytesPerS = ms > since ? ((next.loaded - loaded) / (ms - since)) * 1000 : 0;
    next.secondsLeft = next.total && next.bytesPerS ? (next.total - next.loaded) / next.bytesPerS : undefined;
    this.#report(next);
  }
}
