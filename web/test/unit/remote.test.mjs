// A server that takes over: when it does, what it is sent, and that its answers and errors are like those of the engine.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, test } from "node:test";
import { source } from "./source.mjs";
import { untyped } from "./untyped.mjs";

const { PagelmError, withRemote } = await source("remote.ts");

/** @typedef {import("../../src/remote.ts").RemoteOptions} Options */
/** @typedef {import("../../src/remote.ts").Local} Local */

const HI = { messages: [{ role: /** @type {const} */ ("user"), content: "Hi" }] };
const STREAM = /** @type {const} */ ({ ...HI, stream: true });

/** @type {{ path: string, method: string, key: string | undefined, body: any }[]} */
const asked = [];
/** @type {(body: any) => { status?: number, type?: string, pieces: string[], cut?: boolean }} */
let answer = () => ({ pieces: ['{"from":"server"}'] });
const http = createServer(async (request, response) => {
  let text = "";
  for await (const piece of request) text += piece;
  const { url: path = "", method = "", headers } = request;
  const body = text ? JSON.parse(text) : null;
  asked.push({ path, method, key: headers.authorization, body });
  const { status = 200, type = "application/json", pieces, cut } = answer(body);
  response.writeHead(status, { "content-type": type });
  for (const piece of pieces) {
    response.write(piece);
    await new Promise((done) => setTimeout(done, 2));
  }
  if (cut) response.destroy();
  else if (!pieces.includes("wait")) response.end();
});
await new Promise((done) => http.listen(0, "127.0.0.1", () => done(undefined)));
after(() => {
  http.closeAllConnections();
  http.close();
});
const { port } = /** @type {import("node:net").AddressInfo} */ (http.address());
const baseURL = `http://127.0.0.1:${port}/v1/`;

/** An engine whose functions all do the same. */
function engine(/** @type {(params: any) => unknown} */ create, ended = null) {
  const door = { create: async (/** @type {any} */ params) => create(params) };
  const fetch = async (/** @type {any} */ _, /** @type {any} */ init) => {
    try {
      return Response.json(create(JSON.parse(init.body ?? "{}")));
    } catch (e) {
      const { code, message } = /** @type {any} */ (e);
      return Response.json({ error: { code, message, type: "server_error", param: null } }, { status: 500 });
    }
  };
  return /** @type {Local} */ (
    /** @type {unknown} */ ({
      chat: { completions: door },
      completions: door,
      responses: door,
      embeddings: door,
      fetch,
      ended,
    })
  );
}
const fails = (/** @type {any} */ code) => () => {
  throw new PagelmError(code, "it broke");
};
const here = engine(() => ({ from: "engine" }));

/** Who answers: `engine`, `server` or the code of an error. */
async function who(/** @type {Local | Promise<Local>} */ local, /** @type {Options["when"]} */ when) {
  const remote = withRemote(local, { baseURL, model: "big", when });
  const made = await remote.chat.completions.create(HI).then(
    (whole) => untyped(whole).from,
    (e) => e.code,
  );
  const response = await remote
    .fetch("http://x/v1/chat/completions", { method: "POST", body: JSON.stringify(HI) })
    .then(
      (r) => r.json(),
      (e) => ({ error: { code: e.code } }),
    );
  assert.equal(response.from ?? response.error.code, made, "fetch and functions agree");
  return made;
}

test("the rule says who answers", async () => {
  const rejected = (/** @type {any} */ code) => {
    const promise = Promise.reject(new PagelmError(code, "no"));
    promise.catch(() => {});
    return promise;
  };
  for (const [local, rules] of /** @type {[() => Local | Promise<Local>, [Options["when"], string][]][]} */ ([
    [
      () => here,
      [
        ["never", "engine"],
        ["unable", "engine"],
        ["failed", "engine"],
        [() => true, "server"],
        [() => false, "engine"],
      ],
    ],
    [
      () => rejected("no-gpu"),
      [
        ["never", "no-gpu"],
        ["unable", "server"],
        ["failed", "server"],
        [() => false, "no-gpu"],
      ],
    ],
    [
      () => rejected("network"),
      [
        ["never", "network"],
        ["unable", "network"],
        ["failed", "server"],
      ],
    ],
    [
      () => rejected("aborted"),
      [
        ["unable", "aborted"],
        ["failed", "aborted"],
      ],
    ],
    [
      () => engine(fails("device-lost")),
      [
        ["never", "device-lost"],
        ["unable", "device-lost"],
        ["failed", "server"],
      ],
    ],
    [
      () => engine(fails("invalid-argument")),
      [
        ["failed", "invalid-argument"],
        [({ error }) => error?.code === "invalid-argument", "server"],
      ],
    ],
    [() => engine(fails("disposed")), [["failed", "disposed"]]],
    [
      () => engine(() => assert.fail(), /** @type {any} */ (new PagelmError("worker-lost", "gone"))),
      [
        ["never", "worker-lost"],
        ["failed", "server"],
      ],
    ],
  ])) {
    for (const [when, right] of rules) assert.equal(await who(local(), when), right, `${local} ${when}`);
  }
});

