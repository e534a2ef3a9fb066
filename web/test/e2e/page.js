// What the tests call in the page; everything goes through the built package.
import { canRun, capabilities, createEngine, models } from "/dist/index.js";
import { tabs } from "/dist/share.js";
import * as testing from "/dist/testing.js";
import { soak } from "./soak.js";

/**
 * @typedef {import("pagelm/testing").TestOptions} Test
 * @typedef {{ [K in keyof Test]?: Test[K] | undefined } & { stopAfterMs?: number, stopAfterBytes?: number, from?: string, workers?: string[], shared?: boolean }} Load
 * @typedef {Omit<import("pagelm").ChatParams, "stream">} Chat
 * @typedef {typeof e2e} E2E
 */

/** @type {import("pagelm").Engine | undefined} */
let engine;

/** One that has what the other uses. @type {import("pagelm").Engine | undefined} */
let host;

/** Loads that were begun. @type {Promise<{ ids: number[], source: import("pagelm").LoadSource }>[]} */
let begun = [];

/** The folder in which the package stores models. */
async function stored() {
  return (await navigator.storage.getDirectory()).getDirectoryHandle("pagelm-models");
}

/** Loads a model into an engine of its own, which answers and is gone. @param {Load} options @param {number[]} prompt */
async function answer(options, prompt) {
  const own = await createEngine(/** @type {import("pagelm").EngineOptions} */ (options));
  const ids = [];
  for await (const p of own.generate(prompt, { temperature: 0, maxTokens: 8, ignoreEos: true })) {
    if (p.kind === "token") ids.push(p.id);
  }
  own.dispose();
  return { ids, source: own.info.source };
}

/** The engine that was loaded. */
function loaded() {
  if (!engine) throw new Error("no model was loaded");
  return engine;
}

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

/**
 * Loads a model in place of the one before. `from` imports the package from another address; `workers` are scripts
 * that the page's workers get, in order, where they are not empty; for `shared` the engine is used as by another tab.
 * @param {Load} options
 */
async function load(options) {
  engine?.dispose();
  host?.dispose();
  engine = host = undefined;
  const phases = /** @type {string[]} */ ([]);
  /** @type {import("pagelm").LoadProgress | undefined} */
  let last;
  let stalled = false;
  const stop = new AbortController();
  const onProgress = (/** @type {import("pagelm").LoadProgress} */ p) => {
    stalled ||= p.stalled;
    if (phases.at(-1) !== p.phase) phases.push(p.phase);
    last = p;
    if (p.loaded >= stopAfterBytes) stop.abort();
  };
  const { stopAfterMs, stopAfterBytes = Number.POSITIVE_INFINITY, from, workers, shared, ...rest } = options;
  const ours = options.kernels ? testing.createEngine : createEngine;
  const create = from ? (await import(from)).createEngine : ours;
  const end = workers && starting(workers);
  const given = { .../** @type {import("pagelm").EngineOptions} */ (rest), ...(shared && { share: tabs() }) };
  try {
    if (shared) host = await create(given);
    engine = /** @type {import("pagelm").Engine} */ (
      await create({
        ...given,
        onProgress,
        signal: stopAfterMs === undefined ? stop.signal : AbortSignal.timeout(stopAfterMs),
      })
    );
  } finally {
    end?.();
  }
  return { info: loaded().info, phases, last, stalled };
}

/**
 * Ids and text of a generation; `stopAfter` aborts it after so many tokens.
 * @param {string | number[]} prompt @param {import("pagelm").GenerateParams & { stopAfter?: number }} params */
async function generate(prompt, { stopAfter = Number.POSITIVE_INFINITY, ...params } = {}) {
  const stop = new AbortController();
  const ids = /** @type {number[]} */ ([]);
  let text = "";
  /** @type {{ reason?: import("pagelm").StopReason, usage?: import("pagelm").GenerateUsage }} */
  let end = {};
  for await (const p of loaded().generate(prompt, { temperature: 0, ...params, signal: stop.signal })) {
    if (p.kind === "token") ids.push(p.id);
    if (p.kind !== "prefill") text += p.text;
    if (p.kind === "done") end = { reason: p.reason, usage: p.usage };
    if (ids.length >= stopAfter) stop.abort();
  }
  return { ids, text, ...end };
}

/** Workers of this page, where they are counted. @type {Worker[]} */
const workers = [];

