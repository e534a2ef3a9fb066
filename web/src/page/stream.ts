// Running generations as an async iterator. The worker may be some pieces ahead; a consumer that stops taking them
// pauses the engine, and one that leaves the loop ends the generation.

import type { PagelmError } from "../shared/errors.ts";
import type { Prompt, WireParams } from "../shared/protocol.ts";
import type { GenerateParams, Piece } from "../shared/types.ts";
import type { Client } from "./client.ts";

/** How many pieces the worker may be ahead. */
const AHEAD = 32;

/** One generation for each of the parameters, each piece with the index of its own. Starts when it is first iterated. */
export async function* generateAll(
  client: Client,
  prompt: Prompt,
  all: WireParams[],
  signal: AbortSignal | null | undefined,
): AsyncGenerator<[index: number, piece: Piece], void, void> {
  const queue: [number, Piece][] = [];
  let state: "running" | "done" | { error: PagelmError } = "running";
  let wake: (() => void) | null = null;
  const requests = all.map((params, index) => {
    const onPiece = (piece: Piece) => {
      queue.push([index, piece]);
      wake?.();
    };
    return { taken: 0, ...client.start("generate", { prompt, params, credit: AHEAD }, { signal, onPiece }) };
  });
  Promise.all(requests.map(({ result }) => result))
    .then(
      () => {
        state = "done";
      },
      (error: PagelmError) => {
        state = { error };
      },
    )
    .finally(() => wake?.());
  try {
    for (;;) {
      // After an abort the remaining pieces are dropped.
      if (signal?.aborted) queue.length = 0;
      const next = queue.shift();
      if (next) {
        const request = requests[next[0]]!;
        if (++request.taken % (AHEAD / 2) === 0) request.credit(AHEAD / 2);
        yield next;
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
    for (const request of requests) request.abort();
  }
}

/** One generation alone. */
export async function* generate(
  client: Client,
  prompt: Prompt,
  params: WireParams,
  signal: AbortSignal | null | undefined,
): AsyncGenerator<Piece, void, void> {
  for await (const [, piece] of generateAll(client, prompt, [params], signal)) yield piece;
}

/** Parameters in the engine's form: without undefined or null, and always with a seed. */
export function wireParams({
  stop,
  maxTokens,
  ignoreEos,
  speculate,
  logprobs,
  grammar,
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
    logprobs,
    grammar,
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