test("a function is told what is asked for, and how the engine does", async () => {
  /** @type {import("../../src/remote.ts").Situation[]} */
  const told = [];
  /** @type {(local: Local) => void} */
  let load = () => {};
  const loading = /** @type {Promise<Local>} */ (new Promise((resolve) => (load = resolve)));
  /** @type {unknown[]} */
  const over = [];
  const remote = withRemote(loading, {
    baseURL,
    model: "big",
    onRemote: (error) => over.push(error?.code ?? null),
    when: (situation) => {
      told.push(situation);
      return situation.engine === "loading" || situation.error?.code === "gpu-error";
    },
  });
  assert.equal(untyped(await remote.completions.create({ prompt: "a" })).from, "server");
  load(engine(({ prompt }) => (prompt === "b" ? { from: "engine" } : fails("gpu-error")())));
  await loading;
  assert.equal(untyped(await remote.completions.create({ prompt: "b" })).from, "engine");
  assert.equal(untyped(await remote.completions.create({ prompt: "c" })).from, "server");
  const seen = told.map(({ engine, error, path, params }) => [engine, error?.code ?? null, path, params.prompt]);
  assert.deepEqual(seen, [
    ["loading", null, "/v1/completions", "a"],
    ["ready", null, "/v1/completions", "b"],
    ["ready", null, "/v1/completions", "c"],
    ["ready", "gpu-error", "/v1/completions", "c"],
  ]);
  assert.deepEqual(over, [null, "gpu-error"]);
});

test("the server is asked for its model, with its key and without what is the page's", async () => {
  asked.length = 0;
  let keys = 0;
  const options = { baseURL, model: "big", apiKey: async () => `key ${++keys}`, when: () => true };
  const remote = withRemote(here, options);
  const params = { ...HI, model: "small", signal: new AbortController().signal, onPrefill: () => {} };
  await remote.chat.completions.create(params);
  await remote.embeddings.create({ input: "a" });
  await remote.fetch("http://pagelm.local/v1/responses", {
    method: "POST",
    headers: { authorization: "Bearer -" },
    body: '{"input":"a","model":"small"}',
  });
  await remote.fetch("http://pagelm.local/v1/models");
  assert.deepEqual(asked, [
    { path: "/v1/chat/completions", method: "POST", key: "Bearer key 1", body: { ...HI, model: "big" } },
    { path: "/v1/embeddings", method: "POST", key: "Bearer key 2", body: { input: "a", model: "big" } },
    { path: "/v1/responses", method: "POST", key: "Bearer key 3", body: { input: "a", model: "big" } },
    { path: "/v1/models", method: "GET", key: "Bearer key 4", body: null },
  ]);
});

test("images of the page are sent with their bytes, and what JSON would lose is refused", async () => {
  asked.length = 0;
  const remote = withRemote(here, { baseURL, model: "big", when: () => true });
  const bytes = Uint8Array.from({ length: 10_000 }, (_, i) => i % 256);
  const image = (/** @type {unknown} */ url) => ({
    messages: [{ role: "user", content: [{ type: "image_url", image_url: { url } }] }],
  });
  await remote.chat.completions.create(untyped(image(new Blob([bytes], { type: "image/png" }))));
  assert.equal(
    asked[0]?.body.messages[0].content[0].image_url.url,
    `data:image/png;base64,${Buffer.from(bytes).toString("base64")}`,
  );
  for (const [params, place] of /** @type {[object, string][]} */ ([
    [image(new (class ImageBitmap {})()), "messages[0].content[0].image_url.url"],
    [{ ...HI, temperature: Number.NaN }, "temperature"],
    [{ ...HI, tools: [{ execute: () => 1 }] }, "tools[0].execute"],
  ]))
    await assert.rejects(remote.chat.completions.create(untyped(params)), { code: "invalid-argument", place });
  assert.equal(asked.length, 1);
});

test("a stream is read however it is cut, with comments and line breaks of any kind", async () => {
  const whole =
    ': ping\r\n\r\ndata: {"n":1}\r\n\r\nevent: x\ndata: {"n":\ndata: "é"}\n\n: \n\ndata: [DONE]\n\ndata: {"n":3}\n\n';
  for (const size of [1, 3, 7, whole.length]) {
    const bytes = Buffer.from(whole);
    const count = Math.ceil(bytes.length / size);
    const pieces = Array.from({ length: count }, (_, i) => bytes.subarray(i * size, (i + 1) * size));
    answer = () => ({ type: "text/event-stream; charset=utf-8", pieces: /** @type {any} */ (pieces) });
    const remote = withRemote(here, { baseURL, model: "big", when: () => true });
    const events = [];
    for await (const event of await remote.chat.completions.create(STREAM)) events.push(untyped(event).n);
    assert.deepEqual(events, [1, "é"], `${size}`);
  }
});