/** Breaks the engine, whose worker is `/lossy.js`. @param {"destroy" | "trap" | "close" | "terminate"} how */
function fault(how) {
  // The engine's, and those of its threads, which have the same script.
  if (how === "terminate") {
    for (const worker of workers.splice(0)) worker.terminate();
    return;
  }
  const channel = new BroadcastChannel("faults");
  channel.postMessage(how);
  setTimeout(() => channel.close(), 1000);
}

const e2e = {
  capabilities,
  canRun,
  shaderSources: testing.shaderSources,

  load,

  /** Loads a model as a file that the user chose. @param {string} url @param {Load} options */
  async loadFile(url, options) {
    const blob = await (await fetch(url)).blob();
    return load({ ...options, model: new File([blob], "model.gguf") });
  },

  /**
   * Asks about an image in every way in which a page can have one. Each answer with the tokens of its prompt, and how many
   * images were encoded in all. @param {string} url a `data:` URL
   */
  async images(url, before = "", after = "3j?") {
    const blob = await (await fetch(url)).blob();
    const bitmap = await createImageBitmap(blob);
    const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
    context?.drawImage(bitmap, 0, 0);
    const data = /** @type {ImageData} */ (context?.getImageData(0, 0, bitmap.width, bitmap.height));
    const all = [];
    const body = (/** @type {import("pagelm").ImagePart["image_url"]["url"]} */ url) => ({
      messages: [
        {
          role: /** @type {const} */ ("user"),
          content: [
            { type: /** @type {const} */ ("text"), text: before },
            { type: /** @type {const} */ ("image_url"), image_url: { url } },
            { type: /** @type {const} */ ("text"), text: after },
          ],
        },
      ],
      temperature: 0,
      max_tokens: 8,
      ignore_eos: true,
    });
    const answered = (/** @type {import("pagelm").ChatCompletion} */ { choices: [choice], usage }) => ({
      text: choice?.message.content,
      prompt: usage?.prompt_tokens,
      cached: usage?.prompt_tokens_details.cached_tokens,
    });
    for (const from of [url, URL.createObjectURL(blob)]) {
      const init = { method: "POST", body: JSON.stringify(body(from)) };
      const answer = await (await loaded().fetch("http://page/v1/chat/completions", init)).json();
      if (answer.error) throw new Error(`${answer.error.code} at ${answer.error.param}`);
      all.push(answered(answer));
    }
    for (const image of [blob, bitmap, data]) all.push(answered(await loaded().chat.completions.create(body(image))));
    const refused = [];
    const words = /** @type {string[]} */ ([]);
    for (const wrong of ["data:image/png;base64,AAAA", new Blob(["x"]), "/nowhere.png", "attached:7"]) {
      const failed = await loaded()
        .chat.completions.create(body(wrong))
        .catch((e) => {
          words.push(e.message);
          return [e.code, e.place];
        });
      refused.push(failed);
    }
    const stop = new AbortController();
    const stopped = loaded().chat.completions.create(body(url), { signal: stop.signal });
    stop.abort();
    refused.push(await stopped.catch((e) => [e.code]));
    return { all, refused, words, encoded: (await loaded().stats()).images };
  },

  /** Answers of a model from each of these addresses, some at a time. @param {string[]} urls @param {Load} options @param {number[]} prompt */
  async answers(urls, options, prompt) {
    const left = [...urls.entries()];
    const all = /** @type {{ ids: number[], source: import("pagelm").LoadSource }[]} */ ([]);
    const some = async () => {
      for (let next = left.shift(); next; next = left.shift()) {
        all[next[0]] = await answer({ ...options, model: next[1] }, prompt);
      }
    };
    await Promise.all([some(), some(), some()]);
    return all;
  },

  /**
   * Answers of a split model from files that the user has: as a list, and as the folder with them.
   * @param {string[]} urls @param {Load} options @param {number[]} prompt
   */
  async ownFiles(urls, options, prompt) {
    const root = await navigator.storage.getDirectory();
    const folder = await root.getDirectoryHandle("own", { create: true });
    const list = [];
    for (const url of urls) {
      const name = url.split("/").pop() ?? "";
      const blob = await (await fetch(url)).blob();
      const to = await (await folder.getFileHandle(name, { create: true })).createWritable();
      await to.write(blob);
      await to.close();
      list.push(new File([blob], name));
    }
    const all = [];
    for (const model of [list, folder]) all.push((await answer({ ...options, model }, prompt)).ids);
    await root.removeEntry("own", { recursive: true });
    return all;
  },

  /** Begins to load, and returns once so many bytes came. @param {Load} options @param {number[]} prompt @param {number} bytes */
  async begin(options, prompt, bytes) {
    await new Promise((reached, failed) => {
      const onProgress = (/** @type {import("pagelm").LoadProgress} */ { loaded, phase }) => {
        if (loaded >= bytes || (bytes === 0 && phase === "waiting")) reached(undefined);
      };
      const load = answer({ ...options, onProgress }, prompt);
      load.catch(failed);
      begun.push(load);
    });
  },

  /** What became of the loads that were begun. */
  async finish() {
    const all = await Promise.all(begun);
    begun = [];
    return all;
  },

  /** Calls one of `models`. @param {"list" | "download" | "verify" | "delete" | "estimate" | "persist"} name @param {unknown[]} given */
  models: (name, ...given) => /** @type {(...given: unknown[]) => Promise<any>} */ (models[name])(...given),

  /** Exports a model, deletes it and imports it under another address: the bytes of its files. @param {string} model @param {string} other */
  async moved(model, other) {
    const files = await models.export(model);
    // What is deleted cannot be read any more.
    const copies = await Promise.all(files.map(async (f) => new File([await f.arrayBuffer()], f.name)));
    await models.delete(model);
    const { file } = await models.import(other, copies);
    return { names: files.map((f) => f.name), file };
  },

  /** Stores a model, and stops once so many bytes are there. @param {string} model @param {number} bytes */
  async pausedDownload(model, bytes) {
    const stop = new AbortController();
    try {
      await models.download(model, {
        signal: stop.signal,
        onProgress: ({ loaded }) => loaded >= bytes && stop.abort(),
      });
      return "complete";
    } catch (e) {
      return /** @type {import("pagelm").PagelmError} */ (e).code;
    }
  },

  /** Damages what is stored: flips a bit at this byte, or cuts so many bytes from the end. @param {".gguf" | ".log"} end @param {number} at */
  async damage(end, at) {
    for await (const file of (await stored()).values()) {
      if (!file.name.endsWith(end) || file.kind !== "file") continue;
      const handle = /** @type {FileSystemFileHandle} */ (file);
      const before = await handle.getFile();
      const out = await handle.createWritable({ keepExistingData: true });
      if (at < 0) await out.truncate(before.size + at);
      else {
        const [byte = 0] = new Uint8Array(await before.slice(at, at + 1).arrayBuffer());
        await out.write({ type: "write", position: at, data: Uint8Array.of(byte ^ 1) });
      }
      await out.close();
    }
  },

  /** Forgets all models that are stored. */
  async forgetModels() {
    for (const { model } of await models.list()) await models.delete(model);
  },

  /**
   * What a page's own fetch function is asked for, by all that loads: a model whose address only the function knows, and a
   * download that is stopped. @param {string} file @param {string} slow @param {Load} options @param {number[]} prompt
   */
  async ownFetch(file, slow, options, prompt) {
    const asked = /** @type {string[]} */ ([]);
    /** @param {string} path @returns {import("pagelm").FetchFunction} */
    const from = (path) => (url, init) => {
      asked.push(`${url} ${new Headers(init.headers).get("X-Token")}`);
      return fetch(path, init);
    };
    const model = "https://nowhere.invalid/own.gguf";
    const own = { headers: { "X-Token": "1" }, fetch: from(file) };
    const { ok } = await canRun(model, { ...own, wasmBuild: "base" });
    const stopped = { aborted: false };
    const stop = new AbortController();
    const code = await models
      .download(model, {
        ...own,
        signal: stop.signal,
        onProgress: ({ loaded }) => loaded > 0 && stop.abort(),
        fetch: (url, init) => {
          init.signal?.addEventListener("abort", () => {
            stopped.aborted = true;
          });
          return from(slow)(url, init);
        },
      })
      .then(
        () => "complete",
        (e) => e.code,
      );
    await models.delete(model);
    const { ids, source } = await answer({ ...options, ...own, model }, prompt);
    await models.delete(model);
    const wrong = /** @type {import("pagelm").FetchFunction} */ (/** @type {unknown} */ (async () => "text"));
    const refused = await models.download(model, { fetch: wrong }).catch((e) => `${e.code}: ${e.message}`);
    return { ok, code, stopped: stopped.aborted, ids, source, asked, refused };
  },

  stats: () => loaded().stats(),
  profile: (/** @type {Parameters<import("pagelm").Engine["profile"]>[0]} */ options) => loaded().profile(options),
  dispose: () => engine?.dispose(),
  /** What the engine holds, and then that it is gone. */
  async memoryAround() {
    const before = await loaded().memory();
    loaded().dispose();
    return { before, after: await loaded().memory() };
  },

  /**
   * What the engine of a worker like `counted.js` says that it holds on the GPU, what its devices have, and what they have
   * once it is disposed of.
   */
  async buffersAround() {
    const channel = new BroadcastChannel("buffers");
    /** @returns {Promise<{ bytes: number, destroyed: number }>} */
    const told = () =>
      new Promise((resolve) => {
        channel.onmessage = ({ data }) => resolve(data);
      });
    const { weights, cache, states, scratch, staging } = await loaded().memory();
    const { weightBytesCopied } = await loaded().stats();
    const now = told();
    channel.postMessage("now");
    const { bytes } = await now;
    const end = told();
    loaded().dispose();
    const after = await end;
    channel.close();
    return { said: { weights, cache, states, scratch, staging }, onHost: weightBytesCopied, bytes, after };
  },

  /** What a cache of the browser holds. @param {string} name */
  async kept(name) {
    const cache = await caches.open(name);
    const texts = (await cache.keys()).map(async (key) => (await cache.match(key))?.text());
    return Promise.all(texts);
  },
  forget: (/** @type {string} */ name) => caches.delete(name),

  generate,

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
    const answer = await generate(ids, { ignoreEos: true, maxTokens: 1 });
    over = true;
    return { longest, frames, ms: performance.now() - startedAt, usage: answer?.usage };
  },

  /**
   * Generations that are begun at once, the steps that they took together, and how each ended: its tokens or its error's
   * code. While the worker reads `busy` tokens, they all come, so that none begins before the others.
   * @param {{ ids: number[], params?: import("pagelm").GenerateParams & { stopAfter?: number } }[]} all @param {number} busy
   */
  async together(all, busy = 1) {
    const session = await loaded().session();
    const read = session.prefill(Array.from({ length: busy }, (_, i) => (i * 37) % 250));
    const before = loaded().stats();
    const ends = all.map(({ ids, params }) =>
      generate(ids, params).then(
        (end) => ({ ...end, code: "" }),
        (e) => ({ ids: /** @type {number[]} */ ([]), code: /** @type {string} */ (e.code), usage: undefined }),
      ),
    );
    await read;
    await session.close();
    const done = await Promise.all(ends);
    const steps = (await loaded().stats()).counters.steps - (await before).counters.steps;
    return { ends: done, steps };
  },

  /** Answers to the same messages, as a whole and streamed, and the steps that the first took. @param {Chat} params */
  async choices(params) {
    const before = (await loaded().stats()).counters.steps;
    const whole = await loaded().chat.completions.create(params);
    const steps = (await loaded().stats()).counters.steps - before;
    const texts = /** @type {string[]} */ ([]);
    const ends = /** @type {unknown[]} */ ([]);
    const stream = { stream: /** @type {const} */ (true), stream_options: { include_usage: true } };
    let usage;
    for await (const chunk of await loaded().chat.completions.create({ ...params, ...stream })) {
      for (const { index, delta, finish_reason } of chunk.choices) {
        texts[index] = (texts[index] ?? "") + (delta.content ?? "");
        if (finish_reason) ends[index] = finish_reason;
      }
      usage = chunk.usage;
    }
    return { whole, steps, streamed: { texts, ends, usage } };
  },

  /** What a page does that takes nothing of a generation's pieces while others run: their tokens. @param {number[][]} prompts */
  async besideOneThatWaits(prompts) {
    const [first, ...others] = prompts.map((ids) =>
      loaded().generate(ids, { temperature: 0, ignoreEos: true, maxTokens: 60 }),
    );
    const tokens = async (/** @type {AsyncGenerator<import("pagelm").Piece> | undefined} */ pieces) => {
      const ids = [];
      for await (const p of pieces ?? []) if (p.kind === "token") ids.push(p.id);
      return ids;
    };
    // Of the prompt: all its tokens are still to come.
    await first?.next();
    const rest = await Promise.all(others.map(tokens));
    return [await tokens(first), ...rest];
  },

  /**
   * A session beside a generation, its fork, and one from its snapshot, given whole, in a stream and damaged: the token
   * that each takes next. @param {number[]} ids @param {number[]} other
   */
  async sessions(ids, other) {
    const best = (/** @type {Float32Array} */ logits) => logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
    const code = (/** @type {Promise<unknown>} */ call) =>
      call.then(
        () => "none",
        (e) => e.code,
      );
    const running = generate(other, { ignoreEos: true, maxTokens: 12 });
    const session = await loaded().session();
    const first = best(await session.prefill(ids));
    const snapshot = await session.snapshot();
    const bytes = new Uint8Array(await snapshot.arrayBuffer());
    const fork = await session.fork();
    const opened = [
      session,
      fork,
      await loaded().session({ restore: snapshot }),
      await loaded().session({ restore: bytes }),
      await loaded().session({ restore: snapshot.stream() }),
    ];
    const profile = await code(loaded().profile());
    // Not at the same time: each must have tokens of its own.
    const seconds = [];
    for (const s of opened) seconds.push(best(await s.decode(first)));
    const flipped = bytes.slice();
    flipped[bytes.length - 100] = (flipped[bytes.length - 100] ?? 0) ^ 4;
    const damaged = [];
    for (const restore of [flipped, bytes.slice(0, -1), bytes.slice(0, 3), new Uint8Array(64)])
      damaged.push(await code(loaded().session({ restore })));
    const { held } = await loaded().stats();
    const beside = (await running).ids;
    for (const s of opened) await s.close();
    return { first, seconds, damaged, profile, beside, held, closed: (await loaded().stats()).held };
  },

  /** Vectors of prompts, given as ids, and of texts. @param {number[][]} prompts @param {string[]} texts */
  async vectors(prompts, texts) {
    const code = (/** @type {Promise<unknown>} */ call) =>
      call.then(
        () => "none",
        (e) => e.code,
      );
    const plain = (/** @type {import("pagelm").Embeddings} */ { embeddings, tokens }) => ({
      embeddings: embeddings.map((v) => [...v]),
      tokens,
    });
    const engine = loaded();
    return {
      ofIds: plain(await engine.embed(prompts)),
      ofTexts: plain(await engine.embed(texts)),
      ofOne: plain(await engine.embed(texts[0] ?? "", { dimensions: 8 })),
      ranked: await engine
        .fetch("http://pagelm.local/v1/rerank", {
          method: "POST",
          body: JSON.stringify({ model: "any", query: texts[0], documents: texts.slice(0, 5).reverse(), top_n: 2 }),
        })
        .then((r) => r.json()),
      refused: [
        await code(engine.embed("x", { dimensions: 10_000 })),
        await code(engine.embed([prompts[0] ?? [], []])),
        await code(generate(prompts[0] ?? [], {})),
        await code(engine.embed(texts, { signal: AbortSignal.abort() })),
      ],
    };
  },

  /** What is said of each token. @param {number[]} ids @param {object} params */
  async likely(ids, params) {
    const said = [];
    for await (const piece of loaded().generate(ids, { temperature: 0, ...params }))
      if (piece.kind === "token") said.push({ id: piece.id, ...piece.logprobs });
    return said;
  },

  /** Two greedy steps, the second taken back and done again, and what is refused. @param {number[]} ids */
  async steps(ids) {
    const best = (/** @type {Float32Array} */ logits) => logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
    const code = (/** @type {Promise<unknown>} */ call) =>
      call.then(
        () => "none",
        (e) => e.code,
      );
    const session = await loaded().session();
    const first = best(await session.prefill(ids));
    const second = best(await session.decode(first));
    await session.rollback(ids.length);
    const again = best(await session.decode(first));
    const refused = await code(session.rollback(ids.length + 9));
    await session.close();
    return { first, second, again, refused, closed: await code(session.decode(first)) };
  },

  /**
   * Goes back to a checkpoint: the logits of the token after it both times, and the steps that the second time took.
   * @param {number[]} ids @param {number} keep
   */
  async checkpoint(ids, keep) {
    const session = await loaded().session();
    await session.prefill(ids.slice(0, keep));
    await session.checkpoint();
    const before = await session.prefill(ids.slice(keep));
    await session.rollback(keep);
    const { steps } = (await loaded().stats()).counters;
    const again = await session.prefill(ids.slice(keep));
    const ran = (await loaded().stats()).counters.steps - steps;
    await session.close();
    return { before: [...before], again: [...again], ran };
  },

  /** Multi-token prediction along given tokens, row by row. @param {number[]} ids @param {number[]} next */
  async mtp(ids, next) {
    const session = await loaded().session();
    const rows = [];
    try {
      for (const [i, id] of ids.entries()) {
        await session.decode(id);
        rows.push([...(await session.mtp(next[i] ?? 0))]);
      }
    } finally {
      await session.close();
    }
    return rows;
  },

  /** The logits after a prompt. @param {number[]} ids */
  async logits(ids) {
    const session = await loaded().session();
    const logits = await session.prefill(ids);
    await session.close();
    return [...logits];
  },

  /** Loads a model into a worker that can be broken, and notes what is told of that. @param {Load} options */
  async loadLossy(options) {
    const { Worker } = globalThis;
    globalThis.Worker = class extends Worker {
      /** @param {string | URL} url @param {WorkerOptions} [options] */
      constructor(url, options) {
        super(url, options);
        workers.push(this);
      }
    };
    const told = /** @type {string[]} */ ([]);
    Object.assign(globalThis, { told });
    const onRecover = (/** @type {import("pagelm").Recovery} */ { phase, error }) =>
      told.push(`${phase} ${error.code}`);
    return load({ ...options, workerUrl: "/lossy.js", onRecover });
  },

  /**
   * A generation and a stream of completions, side by side, whose engine breaks after each of these numbers of tokens: what
   * came of both, and what the page was told. @param {number[]} ids @param {import("pagelm").GenerateParams} params
   * @param {Parameters<typeof fault>[0]} how @param {number[]} after
   */
  async through(ids, params, how, after) {
    const told = /** @type {{ told: string[] }} */ (/** @type {unknown} */ (globalThis)).told;
    const recovers = () => told.at(-1)?.startsWith("recovering");
    // The last fault of the stream before may have come when that was over: its recovery is not one of these.
    while (recovers()) await new Promise((go) => setTimeout(go, 20));
    told.length = 0;
    const session = await loaded().session();
    const { maxTokens: max_tokens = 1, temperature = 0, seed = 0 } = params;
    const completion = async () => {
      const body = { prompt: "3j?", max_tokens, temperature, seed, n: 2, logprobs: 2, ignore_eos: true };
      const all = [];
      const names = new Set();
      for await (const { id, created, choices } of await loaded().completions.create({ ...body, stream: true })) {
        names.add(`${id} ${created}`);
        all.push(...choices);
      }
      // Of two answers that run side by side the order is theirs.
      return { choices: all.sort((a, b) => a.index - b.index), names: names.size };
    };
    const beside = completion();
    const whole = loaded().fetch("http://pagelm.local/v1/completions", {
      method: "POST",
      body: JSON.stringify({ prompt: "3j?", max_tokens, temperature: 0, ignore_eos: true }),
    });
    const got = { ids: /** @type {number[]} */ ([]), text: "", reason: "", tokens: /** @type {number[]} */ ([]) };
    const left = [...after];
    for await (const p of loaded().generate(ids, params)) {
      if (p.kind === "token") got.ids.push(p.id);
      if (p.kind !== "prefill") got.text += p.text;
      if (p.kind === "done") {
        const { promptTokens, completionTokens } = p.usage;
        Object.assign(got, { reason: p.reason, tokens: [promptTokens, completionTokens] });
      }
      if (got.ids.length === left[0]) {
        left.shift();
        fault(how);
        // What a worker has said by then comes before its end.
        await new Promise((go) => setTimeout(go, Math.random() * 30));
      }
    }
    const answer = /** @type {import("pagelm").Completion} */ (await (await whole).json());
    const choices = await beside;
    // The last fault may have come when all was said. Of a device, the next request is the first to notice.
    while (after.length && (!told.length || recovers())) {
      for await (const _ of loaded().generate(ids, { maxTokens: 1 }));
      await new Promise((go) => setTimeout(go, 20));
    }
    const lost = await session.decode(1).then(
      () => "none",
      (/** @type {import("pagelm").PagelmError} */ e) => e.code,
    );
    await session.close();
    return { ...got, ...choices, whole: answer.choices[0]?.text, lost, told, ended: loaded().ended?.code };
  },

  /** Breaks the engine at once, whenever it runs. @param {Parameters<typeof fault>[0]} how */
  async keepBreaking(how) {
    const told = /** @type {{ told: string[] }} */ (/** @type {unknown} */ (globalThis)).told;
    const timer = setInterval(() => fault(how), 20);
    try {
      for await (const _ of loaded().generate([1, 2, 3], { ignoreEos: true, maxTokens: 400 }));
      return { code: "none", told };
    } catch (e) {
      const { code, message } = /** @type {import("pagelm").PagelmError} */ (e);
      return { code, message, told, ended: loaded().ended?.code };
    } finally {
      clearInterval(timer);
    }
  },

  soak,

  /** The code with which a generation ends when its engine goes. @param {number[]} ids */
  async disposeWhileRunning(ids) {
    const pieces = loaded().generate(ids, { ignoreEos: true });
    await pieces.next();
    loaded().dispose();
    try {
      for await (const _ of pieces);
    } catch (e) {
      return /** @type {import("pagelm").PagelmError} */ (e).code;
    }
  },

  /** The chunks of a streamed chat. @param {Chat} params */
  async chat(params) {
    const chunks = [];
    const options = { stream: /** @type {const} */ (true), stream_options: { include_usage: true }, temperature: 0 };
    for await (const c of await loaded().chat.completions.create({ ...options, ...params })) chunks.push(c);
    return chunks;
  },

  /** Tokens of a chat that its second argument's signal stops, and how it ended. @param {Chat} params @param {number} ms */
  async stoppedChat(params, ms) {
    const seen = { chunks: 0, name: "", code: "", cause: "" };
    try {
      const signal = AbortSignal.timeout(ms);
      for await (const _ of await loaded().chat.completions.create({ ...params, stream: true }, { signal }))
        seen.chunks++;
    } catch (e) {
      const { name, code, cause } = /** @type {import("pagelm").PagelmError} */ (e);
      Object.assign(seen, { name, code, cause: cause instanceof Error ? cause.name : "" });
    }
    return seen;
  },

  /** What becomes of calls with wrong arguments: where each was refused. */
  async wrongCalls() {
    const place = async (/** @type {() => unknown} */ call) => {
      try {
        await call();
        return "taken";
      } catch (e) {
        const { code, place } = /** @type {import("pagelm").PagelmError} */ (e);
        return code === "invalid-argument" ? place : String(e);
      }
    };
    const session = await loaded().session();
    /** Without their types. @typedef {Record<string, (...given: unknown[]) => unknown>} Untyped */
    const whole = /** @type {Untyped} */ (/** @type {unknown} */ (loaded()));
    const steps = /** @type {Untyped} */ (/** @type {unknown} */ (session));
    const doors = /** @type {Untyped} */ (/** @type {unknown} */ ({ ...testing, canRun, createEngine }));
    const places = [];
    for (const [on, name, ...given] of /** @type {[Untyped, string, ...unknown[]][]} */ ([
      [whole, "generate", 5],
      [whole, "generate", null],
      [whole, "generate", [1, -1]],
      [whole, "generate", [1.5]],
      [whole, "generate", "x", { temprature: 1 }],
      [whole, "tokenize", 5],
      [whole, "tokenize", "x", { addSpecal: true }],
      [whole, "detokenize", "12"],
      [whole, "detokenize", [1], { showSpecial: 1 }],
      [whole, "render", "x"],
      [whole, "render", [{ role: "user", content: "x" }], {}],
      [whole, "profile", { dept: 1 }],
      [whole, "profile", { reps: 0 }],
      [steps, "prefill", [Number.NaN]],
      [steps, "decode", "5"],
      [steps, "mtp", -1],
      [steps, "rollback", 1.5],
      [doors, "canRun", undefined],
      [doors, "canRun", "/made/other.gguf", { threads: 0 }],
      [whole, "session", { restore: new Blob(), last: true }],
      [doors, "shaderSources", { wasmURL: "/" }],
      [doors, "createEngine", "/made/other.gguf"],
    ])) {
      places.push(await place(() => on[name]?.(...given)));
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
    } catch (e) {
      const { code, place, message, name } = /** @type {import("pagelm").PagelmError} */ (e);
      return { code, place, message, name };
    }
  },
};
globalThis.e2e = e2e;
