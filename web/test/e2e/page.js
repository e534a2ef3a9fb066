// What the tests call in the page; everything goes through the built package.
// @ts-expect-error: only the server knows this path
import { canRun, capabilities, createEngine } from "/dist/index.js";
// @ts-expect-error: only the server knows this path
import * as testing from "/dist/testing.js";

/** @type {any} */
let engine;

/**
 * Makes the page start workers from these addresses, in order, where they are not empty. Returns what ends it.
 * @param {string[]} urls
 */
function starting(urls) {
  const { Worker } = globalThis;
  let made = 0;
  globalThis.Worker = class extends Worker {
    /** @param {string | URL} url @param {WorkerOptions} [options] */
    constructor(url, options) {
      super(urls[Math.min(made++, urls.length - 1)] || url, options);
    }
  };
  return () => {
    globalThis.Worker = Worker;
  };
}

globalThis.e2e = {
  capabilities,
  canRun,
  shaderSources: testing.shaderSources,

  /**
   * Loads a model in place of the one before. `from` imports the package from another address; `workers` are scripts
   * that the page's workers get, in order, where they are not empty. @param {any} options
   */
  async load(options) {
    engine?.dispose();
    engine = undefined;
    const phases = /** @type {string[]} */ ([]);
    let last;
    let stalled = false;
    const onProgress = (/** @type {any} */ p) => {
      stalled ||= p.stalled;
      if (phases.at(-1) !== p.phase) phases.push(p.phase);
      last = p;
    };
    const { stopAfterMs, from, workers, ...rest } = options;
    const ours = options.kernels ? testing.createEngine : createEngine;
    const create = from ? (await import(from)).createEngine : ours;
    const end = workers && starting(workers);
    try {
      engine = await create({
        ...rest,
        onProgress,
        ...(stopAfterMs !== undefined && { signal: AbortSignal.timeout(stopAfterMs) }),
      });
    } finally {
      end?.();
    }
    return { info: engine.info, phases, last, stalled };
  },

  /** Loads a model as a file that the user chose. @param {string} url @param {any} options */
  async loadFile(url, options) {
    const blob = await (await fetch(url)).blob();
    return globalThis.e2e.load?.({ ...options, model: new File([blob], "model.gguf") });
  },

  stats: () => engine.stats(),
  profile: (/** @type {any} */ options) => engine.profile(options),
  dispose: () => engine?.dispose(),

  /** What a cache of the browser holds. @param {string} name */
  async kept(name) {
    const cache = await caches.open(name);
    const texts = (await cache.keys()).map(async (key) => (await cache.match(key))?.text());
    return Promise.all(texts);
  },
  forget: (/** @type {string} */ name) => caches.delete(name),

  /** Ids and text of a generation; `stopAfter` aborts it after so many tokens. @param {any} prompt @param {any} params */
  async generate(prompt, { stopAfter = Number.POSITIVE_INFINITY, ...params } = {}) {
    const stop = new AbortController();
    const ids = [];
    let text = "";
    let end;
    for await (const p of engine.generate(prompt, { temperature: 0, ...params, signal: stop.signal })) {
      if (p.kind === "token") ids.push(p.id);
      if (p.kind !== "prefill") text += p.text;
      if (p.kind === "done") end = { reason: p.reason, usage: p.usage };
      if (ids.length >= stopAfter) stop.abort();
    }
    return { ids, text, ...end };
  },

  /**
   * Runs a prompt and looks at the page meanwhile: the longest time between two animation frames, in ms, and how many
   * there were. @param {number[]} ids
   */
  async framesDuring(ids) {
    let [longest, frames, over] = [0, 0, false];
    const watch = (/** @type {number} */ before) => (/** @type {number} */ now) => {
      longest = Math.max(longest, now - before);
      frames++;
      if (!over) requestAnimationFrame(watch(now));
    };
    await new Promise((ready) => requestAnimationFrame(ready));
    const startedAt = performance.now();
    requestAnimationFrame(watch(startedAt));
    const answer = await globalThis.e2e.generate?.(ids, { ignoreEos: true, maxTokens: 1 });
    over = true;
    return { longest, frames, ms: performance.now() - startedAt, usage: answer?.usage };
  },

  /** Two greedy steps, the second taken back and done again, and what is refused. @param {number[]} ids */
  async steps(ids) {
    const best = (/** @type {Float32Array} */ logits) => logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
    const code = (/** @type {Promise<unknown>} */ call) =>
      call.then(
        () => "none",
        (e) => e.code,
      );
    const session = await engine.session();
    const first = best(await session.prefill(ids));
    const second = best(await session.decode(first));
    await session.rollback(ids.length);
    const again = best(await session.decode(first));
    const refused = await code(engine.generate(ids).next());
    await session.close();
    return { first, second, again, refused, closed: await code(session.decode(first)) };
  },

  /**
   * Goes back to a checkpoint: the logits of the token after it both times, and the steps that the second time took.
   * @param {number[]} ids @param {number} keep
   */
  async checkpoint(ids, keep) {
    const session = await engine.session();
    await session.prefill(ids.slice(0, keep));
    await session.checkpoint();
    const before = await session.prefill(ids.slice(keep));
    await session.rollback(keep);
    const { steps } = (await engine.stats()).counters;
    const again = await session.prefill(ids.slice(keep));
    const ran = (await engine.stats()).counters.steps - steps;
    await session.close();
    return { before: [...before], again: [...again], ran };
  },

  /** Multi-token prediction along given tokens, row by row. @param {number[]} ids @param {number[]} next */
  async mtp(ids, next) {
    const session = await engine.session();
    const rows = [];
    try {
      for (const [i, id] of ids.entries()) {
        await session.decode(id);
        rows.push([...(await session.mtp(next[i]))]);
      }
    } finally {
      await session.close();
    }
    return rows;
  },

  /** The logits after a prompt. @param {number[]} ids */
  async logits(ids) {
    const session = await engine.session();
    const logits = await session.prefill(ids);
    await session.close();
    return [...logits];
  },

  /** The code with which a generation ends when its engine goes. @param {number[]} ids */
  async disposeWhileRunning(ids) {
    const pieces = engine.generate(ids, { ignoreEos: true });
    await pieces.next();
    engine.dispose();
    try {
      for await (const _ of pieces);
    } catch (/** @type {any} */ e) {
      return e.code;
    }
  },

  /** The chunks of a streamed chat. @param {any} params */
  async chat(params) {
    const chunks = [];
    const options = { stream: true, stream_options: { include_usage: true }, temperature: 0 };
    for await (const c of await engine.chat.completions.create({ ...options, ...params })) chunks.push(c);
    return chunks;
  },

  /** Tokens of a chat that its second argument's signal stops, and how it ended. @param {any} params @param {number} ms */
  async stoppedChat(params, ms) {
    const seen = { chunks: 0, name: "", code: "", cause: "" };
    try {
      const signal = AbortSignal.timeout(ms);
      for await (const _ of await engine.chat.completions.create({ ...params, stream: true }, { signal }))
        seen.chunks++;
    } catch (/** @type {any} */ e) {
      Object.assign(seen, { name: e.name, code: e.code, cause: e.cause?.name });
    }
    return seen;
  },

  /** What becomes of calls with wrong arguments: where each was refused. */
  async wrongCalls() {
    const place = async (/** @type {() => any} */ call) => {
      try {
        await call();
        return "taken";
      } catch (/** @type {any} */ e) {
        return e.code === "invalid-argument" ? e.place : String(e);
      }
    };
    const session = await engine.session();
    const places = [];
    for (const call of [
      () => engine.generate(5),
      () => engine.generate(null),
      () => engine.generate([1, -1]),
      () => engine.generate([1.5]),
      () => engine.generate("x", { temprature: 1 }),
      () => engine.tokenize(5),
      () => engine.tokenize("x", { addSpecal: true }),
      () => engine.detokenize("12"),
      () => engine.detokenize([1], { showSpecial: 1 }),
      () => engine.render("x"),
      () => engine.render([{ role: "user", content: "x" }], {}),
      () => engine.profile({ dept: 1 }),
      () => engine.profile({ reps: 0 }),
      () => session.prefill([Number.NaN]),
      () => session.decode("5"),
      () => session.mtp(-1),
      () => session.rollback(1.5),
      () => canRun(undefined),
      () => canRun("/made/other.gguf", { backend: "cpu" }),
      () => testing.shaderSources({ wasmURL: "/" }),
      () => createEngine("/made/other.gguf"),
    ]) {
      places.push(await place(call));
    }
    await session.close();
    return places;
  },

  /** Compiles WGSL in the browser's own compiler. @param {[string, string][]} programs */
  async compile(programs) {
    const adapter = await navigator.gpu.requestAdapter();
    const device = await adapter?.requestDevice();
    if (!device) throw new Error("no adapter");
    const failed = [];
    for (const [name, code] of programs) {
      const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
      const errors = messages.filter((m) => m.type === "error").map((m) => `${m.lineNum}: ${m.message}`);
      if (errors.length) failed.push(`${name}: ${errors.join("; ")}`);
    }
    device.destroy();
    return failed;
  },

  /** The error of a call, as data. @param {() => Promise<unknown>} call */
  async failure(call) {
    try {
      return { value: await call() };
    } catch (/** @type {any} */ e) {
      return { code: e.code, place: e.place, message: e.message, name: e.name };
    }
  },
};
