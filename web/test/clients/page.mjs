// The flows in a page, bundled with the clients; the package comes from where a page would load it.
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
    return flows[name]?.({ baseURL: "http://pagelm.local/v1", fetch: engine.fetch });
  },
  /** Texts as vectors, by clients and by the engine itself. @param {string[]} texts */
  async embed(texts) {
    if (!engine) throw new Error("no model was loaded");
    const { embeddings } = await engine.embed(texts);
    const own = embeddings.map((vector) => [...vector]);
    return { own, ...(await embedded({ baseURL: "http://pagelm.local/v1", fetch: engine.fetch }, texts)) };
  },
};

/** @typedef {typeof page} Page */
Object.assign(globalThis, { clients: page });
