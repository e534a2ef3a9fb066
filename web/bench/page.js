// What the bench calls in the page; everything goes through the built package.
// @ts-expect-error: only the server knows this path
import { createEngine } from "/dist/index.js";

/** @type {any} */ (globalThis).bench = {
  /**
   * Loads a model and measures `reps` answers of `tg` tokens to prompts of `pp` tokens, no two alike.
   * @param {{ model: string, backend: string, pp: number, tg: number, reps: number }} options
   */
  async run({ model, backend, pp, tg, reps }) {
    const start = performance.now();
    const engine = await createEngine({ model, backend, contextLength: pp + tg });
    const load_ms = performance.now() - start;
    const before = await engine.stats();
    const runs = [];
    for (let rep = 0; rep < reps; rep++) {
      // The first token differs, so nothing of the answer before can be used again.
      const ids = Array.from({ length: pp }, (_, i) => 100 + rep + ((i * 7919) % 10007));
      for await (const piece of engine.generate(ids, { temperature: 0, max_tokens: tg, ignore_eos: true })) {
        if (piece.kind === "done") runs.push(piece.usage);
      }
    }
    const after = await engine.stats();
    engine.dispose();
    return { info: engine.info, load_ms, runs, before, after };
  },
};
