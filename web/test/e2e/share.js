// What the tests of tabs that share an engine call in each of them; everything goes through the built package.
import { createEngine } from "/dist/index.js";
import { tabs } from "/dist/share.js";

/** @typedef {typeof tab} Tab */
/** @typedef {{ ids: number[], text: string, end: string, code?: string, most: number, wake: () => void, done: Promise<void> }} Asked */

/** @type {import("pagelm").Engine | undefined} */
let engine;
/** @type {import("pagelm").Session | undefined} */
let session;
const asked = /** @type {Record<string, Asked>} */ ({});
const roles = /** @type {string[]} */ ([]);
const told = /** @type {string[]} */ ([]);

/** Workers that run. */
const workers = /** @type {Set<Worker>} */ (new Set());
const { Worker } = globalThis;
globalThis.Worker = class extends Worker {
  /** @param {string | URL} url @param {WorkerOptions} [options] */
  constructor(url, options) {
    super(url, options);
    workers.add(this);
  }

  /** @override */
  terminate() {
    workers.delete(this);
    super.terminate();
  }
};

function loaded() {
  if (!engine) throw new Error("no model was loaded");
  return engine;
}

/** What came of a request until now. @param {string} name */
function seen(name) {
  const { ids, text, end, code } = /** @type {Asked} */ (asked[name]);
  return { ids, text, end, code };
}

const best = (/** @type {Float32Array} */ logits) => logits.indexOf(Math.max(...logits));

const tab = {
  /** @param {Partial<import("pagelm").EngineOptions> & { alone?: boolean }} options */
  async load({ alone, ...options }) {
    engine?.dispose();
    const share = alone ? {} : { share: tabs({ onRole: (role) => roles.push(role) }) };
    const onRecover = (/** @type {import("pagelm").Recovery} */ { phase, error }) =>
      told.push(`${phase} ${error.code}`);
    const all = { activations: "f32", kvType: "f32", backend: "cpu", onRecover, ...share, ...options };
    engine = await createEngine(/** @type {import("pagelm").EngineOptions} */ (all));
    return engine.info;
  },

  /** How often this tab came to have the engine or to use another's, what it was told of losses, and its workers. */
  state: () => ({ roles, told, workers: workers.size, ended: engine?.ended?.code }),

  dispose: () => engine?.dispose(),

  terminate() {
    for (const worker of [...workers]) worker.terminate();
  },

  /**
   * Begins a generation, or a stream of completions for `api`, and takes so many of its tokens.
   * @param {string} name @param {number[]} prompt @param {import("pagelm").GenerateParams} params
   */
  ask(name, prompt, params, most = Number.POSITIVE_INFINITY, api = false) {
    /** @type {Asked} */
    const own = { ids: [], text: "", end: "", most, wake: () => {}, done: Promise.resolve() };
    asked[name] = own;
    const more = async () => {
      while (own.ids.length >= own.most)
        await new Promise((go) => {
          own.wake = () => go(undefined);
        });
    };
    const generate = async () => {
      for await (const p of loaded().generate(prompt, params)) {
        if (p.kind === "token") own.ids.push(p.id);
        if (p.kind !== "prefill") own.text += p.text;
        if (p.kind === "done") own.end = p.reason;
        await more();
      }
    };
    const complete = async () => {
      const { maxTokens = 1, temperature = 0, seed = 0 } = params;
      const body = { prompt, max_tokens: maxTokens, temperature, seed, ignore_eos: true, stream: true };
      const response = await loaded().fetch("http://page/v1/completions", {
        method: "POST",
        body: JSON.stringify(body),
      });
      for await (const bytes of /** @type {any} */ (response.body)) {
        own.text += new TextDecoder().decode(bytes).replace(/"id":"[^"]*"|"created":\d+/g, "");
        own.ids.push(own.ids.length);
        await more();
      }
      own.end = "whole";
    };
    own.done = (api ? complete() : generate()).catch((e) => {
      own.code = `${e.code} ${e.message}`;
    });
  },

  seen,

  /** Takes more tokens of it. @param {string} name @param {number} most */
  go(name, most = Number.POSITIVE_INFINITY) {
    const own = /** @type {Asked} */ (asked[name]);
    own.most = most;
    own.wake();
  },

  /** What came of a request in the end. @param {string} name */
  async finish(name) {
    tab.go(name);
    await asked[name]?.done;
    return seen(name);
  },

  /** Opens a session on tokens: the likeliest next one. @param {number[]} prompt */
  async openSession(prompt) {
    session = await loaded().session();
    return best(await session.prefill(prompt));
  },

  /** A session that goes on from a snapshot of the one before: what it says next. @param {number} token */
  async restored(token) {
    const snapshot = await /** @type {import("pagelm").Session} */ (session).snapshot();
    const other = await loaded().session({ restore: snapshot });
    const fork = await other.fork();
    const next = [best(await fork.decode(token)), best(await other.decode(token))];
    await fork.close();
    await other.close();
    return next;
  },

  /** What a session says after a token, or the error. @param {number} token */
  decode: (token) =>
    /** @type {import("pagelm").Session} */ (session).decode(token).then(best, (e) => `${e.code}: ${e.message}`),
};
Object.assign(globalThis, { tab });
