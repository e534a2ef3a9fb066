// The flows in a page, bundled with the clients; the package comes from where a page would load it.
import { languageModel } from "pagelm/prompt-api";
import { embedded, flows } from "./flows.mjs";

/** @type {import("pagelm").Engine | undefined} */
let engine;

const page = {
  /** Loads a model in place of the one before. @param {import("pagelm").EngineOptions} options */
  async load(options) {
    engine?.dispose();
    const { createEngine } = await import(String("/dist/index.js"));
    engine = await createEngine(options);
  },
  /** What a flow gives on the engine. @param {string} name */
  async run(name) {
    if (!engine) throw new Error("no model was loaded");
    return flows[name]?.({ baseURL: "http://pagelm.local/v1", fetch: engine.fetch, llm: engine });
  },
  /** Texts as vectors, by clients and by the engine itself. @param {string[]} texts */
  async embed(texts) {
    if (!engine) throw new Error("no model was loaded");
    const { embeddings } = await engine.embed(texts);
    const own = embeddings.map((vector) => [...vector]);
    const door = { baseURL: "http://pagelm.local/v1", fetch: engine.fetch, llm: engine };
    return { own, ...(await embedded(door, texts)) };
  },
  /** What a page does with the browsers' Prompt API, on a model that is loaded for it. @param {string} model */
  async prompt(model) {
    engine?.dispose();
    engine = undefined;
    const { canRun, createEngine } = await import(String("/dist/index.js"));
    const options = { model, cache: false, backend: /** @type {const} */ ("cpu"), unloadAfterS: 0 };
    const LanguageModel = languageModel({ ...options, contextLength: 256, create: createEngine, canRun });
    const availability = await LanguageModel.availability();
    const progress = /** @type {number[]} */ ([]);
    const session = await LanguageModel.create({
      samplingMode: "most-predictable",
      initialPrompts: [{ role: "system", content: "You are a helpful assistant. Answer briefly." }],
      monitor: (m) =>
        m.addEventListener("downloadprogress", (e) => void progress.push(/** @type {ProgressEvent} */ (e).loaded)),
    });
    const started = session.contextUsage;
    const question = "What is the capital of France?";
    const measured = await session.measureContextUsage(question);
    const clone = await session.clone();
    const answer = await session.prompt(question);
    const used = session.contextUsage;
    let streamed = "";
    for await (const text of /** @type {any} */ (clone.promptStreaming(question))) streamed += text;
    const responseConstraint = {
      type: "object",
      properties: { inhabitants: { type: "integer" } },
      required: ["inhabitants"],
    };
    const json = JSON.parse(await session.prompt("How many people live there?", { responseConstraint }));
    const word = await clone.prompt("Is it in Europe?", { responseConstraint: /^(yes|no)$/ });
    const stop = new AbortController();
    const aborted = session.prompt("Write a long poem.", { signal: stop.signal });
    setTimeout(() => stop.abort(), 300);
    const reason = await aborted.then(String, (e) => e.name);
    let overflows = 0;
    session.oncontextoverflow = () => void overflows++;
    await session.append("word ".repeat(180));
    const window = session.contextWindow;
    const quota = await session.prompt("word ".repeat(400)).then(String, (e) => [e.name, e.requested > e.quota]);
    session.destroy();
    const destroyed = await session.prompt("Hi").then(String, (e) => e.name);
    clone.destroy();
    const { loaded, counts } = { loaded: [progress[0], progress.at(-1)], counts: { started, measured, used, window } };
    return { availability, loaded, counts, answer, streamed, json, word, reason, overflows, quota, destroyed };
  },
};

/** @typedef {typeof page} Page */
Object.assign(globalThis, { clients: page });