test("a stream of the engine that breaks before anything came goes on from the server, and later fails", async () => {
  answer = () => ({ type: "text/event-stream", pieces: ['data: {"from":"server"}\n\n', "data: [DONE]\n\n"] });
  const breaking = (/** @type {number} */ after) =>
    engine(() =>
      (async function* () {
        for (let i = 0; i < after; i++) yield { from: "engine" };
        throw new PagelmError("device-lost", "gone");
      })(),
    );
  const events = async (/** @type {Local} */ local) => {
    const seen = [];
    const remote = withRemote(local, { baseURL, model: "big", when: "failed" });
    for await (const event of await remote.chat.completions.create(STREAM)) seen.push(untyped(event).from);
    return seen;
  };
  assert.deepEqual(await events(breaking(0)), ["server"]);
  await assert.rejects(events(breaking(2)), { code: "device-lost" });
});

test("errors of the server have the codes of the engine's", async () => {
  const remote = withRemote(here, { baseURL, model: "big", when: () => true });
  const error = (/** @type {object} */ of) => JSON.stringify({ error: of });
  for (const [status, text, code, place, message] of /** @type {[number, string, string, string, RegExp][]} */ ([
    [400, error({ message: "too long", code: "context_length_exceeded" }), "context-overflow", "http", /too long/],
    [400, error({ message: "wrong", param: "messages" }), "invalid-argument", "messages", /400: wrong/],
    [401, error({ message: "no key", code: "invalid_api_key" }), "http-status", "http", /401: no key/],
    [503, "<html>busy</html>", "http-status", "http", /503: .*no JSON/],
    [200, "<html>login</html>", "http-status", "http", /200: .*no JSON/],
  ])) {
    answer = () => ({ status, type: text.startsWith("{") ? "application/json" : "text/html", pieces: [text] });
    for (const params of [HI, STREAM]) {
      const failed = await remote.chat.completions.create(untyped(params)).catch((/** @type {any} */ e) => e);
      assert.ok(failed instanceof PagelmError, `${failed}`);
      assert.equal(failed.code, code, failed.message);
      assert.ok(failed.place.startsWith(place), failed.place);
      assert.match(failed.message, message);
    }
  }
  answer = () => ({
    type: "text/event-stream",
    pieces: ['data: {"n":1}\n\n', `data: ${error({ message: "broke" })}\n\n`],
  });
  const stream = await remote.chat.completions.create(STREAM);
  assert.equal(untyped((await stream.next()).value).n, 1);
  await assert.rejects(stream.next(), { code: "http-status", message: /broke/ });
  answer = () => ({ type: "text/event-stream", pieces: ['data: {"n":1}\n\n'], cut: true });
  const cut = await remote.chat.completions.create(STREAM);
  await assert.rejects(
    async () => {
      for await (const _ of cut);
    },
    { code: "network" },
  );
  const away = withRemote(here, { baseURL: "http://127.0.0.1:1/v1", model: "big", when: () => true });
  await assert.rejects(away.chat.completions.create(HI), {
    code: "network",
    place: "http://127.0.0.1:1/v1/chat/completions",
  });
  await assert.rejects(away.fetch("http://x/v1/chat/completions", { method: "POST", body: "{}" }), { code: "network" });
});

test("a signal stops what the server does, wherever it is", async () => {
  const remote = withRemote(here, { baseURL, model: "big", when: () => true });
  answer = () => ({ type: "text/event-stream", pieces: ['data: {"n":1}\n\n', "wait"] });
  for (const second of [false, true]) {
    const stop = new AbortController();
    const options = second ? { signal: stop.signal } : {};
    const params = second ? STREAM : { ...STREAM, signal: stop.signal };
    const stream = await remote.chat.completions.create(params, options);
    await stream.next();
    stop.abort();
    await assert.rejects(stream.next(), { code: "aborted", name: "AbortError" });
  }
  const gone = AbortSignal.abort();
  await assert.rejects(remote.chat.completions.create(HI, { signal: gone }), { code: "aborted" });
});

test("a rule that is none is refused", () => {
  for (const when of [undefined, "always", true])
    assert.throws(() => withRemote(here, untyped({ baseURL, model: "big", when })), {
      code: "invalid-argument",
      place: "when",
    });
});
