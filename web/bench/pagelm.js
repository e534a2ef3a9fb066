// What the bench calls in pagelm's page; everything goes through the built package.
import { createEngine, models, PagelmError } from "/dist/index.js";
import { Clock, DEPTH, words } from "./words.js";

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

  async first({ model, backend, cold, sha256 }) {
    if (cold) for (const stored of await models.list()) await models.delete(stored.model);
    const clock = new Clock();
    const engine = await createEngine({ model, backend, contextLength: 512, ...(sha256 && { sha256 }) });
    clock.token();
    for await (const p of engine.generate("Hello", { temperature: 0, maxTokens: 1, ignoreEos: true })) {
      if (p.kind === "token") clock.token();
    }
    return { loadMs: clock.first - clock.start, firstMs: clock.last - clock.start };
  },

  async sequences({ model, threads, length, tokens, seed }) {
    engine ??= await createEngine({
      model,
      threads,
      backend: "cpu",
      contextLength: length + 512,
      cacheTokens: 4 * (length + 512),
      sequences: 4,
      drafts: 7,
    });
    const greedy = { temperature: 0, ignoreEos: true };
    /** @param {string | ArrayLike<number>} prompt @param {import("pagelm").GenerateParams} params */
    const answer = async (prompt, params) => {
      const ids = [];
      for await (const piece of engine.generate(prompt, { ...greedy, ...params })) {
        if (piece.kind === "token") ids.push(piece.id);
        if (piece.kind === "done") return { ids, usage: piece.usage };
      }
      throw new Error("the answer did not end");
    };
    const together = [];
    for (const n of [1, 2, 4]) {
      const prompts = Array.from({ length: n }, (_, i) => words(64, seed * 64 + n * 8 + i));
      const ends = await Promise.all(prompts.map((prompt) => answer(prompt, { maxTokens: tokens })));
      together.push(ends.reduce((sum, { usage }) => sum + usage.decodeTokensPerS, 0));
    }
    const prompt = [...(await engine.tokenize(words(length, seed), { addSpecial: true }))];
    const first = await answer(prompt, { maxTokens: 32 });
    const more = await engine.tokenize(words(16, seed + 1));
    const next = await answer([...prompt, ...first.ids, ...more], { maxTokens: 1 });
    const clock = new Clock();
    const session = await engine.session();
    await session.prefill(prompt);
    clock.token();
    const prefillMs = clock.last - clock.start;
    const snapshot = await session.snapshot();
    await session.close();
    const again = new Clock();
    const restored = await engine.session({ restore: snapshot });
    again.token();
    await restored.close();
    // A page that is edited: most of the answer is in the prompt.
    const text = words(96, seed + 3);
    const edit = `${text}\n\n${text}\n\n${text.slice(0, 40)}`;
    const plain = await answer(edit, { maxTokens: tokens });
    const proposed = await answer(edit, { maxTokens: tokens, speculate: { proposer: "lookup" } });
    if (plain.ids.join() !== proposed.ids.join()) throw new Error("proposals changed the answer");
    return {
      together,
      firstMs: first.usage.timeToFirstTokenMs,
      nextMs: next.usage.timeToFirstTokenMs,
      prefillMs,
      restoreMs: again.last - again.start,
      plain: plain.usage.decodeTokensPerS,
      proposed: proposed.usage.decodeTokensPerS,
    };
  },

  async grammars({ model, threads, schemas, tokens }) {
    engine ??= await createEngine({ model, threads, backend: "cpu", contextLength: 512 });
    // A step of the model is in it: the last token of a prompt runs each time.
    const begin = async (/** @type {object | undefined} */ jsonSchema) => {
      const start = performance.now();
      for await (const _ of engine.generate("x", { ...(jsonSchema && { grammar: { jsonSchema } }), maxTokens: 0 }));
      return performance.now() - start;
    };
    // The first steps of a page run in code that the browser has not optimised yet.
    for (let i = 0; i < 10; i++) await begin(undefined);
    const begins = [];
    let refused = 0;
    for (const jsonSchema of schemas) {
      const plain = await begin(undefined);
      try {
        begins.push({ plain, held: await begin(jsonSchema) });
      } catch (error) {
        if (!(error instanceof PagelmError) || error.code !== "bad-grammar") throw error;
        refused++;
      }
    }
    // An answer that never ends by itself.
    const item = { type: "object", properties: { name: { type: "string" }, text: { type: "string" } } };
    const held = { type: "array", minItems: 99, items: { ...item, required: ["name", "text"] } };
    const speeds = [];
    for (const grammar of [null, { jsonSchema: held }]) {
      const params = { temperature: 0, maxTokens: tokens, ignoreEos: !grammar, grammar };
      for await (const piece of engine.generate("The books in the shop, as JSON:\n", params)) {
        if (piece.kind === "done") speeds.push(piece.usage.decodeTokensPerS);
      }
    }
    return { begins, refused, plain: speeds[0] ?? 0, held: speeds[1] ?? 0 };
  },

  async frames({ model, mmproj, backend, threads, idleMs }) {
    const engine = await createEngine({ model, mmproj, backend, threads, cache: false });
    const canvas = new OffscreenCanvas(512, 512);
    const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
    for (let i = 0; i < 4096; i++) {
      context.fillStyle = `hsl(${(i * 137) % 360} 80% ${20 + ((i * 61) % 60)}%)`;
      context.fillRect((i % 64) * 8, (i >> 6) * 8, 8, 8);
    }
    const image = await canvas.convertToBlob();
    /** Gaps between frames while something runs. @param {() => Promise<unknown>} run */
    const during = async (run) => {
      const gaps = /** @type {number[]} */ ([]);
      let last = Number.NaN;
      const frame = (/** @type {number} */ now) => {
        if (!Number.isNaN(last)) gaps.push(now - last);
        last = now;
        next = requestAnimationFrame(frame);
      };
      let next = requestAnimationFrame(frame);
      await run();
      cancelAnimationFrame(next);
      return gaps;
    };
    const idle = await during(() => new Promise((done) => setTimeout(done, idleMs)));
    const parts = /** @type {number[]} */ ([]);
    const begin = performance.now();
    const content = [
      { type: /** @type {const} */ ("image_url"), image_url: { url: image } },
      { type: /** @type {const} */ ("text"), text: "What is this?" },
    ];
    let last = begin;
    const params = {
      max_tokens: 1,
      onPrefill: (/** @type {{ phase?: string }} */ progress) => {
        if (progress.phase !== "image") return;
        parts.push(performance.now() - last);
        last = performance.now();
      },
    };
    const encoding = await during(() =>
      engine.chat.completions.create({ messages: [{ role: "user", content }], ...params }),
    );
    const seconds = (performance.now() - begin) / 1000;
    const { name } = engine.info.adapter ?? { name: engine.info.wasm.build };
    await engine.dispose();
    // The first part comes after decoding and resizing.
    return { what: name, idle, encoding, parts: parts.slice(1), seconds };
  },

  async run({ depth, length, tokens, seed }) {
    const params = { temperature: 0, maxTokens: tokens, ignoreEos: true };
    const before = await engine.stats();
    const clock = new Clock();
    /** @type {import("pagelm").GenerateUsage | undefined} */
    let usage;
    for await (const piece of engine.generate(words(depth, DEPTH) + words(length, seed), params)) {
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
      ...clock.speeds(usage.cachedTokens, usage.promptTokens - usage.cachedTokens, usage.completionTokens),
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
