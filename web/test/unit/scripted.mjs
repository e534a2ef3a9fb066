// An engine over a worker that answers as a script says: what libraries make of its answers needs no browser.
import { FakePort } from "./port.mjs";
import { source } from "./source.mjs";
import { untyped } from "./untyped.mjs";

const { Client } = await source("page/client.ts");
const { Engine } = await source("page/engine.ts");

/**
 * An answer: deltas of chat completions as they come, or an error. `hang`: it does not end. `journal`: what the page is told of
 * its tokens; `left`: those that the cache has after it.
 * @typedef {{ deltas?: Record<string, unknown>[], finish?: string, cached?: number, hang?: boolean, journal?: number[], left?: number[],
 *   error?: { code: string, message: string, param?: string }, breaks?: string, data?: unknown }} Answer
 */

const USAGE = {
  prompt_tokens: 12,
  completion_tokens: 5,
  total_tokens: 17,
  completion_tokens_details: { reasoning_tokens: 2 },
  extra: {
    time_to_first_token_s: 0.5,
    prefill_tokens_per_s: 100,
    decode_tokens_per_s: 50,
    drafted_tokens: 0,
    accepted_tokens: 0,
  },
};

/** Tokens of the context, of which each word is one. */
export const WINDOW = 64;

/** @param {...string} pieces */
export const text = (...pieces) => ({ deltas: pieces.map((content) => ({ content })) });

/** @param {string} name @param {string[]} pieces */
export const calls = (name, ...pieces) => ({
  finish: "tool_calls",
  deltas: [
    { tool_calls: [{ index: 0, id: `call_${name}`, type: "function", function: { name, arguments: "" } }] },
    ...pieces.map((piece) => ({ tool_calls: [{ index: 0, function: { arguments: piece } }] })),
  ],
});

/** A whole message of deltas. @param {Record<string, any>[]} deltas */
function whole(deltas) {
  const message = /** @type {Record<string, any>} */ ({ role: "assistant", content: null, refusal: null });
  for (const { content, reasoning_content, tool_calls } of deltas) {
    if (content) message.content = (message.content ?? "") + content;
    if (reasoning_content) message.reasoning_content = (message.reasoning_content ?? "") + reasoning_content;
    for (const { index, id, type, function: of } of tool_calls ?? []) {
      message.tool_calls ??= [];
      message.tool_calls[index] ??= { id, type, function: { name: "", arguments: "" } };
      message.tool_calls[index].function.name += of.name ?? "";
      message.tool_calls[index].function.arguments += of.arguments ?? "";
    }
  }
  return message;
}

/** The start of the engine's snapshots, and as much as of a small cache. @param {number[]} tokens */
const snapshotOf = (tokens) =>
  new Blob([
    "pagelmS2",
    new BigUint64Array([1n, BigInt(tokens.length)]),
    new Uint32Array(tokens),
    new BigUint64Array([0n]),
    new Uint8Array(100),
  ]);

