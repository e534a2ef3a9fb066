// What the bench calls in wllama's page, on the CPU: its WebGPU needs shader-f16.
import { Wllama } from "/wllama/index.js";
import { Clock, DEPTH, words } from "./words.js";

/** @type {Wllama} */
let engine;

globalThis.bench = {
  async load({ model, threads, contextLength }) {
    const clock = new Clock();
    engine = new Wllama({ default: "/wllama/wasm/wllama.wasm" }, { suppressNativeLog: true });
    await engine.loadModelFromUrl(new URL(model, location.href).href, {
      useCache: false,
      n_threads: threads,
      n_gpu_layers: 0,
      n_ctx: contextLength,
      n_parallel: 1,
    });
    clock.token();
    return { loadMs: clock.last - clock.start, threads: engine.getNumThreads(), what: "", backend: "cpu" };
  },

  async first({ model, cold }) {
    engine = new Wllama({ default: "/wllama/wasm/wllama.wasm" }, { suppressNativeLog: true });
    if (cold) await engine.cacheManager.clear();
    const clock = new Clock();
    const options = { useCache: true, n_gpu_layers: 0, n_ctx: 512, n_parallel: 1 };
    await engine.loadModelFromUrl(new URL(model, location.href).href, options);
    clock.token();
    await engine.createCompletion({
      prompt: "Hello",
      max_tokens: 1,
      temperature: 0,
      stream: true,
      onData: () => clock.token(),
    });
    return { loadMs: clock.first - clock.start, firstMs: clock.last - clock.start };
  },

  async run({ depth, length, tokens, seed }) {
    const clock = new Clock();
    /** @type {import("/wllama/index.js").Timings | undefined} */
    let timings;
    await engine.createCompletion({
      prompt: words(depth, DEPTH) + words(length, seed),
      max_tokens: tokens,
      temperature: 0,
      top_k: 1,
      ignore_eos: true,
      cache_prompt: depth > 0,
      timings_per_token: true,
      stream: true,
      onData(chunk) {
        clock.token();
        timings = chunk.timings ?? timings;
      },
    });
    if (!timings) throw new Error("the answer has no timings");
    return clock.speeds(timings.cache_n, timings.prompt_n, timings.predicted_n);
  },
};
