// What runs in the worker as an async iterator. The worker may be some pieces ahead; a consumer that stops taking them
// pauses the engine, and one that leaves the loop ends what runs.

import type { PagelmError } from "../shared/errors.ts";
import type { Operations, WireParams } from "../shared/protocol.ts";
import type { GenerateParams } from "../shared/types.ts";
import type { Client } from "./client.ts";

/** How many pieces the worker may be ahead. */
const AHEAD = 32;

type Run = "generate" | "request";
export type Pieces<K extends Run> = AsyncGenerator<Operations[K]["piece"], void, void>;

/** The pieces of a run, which starts when it is first iterated. */
export async function* pieces<K extends Run>(
  client: Client,
  op: K,
  input: Omit<Operations[K]["in"], "credit" | "replay"> & { replay?: number[] },
  signal: AbortSignal | null | undefined,
): Pieces<K> {
  const queue: Operations[K]["piece"][] = [];
  /** True, or why it failed. */
  let end: PagelmError | true | undefined;
  let taken = 0;
  let wake = () => {};
  const onPiece = (piece: Operations[K]["piece"]) => {
    queue.push(piece);
    wake();
  };
  const request = client.start(op, { replay: [], ...input, credit: AHEAD } as unknown as Operations[K]["in"], {
    signal,
    onPiece,
  });
  request.result
    .then(
      () => true as const,
      (error: PagelmError) => error,
    )
    .then((how) => {
      end = how;
      wake();
    });
  try {
    for (;;) {
      // After an abort the remaining pieces are dropped.
      if (signal?.aborted) queue.length = 0;
      const next = queue.shift();
      if (next) {
        if (++taken % (AHEAD / 2) === 0) request.credit(AHEAD / 2);
        yield next;
        continue;
      }
      const how = end as PagelmError | true | undefined;
      if (how === true) return;
      if (how) throw how;
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