/** Answers, one after the other, the last one again and again. @param {...Answer} answers */
export function scripted(...answers) {
  const port = new FakePort();
  /** @type {any[]} The bodies of requests, with the path. */
  const asked = [];
  let left = /** @type {number[]} */ ([]);
  const { postMessage } = port;
  port.postMessage = (message) => {
    postMessage.call(port, message);
    if (message.op === "render") {
      const { chat } = message;
      const value = chat.messages.map(
        (m) => `<${m.role}>${typeof m.content === "string" ? m.content : JSON.stringify(m.content)}`,
      );
      return port.say({ op: "done", id: message.id, value: value.join("") });
    }
    // A token for each word.
    if (message.op === "tokenize")
      return port.say({
        op: "done",
        id: message.id,
        value: new Uint32Array(message.text.split(/[\s<>]+/).filter(Boolean).length),
      });
    if (message.op === "openSession") return port.say({ op: "done", id: message.id, value: 1 });
    if (message.op === "snapshot") return port.say({ op: "done", id: message.id, value: snapshotOf(left) });
    if (message.op === "closeSession") return port.say({ op: "done", id: message.id, value: undefined });
    if (message.op !== "request") return;
    const { id, path, body } = message;
    const params = JSON.parse(body);
    asked.push({ ...params, path, attached: message.attached });
    const answer = answers[Math.min(asked.length, answers.length) - 1] ?? {};
    const say = (/** @type {unknown} */ value) => port.piece(id, value);
    const head = (status = 200, stream = false) => say({ kind: "head", status, stream, unknown: "" });
    const done = () => port.say({ op: "done", id, value: null });
    if (answer.error) {
      head(400);
      const error = { type: "invalid_request_error", param: null, ...answer.error };
      say({ kind: "body", text: JSON.stringify({ error }) });
      return done();
    }
    const { deltas = [], finish = "stop", cached = 4 } = answer;
    left = answer.left ?? left;
    const common = { id: `chatcmpl-${asked.length}`, created: 1, model: "m" };
    const usage = { ...USAGE, prompt_tokens_details: { cached_tokens: cached } };
    if (!params.stream) {
      head();
      const choices = [{ index: 0, finish_reason: finish, logprobs: null, message: whole(deltas) }];
      const made = answer.data ?? { ...common, object: "chat.completion", choices, usage };
      if (answer.hang) return;
      say({ kind: "body", text: JSON.stringify(made) });
      return done();
    }
    head(200, true);
    const event = (/** @type {unknown} */ data) => say({ kind: "body", text: `data: ${JSON.stringify(data)}\n\n` });
    const chunk = (/** @type {object} */ delta, /** @type {string | null} */ reason = null) =>
      event({
        ...common,
        object: "chat.completion.chunk",
        choices: [{ index: 0, delta, logprobs: null, finish_reason: reason }],
      });
    if (answer.journal) port.say({ op: "pieces", id, values: [], journal: answer.journal });
    chunk({ role: "assistant", content: "" });
    for (const delta of deltas) chunk(delta);
    if (answer.hang) return;
    if (answer.breaks) {
      const error = { code: /** @type {any} */ (answer.breaks), message: "it broke", place: "" };
      return port.say({ op: "error", id, error });
    }
    chunk({}, finish);
    if (params.stream_options?.include_usage) event({ ...common, object: "chat.completion.chunk", choices: [], usage });
    say({ kind: "body", text: "data: [DONE]\n\n" });
    done();
  };
  const info = { model: { name: "Scripted" }, contextLength: WINDOW };
  const client = new Client(port);
  client.info = untyped(info);
  const engine = Engine.open(client);
  /** Whether the last request was stopped. */
  const stopped = () => port.sent.some((m) => m.op === "abort");
  return { engine, client, port, asked, stopped };
}

/** What loads models in tests: counts, tells of progress, and gives an engine when it is let go on. */
export function loader(/** @type {...Answer} */ ...answers) {
  const made = /** @type {ReturnType<typeof scripted>[]} */ ([]);
  const given = /** @type {import("../../src/shared/types.ts").EngineOptions[]} */ ([]);
  /** @type {Error | null} */
  let failure = null;
  let open = Promise.resolve();
  let go = () => {};
  /** @param {import("../../src/shared/types.ts").EngineOptions} options */
  const create = async (options) => {
    given.push(options);
    const base = { stalled: false, from: /** @type {const} */ ("network"), bytesPerS: 0, secondsLeft: undefined };
    for (const loaded of [0, 50, 100]) {
      options.onProgress?.({ ...base, phase: "weights", loaded, total: 100 });
      await new Promise((done) => setTimeout(done));
      options.signal?.throwIfAborted();
    }
    await open;
    if (failure) throw failure;
    const next = scripted(...answers);
    made.push(next);
    return next.engine;
  };
  return {
    create,
    made,
    given,
    /** The next load fails, or not. */
    fail(/** @type {Error | null} */ error) {
      failure = error;
    },
    /** Loads wait until what this returns is called. */
    hold() {
      open = new Promise((done) => {
        go = done;
      });
      return () => go();
    },
  };
}
