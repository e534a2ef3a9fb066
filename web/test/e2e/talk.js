// What the tests of conversations call in the page.
import { openConversations } from "/dist/conversations.js";
import { createEngine } from "/dist/index.js";

/**
 * @typedef {import("pagelm").ChatChunk} Chunk
 * @typedef {import("pagelm/conversations").Conversations} Conversations
 * @typedef {import("pagelm/conversations").SendParams} Params
 * @typedef {string | import("pagelm").ChatMessage} Said
 * @typedef {typeof talk} Talk
 */

/** @type {import("pagelm").Engine} */
let engine;
/** @type {Conversations} */
let all;

/** How an error looks from outside. @param {unknown} e */
const code = (e) => /** @type {import("pagelm").PagelmError} */ (e).code ?? String(e);

/** An answer as it comes. @param {AsyncIterable<Chunk>} stream @param {{ chunks: Chunk[], end: string }} into */
async function read(stream, into) {
  try {
    for await (const chunk of stream) into.chunks.push(chunk);
    into.end = "whole";
  } catch (e) {
    into.end = code(e);
  }
  return into;
}

const talk = {
  /** The answer that comes. */
  now: { chunks: /** @type {Chunk[]} */ ([]), end: "" },
  problems: /** @type {string[]} */ ([]),

  /** @param {import("pagelm").EngineOptions} options @param {import("pagelm/conversations").ConversationsOptions} of */
  async start(options, of = {}) {
    engine?.dispose();
    engine = await createEngine({ cache: false, contextLength: 512, ...options });
    all = await openConversations(engine, { onProblem: (problem) => talk.problems.push(problem), ...of });
    return all.problem;
  },

  /** @param {{ messages?: import("pagelm").ChatMessage[], title?: string }} [options] */
  create: async (options) => (await all.create(options)).id,
  list: () => all.list(),
  rename: (/** @type {string} */ id, /** @type {string} */ title) => all.rename(id, title),
  remove: (/** @type {string} */ id) => all.delete(id).then(() => "removed", code),

  /** @param {string} id */
  async open(id) {
    const { title, messages, unfinished } = await all.open(id);
    return { title, messages, unfinished };
  },

  /** Asks, and waits for the end. @param {string} id @param {Said} said @param {Params} params */
  async send(id, said, params) {
    const conversation = await all.open(id);
    const into = await read(conversation.send(said, params), { chunks: [], end: "" });
    return { ...into, messages: conversation.messages, unfinished: conversation.unfinished };
  },

  /** Asks, and does not wait. @param {string} id @param {Said} said @param {Params} params */
  async begin(id, said, params) {
    talk.now = { chunks: [], end: "" };
    void read((await all.open(id)).send(said, params), talk.now);
  },

  /** @param {string} id */
  async resume(id) {
    try {
      const { conversation, history, stream } = await all.resume(id);
      const { chunks, end } = await read(stream, { chunks: [], end: "" });
      return { history, chunks, end, messages: conversation.messages, unfinished: conversation.unfinished };
    } catch (e) {
      return { end: code(e), history: [], chunks: [], messages: [], unfinished: false };
    }
  },

  /** Files of conversations and their bytes. */
  async files(folder = "pagelm-conversations") {
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle(folder);
    /** @type {Record<string, number>} */
    const found = {};
    for await (const name of root.keys()) {
      const file = await (await root.getFileHandle(name)).getFile();
      // Some browsers keep what is being written beside the file.
      if (!name.endsWith(".crswap")) found[name] = file.size;
    }
    return found;
  },

  /** What the page asks beside its conversations. @param {string} said */
  async ask(said) {
    const messages = [{ role: /** @type {const} */ ("user"), content: said }];
    await engine.chat.completions.create({ messages, max_tokens: 12, temperature: 0 });
  },

  /** Puts one file in the place of another. @param {string} from @param {string} to */
  async copy(from, to, folder = "pagelm-conversations") {
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle(folder);
    const writable = await (await root.getFileHandle(to, { create: true })).createWritable();
    await (await (await root.getFileHandle(from)).getFile()).stream().pipeTo(writable);
  },

  /** Cuts a file, or turns a bit of it. @param {string} name @param {{ cut?: number, flip?: number }} how */
  async damage(name, { cut, flip }) {
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle("pagelm-conversations");
    const handle = await root.getFileHandle(name);
    let bytes = new Uint8Array(await (await handle.getFile()).arrayBuffer());
    if (cut !== undefined) bytes = bytes.slice(0, Math.max(0, cut < 0 ? bytes.length + cut : cut));
    if (flip !== undefined) {
      const at = Math.floor(flip * bytes.length);
      bytes[at] = Number(bytes[at]) ^ 4;
    }
    const to = await handle.createWritable();
    await to.write(bytes);
    await to.close();
  },

  /** What the engine holds and did. */
  stats: () => engine.stats(),
  close: () => all.close(),
};
Object.assign(globalThis, { talk });
