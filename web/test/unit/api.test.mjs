// OpenAI's API of the page, on a worker that says what a test lets it say: what it is asked, and what a caller gets.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { FakePort } from "./port.mjs";
import { source } from "./source.mjs";
import { untyped } from "./untyped.mjs";

const { Client } = await source("page/client.ts");
const { endpoints, fetchFrom } = await source("page/api.ts");
const { PagelmError } = await source("shared/errors.ts");

const HI = { messages: [{ role: /** @type {const} */ ("user"), content: "Hi" }] };
const STREAM = /** @type {const} */ ({ ...HI, stream: true });

/** @typedef {import("../../src/shared/protocol.ts").ApiPiece} ApiPiece */

/** An engine whose answer to every request is these pieces, and then its end unless it stays open. */
function engine(/** @type {ApiPiece[]} */ answer, open = false) {
  const port = new FakePort();
  const { postMessage } = port;
  port.postMessage = (message) => {
    postMessage.call(port, message);
    if (message.op !== "request") return;
    const { id } = message;
    for (const value of answer) port.piece(id, value);
    if (!open) port.say({ op: "done", id, value: null });
  };
  const client = new Client(port);
  const fetch = (/** @type {RequestInfo | URL} */ input, /** @type {RequestInit} */ init = {}) =>
    fetchFrom(client, input, init);
  return { port, client, fetch, ...endpoints(client) };
}

const head = (stream = false, status = 200, unknown = "") => ({
  kind: /** @type {const} */ ("head"),
  status,
  stream,
  unknown,
});
const body = (/** @type {string} */ text) => ({ kind: /** @type {const} */ ("body"), text });
const event = (/** @type {unknown} */ data) => body(`data: ${JSON.stringify(data)}\n\n`);
const DONE = body("data: [DONE]\n\n");
const error = (/** @type {object} */ of) =>
  JSON.stringify({ error: { type: "invalid_request_error", param: null, code: null, ...of } });
const turn = () => new Promise((resolve) => setTimeout(resolve));

test("fetch passes on method, path and body, and gives status, headers and body back", async () => {
  const { port, fetch } = engine([head(false, 404, "mood, tone"), body('{"a":1}')]);
  for (const [url, path] of [
    ["http://pagelm.local/v1/models/a%2Fb?x=1", "/v1/models/a/b"],
    ["https://page.example/deep/v1/models/m", "/v1/models/m"],
    ["http://pagelm.local/other", "/other"],
  ]) {
    port.sent.length = 0;
    const response = await fetch(new URL(url ?? ""));
    const { method, path: asked, body } = port.asked("request");
    assert.deepEqual([method, asked, body], ["GET", path, ""]);
    assert.equal(response.status, 404);
    assert.equal(response.headers.get("content-type"), "application/json");
    assert.equal(response.headers.get("x-unknown-parameters"), "mood, tone");
    assert.deepEqual(await response.json(), { a: 1 });
  }
  await fetch(new Request("http://x/v1/completions", { method: "POST", body: "{}" }));
  const last = port.sent.at(-1);
  assert.ok(last?.op === "request" && last.method === "POST" && last.body === "{}");
});

test("a stream is sent as it comes, and ends the generation when it is cancelled", async () => {
  const { port, fetch } = engine([{ kind: "prefill", done: 1, total: 2 }, head(true), event({ n: 1 })], true);
  const response = await fetch("http://x/v1/chat/completions", { method: "POST", body: "{}" });
  assert.equal(response.headers.get("content-type"), "text/event-stream");
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  const next = async () => new TextDecoder().decode((await reader.read()).value);
  assert.equal(await next(), 'data: {"n":1}\n\n');
  port.piece(1, DONE);
  assert.equal(await next(), DONE.text);
  await reader.cancel();
  assert.deepEqual(port.sent.at(-1), { op: "abort", target: 1 });
});

