// A `LanguageModel` over engines that answer as a script says.
import assert from "node:assert/strict";
import { loader } from "./scripted.mjs";
import { source } from "./source.mjs";
import { untyped } from "./untyped.mjs";

export const api = await source("prompt-api.ts");
const { languageModel } = api;

// Browsers have it.
globalThis.ProgressEvent ??= untyped(
  class extends Event {
    constructor(/** @type {string} */ type, /** @type {ProgressEventInit} */ { loaded, total } = {}) {
      super(type);
      Object.assign(this, { loaded, total });
    }
  },
);

/** @typedef {import("./scripted.mjs").Answer} Answer */

export const USER = (/** @type {string} */ content) => ({ role: /** @type {const} */ ("user"), content });
export const SYSTEM = { role: /** @type {const} */ ("system"), content: "You are a robot" };

/** `LanguageModel`, and what loads it. @param {...Answer} answers */
export function model(...answers) {
  const load = loader(...answers);
  const verdict = { ok: true, stored: false };
  const options = { model: "m.gguf", unloadAfterS: 0, create: load.create, canRun: async () => verdict };
  const LanguageModel = languageModel(untyped(options));
  return { ...load, LanguageModel, verdict, asked: () => load.made.at(-1)?.asked ?? [] };
}

/** A session. @param {...Answer} answers */
export async function session(...answers) {
  const all = model(...answers);
  return { ...all, session: await all.LanguageModel.create() };
}

export const named = (/** @type {string} */ name) => (/** @type {unknown} */ e) => {
  assert.ok(e instanceof DOMException, `${e}`);
  assert.equal(e.name, name, e.message);
  return true;
};
