// What the bench calls in pagelm's page; everything goes through the built package.
import { createEngine, models } from "/dist/index.js";
import { Clock, words } from "./words.js";

/** @type {import("pagelm").Engine} */
let engine;

globalThis.bench = {
  async load(options) {
    const clock = new Clock();
    engine = await createEngine(options);
    clock.token();
    const { threads } = await engine.stats();
    const { backend, adapter, wasm } = engine.info;
    return { loadMs: clock.last - clock.start, threads, what: adapter?.name ?? wasm.build, backend };
  },

  async plain({ model }) {
    const clock = new Clock();
    const reader = (await fetch(model)).body?.getReader();
    while (!(await reader?.read())?.done);
    clock.token();
    return clock.last - clock.start;
  },

  async first({ model, backend, cold }) {
    if (cold) for (const stored of await models.list()) await models.delete(stored.model);
    const clock = new Clock();
    const engine = await createEngine({ model, backend, contextLength: 512 });
    clock.token();
    for await (const p of engine.generate("Hello", { temperature: 0, maxTokens: 1, ignoreEos: true })) {
      if (p.kind === "token") clock.token();
    }
    return { loadMs: clock.first - clock.start, firstMs: clock.last - clock.start };
  },

  async run({ length, tokens, seed }) {
    const params = { temperature: 0, maxTokens: tokens, ignoreEos: true };
    const before = await engine.stats();
    const clock = new Clock();
    /** @type {import("pagelm").GenerateUsage | undefined} */
    let usage;
    for await (const piece of engine.generate(words(length, seed), params)) {
      if (piece.kind === "token") clock.token();
      if (piece.kind === "done") usage = piece.usage;
    }
    const after = await engine.stats();
    // Prefill steps are few; what is counted is nearly all decoding.
    const steps = after.counters.steps - before.counters.steps;
    const per = (/** @type {keyof typeof after.counters} */ key) =>
      (after.counters[key] - before.counters[key]) / steps;
    if (!usage) throw new Error("the answer did not end");
    return {
      ...clock.speeds(usage.promptTokens, usage.completionTokens),
      perStep: Object.fromEntries(
        /** @type {const} */ (["dispatches", "passes", "submits", "bytesWritten", "bytesRead", "buffers"]).map((k) => [
          k,
          per(k),
        ]),
      ),
      memory: after.memory,
      wasmBytes: after.wasmBytes,
    };
  },
};