test("a client runs on the engine without a browser", async () => {
  const usage = { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 };
  const message = { role: "assistant", content: "Hello", refusal: null };
  const whole = { id: "c", object: "chat.completion", created: 1, model: "m", usage };
  const choices = [{ index: 0, finish_reason: "stop", logprobs: null, message }];
  const client = (/** @type {ReturnType<typeof engine>} */ { fetch }) =>
    new OpenAI({ baseURL: "http://pagelm.local/v1", apiKey: "-", fetch, maxRetries: 2 });
  const answered = engine([head(), body(JSON.stringify({ ...whole, choices }))]);
  const answer = await client(answered).chat.completions.create({ model: "m", ...HI });
  assert.equal(answer.choices[0]?.message.content, "Hello");
  assert.deepEqual(JSON.parse(answered.port.asked("request").body), { model: "m", ...HI });

  const part = (/** @type {string} */ content) =>
    event({ id: "c", object: "chat.completion.chunk", choices: [{ index: 0, delta: { content } }] });
  const streamed = engine([head(true), part("Hel"), part("lo"), DONE]);
  let text = "";
  for await (const chunk of await client(streamed).chat.completions.create({ model: "m", ...STREAM }))
    text += chunk.choices[0]?.delta.content;
  assert.equal(text, "Hello");

  const refused = engine([head(false, 400), body(error({ message: "no", param: "messages", code: "bad-template" }))]);
  await assert.rejects(client(refused).chat.completions.create({ model: "m", messages: [] }), {
    status: 400,
    param: "messages",
    code: "bad-template",
  });
  const broken = engine([]);
  broken.client.end(new PagelmError("worker-lost", "it died"));
  await assert.rejects(client(broken).chat.completions.create({ model: "m", ...HI }), { status: 500 });

  const open = engine([head(true), part("Hel")], true);
  const stream = await client(open).chat.completions.create({ model: "m", ...STREAM });
  for await (const _ of stream) break;
  await turn();
  assert.deepEqual(open.port.sent.at(-1), { op: "abort", target: 1 });
});

test("a signal ends a request wherever it is, with an AbortError", async () => {
  for (const answer of [[], [head(true)], [head(true), event({ n: 1 })]]) {
    const { port, fetch } = engine(answer, true);
    const stop = new AbortController();
    const whole = fetch("http://x/v1/completions", { method: "POST", body: "{}", signal: stop.signal }).then((r) =>
      r.text(),
    );
    await turn();
    stop.abort();
    await assert.rejects(whole, { name: "AbortError" });
    assert.deepEqual(port.sent.at(-1), { op: "abort", target: 1 });
  }
});

test("a worker that is gone is a server's error, which clients do not try again", async () => {
  const { client, fetch } = engine([]);
  client.end(new PagelmError("worker-lost", "it died"));
  const response = await fetch("http://x/v1/models");
  assert.equal(response.status, 500);
  assert.equal(response.headers.get("x-should-retry"), "false");
  const { error } = await response.json();
  assert.deepEqual([error.type, error.code, error.message], ["server_error", "worker-lost", "it died"]);
});

test("functions ask for their path, and leave out what is the page's", async () => {
  const { port, chat, completions, responses, embeddings } = engine([head(), body("{}")]);
  const onPrefill = () => {};
  const params = { ...HI, temperature: 0, signal: new AbortController().signal, onPrefill };
  assert.deepEqual(await chat.completions.create(params, { signal: null }), {});
  assert.deepEqual(JSON.parse(port.asked("request").body), { ...HI, temperature: 0 });
  await completions.create({ prompt: "a" });
  await responses.create({ input: "a" });
  await embeddings.create({ input: "a" });
  const paths = port.sent.map((m) => (m.op === "request" ? `${m.method} ${m.path}` : m.op));
  assert.deepEqual(
    paths,
    ["chat/completions", "completions", "responses", "embeddings"].map((p) => `POST /v1/${p}`),
  );
});

test("the events of a stream come parsed, and progress is told before and within it", async () => {
  const prefill = (/** @type {number} */ done) => ({ kind: /** @type {const} */ ("prefill"), done, total: 9 });
  const { chat } = engine([
    prefill(1),
    head(true),
    prefill(9),
    event({ n: 1 }),
    body('event: x\ndata: {"n":2}\n\n'),
    DONE,
  ]);
  const seen = /** @type {unknown[]} */ ([]);
  const stream = await chat.completions.create({ ...STREAM, onPrefill: ({ done, total }) => seen.push([done, total]) });
  assert.deepEqual(seen, [[1, 9]]);
  for await (const chunk of stream) seen.push(untyped(chunk).n);
  assert.deepEqual(seen, [[1, 9], [9, 9], 1, 2]);
});

