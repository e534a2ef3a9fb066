// A running generation as an async iterator. The worker may be some pieces ahead; a consumer that stops taking them
// stops the engine, and one that leaves the loop ends the generation.

import type { PagelmError } from "../shared/errors.ts";
import type { Prompt, WireParams } from "../shared/protocol.ts";
import type { GenerateParams, Piece } from "../shared/types.ts";
import type { Client } from "./client.ts";

/** Pieces that the worker may be ahead. */
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
      // Who stopped the generation wants no more of it.
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

/** Parameters as the engine takes them: nothing undefined, and a seed in any case. */
export function wireParams(p: GenerateParams): WireParams {
  const sampler = {
    temperature: p.temperature,
    top_p: p.top_p,
    top_k: p.top_k,
    min_p: p.min_p,
    repeat_penalty: p.repeat_penalty,
    presence_penalty: p.presence_penalty,
    frequency_penalty: p.frequency_penalty,
    penalty_last_n: p.penalty_last_n,
    seed: p.seed ?? crypto.getRandomValues(new Uint32Array(1))[0],
    logit_bias: p.logit_bias && Object.entries(p.logit_bias).map(([id, bias]) => [Number(id), bias]),
  };
  const stop = typeof p.stop === "string" ? [p.stop] : p.stop;
  return defined({ max_tokens: p.max_tokens, sampler: defined(sampler), stop, ignore_eos: p.ignore_eos });
}

function defined(o: Record<string, unknown>): WireParams {
  return Object.fromEntries(Object.entries(o).filter(([, value]) => value !== undefined && value !== null));
}
