// How fast tokens come, and what the engine holds, over the last minute.
import { signal } from "@preact/signals";
import type { EngineMemory } from "pagelm";

export interface Sample {
  /** In seconds, as the plot wants them. */
  at: number;
  tokensPerS: number;
}

/** Of the last minute, one a half second while answers come. */
export const samples = signal<Sample[]>([]);
export const memory = signal<EngineMemory | null>(null);

const WINDOW = 60;
const EVERY = 0.5;
let since = 0;
let count = 0;

export function record(tokensPerS: number): void {
  const at = performance.now() / 1000;
  samples.value = [...samples.value.filter((s) => s.at > at - WINDOW), { at, tokensPerS }];
  since = at;
  count = 0;
}

/** A piece of an answer came. */
export function tokens(): void {
  const at = performance.now() / 1000;
  if (at - since > 3) {
    since = at;
    count = 0;
  }
  count += 1;
  if (at - since >= EVERY) record(count / (at - since));
}