test("errors are thrown with their code and place, before a stream and within it", async () => {
  const cases = /** @type {[object, string, string][]} */ ([
    [{ message: "`n` must be", param: "n" }, "invalid-argument", "n"],
    [{ message: "too long", code: "context_length_exceeded" }, "context-overflow", ""],
    [{ message: "full", code: "cache-full" }, "cache-full", ""],
  ]);
  for (const [given, code, place] of cases) {
    const refused = { name: "PagelmError", code, place };
    await assert.rejects(engine([head(false, 400), body(error(given))]).chat.completions.create(HI), refused);
    await assert.rejects(engine([head(false, 400), body(error(given))]).chat.completions.create(STREAM), refused);
    const { message, param, code: c } = JSON.parse(error(given)).error;
    const flat = event({ type: "error", sequence_number: 4, code: c, message, param });
    // Those of responses have no object around them.
    const lists = /** @type {const} */ ([
      [body(`data: ${error(given)}\n\n`), "chat"],
      [flat, "responses"],
    ]);
    for (const [last, name] of lists) {
      const { chat, responses } = engine([head(true), event({ n: 1 }), last]);
      const stream = await (name === "chat"
        ? chat.completions.create(STREAM)
        : responses.create({ input: "x", stream: true }));
      assert.equal(untyped((await stream.next()).value).n, 1);
      await assert.rejects(stream.next(), refused);
    }
  }
});

test("a stream that is left ends its generation, read or not", async () => {
  for (const reads of [0, 1]) {
    const { port, chat } = engine([head(true), event({ n: 1 }), event({ n: 2 })], true);
    const stream = await chat.completions.create(STREAM);
    for (let i = 0; i < reads; i++) await stream.next();
    await stream.return();
    assert.deepEqual(port.sent.at(-1), { op: "abort", target: 1 });
  }
});

test("what JSON would lose or change is refused by name", async () => {
  const { port, chat } = engine([]);
  for (const [name, value] of /** @type {[string, unknown][]} */ ([
    ["temperature", Number.NaN],
    ["temperature", Number.POSITIVE_INFINITY],
    ["max_tokens", 5n],
    ["logit_bias", () => {}],
    ["tools", Symbol("x")],
  ])) {
    const refused = { code: "invalid-argument", place: name };
    await assert.rejects(chat.completions.create(untyped({ ...HI, [name]: value })), refused);
  }
  await assert.rejects(chat.completions.create(untyped({ ...HI, onPrefill: 5 })), { place: "onPrefill" });
  assert.equal(port.sent.length, 0);
});

test("parameters that are not known are named in a warning", async (t) => {
  const warn = t.mock.method(console, "warn", () => {});
  await engine([head(false, 200, "mood"), body("{}")]).chat.completions.create(HI);
  assert.match(String(warn.mock.calls[0]?.arguments[0]), /does not know the parameters mood/);
  await engine([head(), body("{}")]).chat.completions.create(HI);
  assert.equal(warn.mock.callCount(), 1);
});

test("the second argument's signal stops an answer, as that of the first does", async () => {
  for (const [first, second] of [
    [true, false],
    [false, true],
    [true, true],
  ]) {
    for (const stopped of [first && 0, second && 1].filter((x) => x !== false)) {
      const { port, chat } = engine([], true);
      const stops = [new AbortController(), new AbortController()];
      const signalled = (/** @type {number} */ i) => ({ signal: stops[i]?.signal ?? null });
      const answer = chat.completions.create({ ...HI, ...(first && signalled(0)) }, second ? signalled(1) : undefined);
      await turn();
      stops[Number(stopped)]?.abort("enough");
      await assert.rejects(answer, { code: "aborted", name: "AbortError", cause: "enough" });
      assert.deepEqual(port.sent.at(-1), { op: "abort", target: 1 });
    }
  }
  const { chat } = engine([head(), body("{}")]);
  const refused = (/** @type {unknown} */ options, /** @type {string} */ place) =>
    assert.rejects(chat.completions.create(HI, untyped(options)), { code: "invalid-argument", place });
  await refused({ timeout: 5 }, "options.timeout");
  await refused({ signal: 5 }, "options.signal");
  await refused("x", "options");
});

test("a stream that cannot start rejects at once", async () => {
  const { client, chat } = engine([], true);
  await assert.rejects(chat.completions.create(STREAM, { signal: AbortSignal.abort() }), { code: "aborted" });
  client.end(new PagelmError("disposed", "gone"));
  await assert.rejects(chat.completions.create(STREAM), { code: "disposed" });
});

test("images go beside the JSON of a request, which names them by number", async () => {
  const { port, chat } = engine([head(), body("{}")]);
  const image = new Blob(["x"]);
  const part = (/** @type {string | Blob} */ url) => ({ type: /** @type {const} */ ("image_url"), image_url: { url } });
  const content = [part(image), part("data:,"), part(image)];
  await chat.completions.create({ messages: [{ role: "user", content }] });
  const { body: sent, attached } = port.asked("request");
  const urls = JSON.parse(sent).messages[0].content.map((/** @type {any} */ p) => p.image_url.url);
  assert.deepEqual(urls, ["attached:0", "data:,", "attached:1"]);
  assert.deepEqual(attached, [image, image]);
});
