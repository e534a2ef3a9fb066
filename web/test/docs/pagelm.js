// The package for blocks of the documentation: names of models that would be downloaded become those that are here, and answers
// are short.
import * as real from "/dist/index.js";
import * as promptApi from "/dist/prompt-api.js";

export * from "/dist/index.js";

/** @type {real.Engine[]} */
const made = [];

/** @param {any} model */
const here = (model) => {
  if (!/^hf:/.test(String(model))) return model;
  if (/embedding/.test(model)) return "/golden/gemma-embedding.gguf";
  return `/models/${/tools/.test(model) ? "qwen2.5-coder-0.5b-instruct-q4_k_m" : "SmolLM2-135M-Instruct.Q4_1"}.gguf`;
};

/** @param {real.EngineOptions} options */
export async function createEngine(options) {
  const engine = await real.createEngine({ ...options, backend: "cpu", model: here(options.model) });
  made.push(engine);
  const chat = /** @type {any} */ (engine.chat.completions);
  const { create } = chat;
  chat.create = (/** @type {object} */ params, /** @type {any} */ more) =>
    create({ max_tokens: 24, temperature: 0, ...params }, more);
  return engine;
}

/** @param {real.ModelRef} model @param {real.CanRunOptions} options */
export const canRun = (model, options = {}) => real.canRun(here(model), { ...options, backend: "cpu" });

/** @type {typeof real.models} */
export const models = new Proxy(real.models, {
  get: (all, name) => {
    const of = /** @type {any} */ (all)[name];
    return typeof of === "function"
      ? (/** @type {any[]} */ model, /** @type {any[]} */ ...rest) => of(here(model), ...rest)
      : of;
  },
});

/** @param {promptApi.PromptApiOptions} options */
const onHere = (options) => ({ ...options, create: createEngine, canRun, unloadAfterS: 0 });
/** @type {typeof promptApi.languageModel} */
export const languageModel = (options) => promptApi.languageModel(onHere(options));
/** @type {typeof promptApi.polyfill} */
export const polyfill = (options) => promptApi.polyfill(onHere(options));

/** Leaves it to the page. @param {real.Engine} engine */
export function keep(engine) {
  made.splice(made.indexOf(engine), 1);
  return engine;
}

/** Ends the engines that a block made. */
export function disposeAll() {
  for (const engine of made.splice(0)) engine.dispose();
}
