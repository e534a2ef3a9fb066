// A running generation as an async iterator. The worker may be some pieces ahead; a consumer that stops taking them
// pauses the engine, and one that leaves the loop ends the generation.

import type { PagelmError } from "../shared/errors.ts";
import type { Prompt, WireParams } from "../shared/protocol.ts";
import type { GenerateParams, Piece } from "../shared/types.ts";
import type { Client } from "./client.ts";

/** How many pieces the worker may be ahead. */
const AHEAD = 32;

/** Starts when it is first iterated. */
export async function* generate(
  client: Client,
  prompt: Prompt,
  params: WireParams,
  signal: AbortSignal | null | undefined,
): AsyncGenerator<Piece, void, void> {
  const queue: Piece[] = [];
  let state: "running" | "done" | { error: PagelmError } = "running";
  let wake: (() => void) | null = null;
  const onPiece = (piece: Piece) => {
    queue.push(piece);
    wake?.();
  };
  const request = client.start("generate", { prompt, params, credit: AHEAD }, { signal, onPiece });
  request.result
    .then(
      () => {
        state = "done";
      },
      (error: PagelmError) => {
        state = { error };
      },
    )
    .finally(() => wake?.());
  let taken = 0;
  try {
    for (;;) {
      // After an abort the remaining pieces are dropped.
      if (signal?.aborted) queue.length = 0;
      const piece = queue.shift();
      if (piece) {
        if (++taken % (AHEAD / 2) === 0) request.credit(AHEAD / 2);
        yield piece;
        continue;
      }
      const now = state as "running" | "done" | { error: PagelmError };
      if (now === "done") return;
      if (now !== "running") throw now.error;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  } finally {
    request.abort();
  }
}

/** Parameters in the engine's form: without undefined or null, and always with a seed. */
export function wireParams({
  stop,
  maxTokens,
  ignoreEos,
  speculate,
  signal: _,
  logitBias,
  ...sampling
}: GenerateParams): WireParams {
  const seed = sampling.seed ?? crypto.getRandomValues(new Uint32Array(1))[0]!;
  const bias = logitBias && Object.entries(logitBias).map(([id, bias]) => [Number(id), bias] as [number, number]);
  return defined({
    maxTokens,
    ignoreEos,
    speculate,
    stop: typeof stop === "string" ? [stop] : stop,
    sampler: defined({ ...sampling, seed, logitBias: bias }),
  });
}

type Defined<T> = { [K in keyof T as undefined extends T[K] ? never : null extends T[K] ? never : K]: T[K] } & {
  [K in keyof T]?: NonNullable<T[K]>;
};

function defined<T extends object>(o: T): Defined<T> {
  return Object.fromEntries(Object.entries(o).filter(([, value]) => value != null)) as Defined<T>;
}
