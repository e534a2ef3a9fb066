// The Prompt API as its specification and the tests of browsers have it: sessions, and what is asked of them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { api, model, named, SYSTEM, session, USER } from "./prompt.mjs";
import { text, WINDOW } from "./scripted.mjs";
import { untyped } from "./untyped.mjs";

const { PagelmError } = api;

/** What an abort does to a call: its reason is the error. @param {(signal: AbortSignal) => Promise<unknown>} call */
async function aborts(call) {
  for (const reason of [undefined, new Error("test")]) {
    const stop = new AbortController();
    const promise = call(stop.signal);
    stop.abort(reason);
    for (const made of [promise, call(stop.signal)])
      await assert.rejects(made, (e) => (reason ? e === reason : named("AbortError")(e)));
  }
}

test("it is made by create only, and has what the interface has", async () => {
  const { LanguageModel, session: made } = await session(text("x"));
  assert.throws(() => new LanguageModel(), TypeError);
  assert.ok(made instanceof LanguageModel && made instanceof EventTarget);
  for (const name of ["prompt", "promptStreaming", "append", "measureContextUsage", "clone", "destroy"])
    assert.equal(typeof untyped(made)[name], "function", name);
  assert.deepEqual([made.contextUsage, made.contextWindow], [0, WINDOW]);
  assert.deepEqual([made.inputUsage, made.inputQuota], [0, WINDOW]);
  assert.deepEqual([made.topK, made.temperature, made.samplingMode], [undefined, undefined, "balanced"]);
  assert.deepEqual([made.oncontextoverflow, made.onquotaoverflow], [null, null]);
});

test("availability says what create will do", async () => {
  const { LanguageModel, verdict, hold } = model(text("x"));
  assert.equal(await LanguageModel.availability(), "downloadable");
  Object.assign(verdict, { stored: true });
  assert.equal(await LanguageModel.availability(), "available");
  Object.assign(verdict, { ok: false });
  assert.equal(await LanguageModel.availability(), "unavailable");
  for (const type of /** @type {const} */ (["audio", "image"]))
    assert.equal(await LanguageModel.availability({ expectedInputs: [{ type }] }), "unavailable");
  assert.equal(await LanguageModel.availability({ expectedOutputs: [{ type: "image" }] }), "unavailable");
  const go = hold();
  const creating = LanguageModel.create();
  await sleep(5);
  assert.equal(
    await LanguageModel.availability({ expectedInputs: [{ type: "text", languages: ["en"] }] }),
    "downloading",
  );
  go();
  (await creating).destroy();
  await assert.rejects(
    LanguageModel.availability({ expectedInputs: [{ type: "text", languages: ["not a tag"] }] }),
    RangeError,
  );
  await assert.rejects(LanguageModel.availability({ expectedInputs: [{ type: untyped("smell") }] }), TypeError);
});

test("progress is told from 0 to 1, each more than the last, and no more after create is done or aborted", async () => {
  const { LanguageModel } = model(text("x"));
  for (const _ of ["downloads", "is there"]) {
    const told = /** @type {number[]} */ ([]);
    let handled = 0;
    await LanguageModel.create({
      monitor(m) {
        m.addEventListener("downloadprogress", (e) => {
          const { loaded, total } = /** @type {ProgressEvent} */ (e);
          assert.equal(total, 1);
          told.push(loaded);
        });
        m.ondownloadprogress = () => void handled++;
      },
    });
    assert.deepEqual([told[0], told.at(-1)], [0, 1]);
    assert.deepEqual(
      told,
      [...new Set(told)].sort((a, b) => a - b),
    );
    assert.equal(handled, told.length);
  }
  for (const at of [0, 1]) {
    const other = model(text("x"));
    const stop = new AbortController();
    const reason = new Error("test");
    let after = 0;
    const creating = other.LanguageModel.create({
      signal: stop.signal,
      monitor: (m) =>
        m.addEventListener("downloadprogress", (e) => {
          if (stop.signal.aborted) after++;
          if (/** @type {ProgressEvent} */ (e).loaded === at) queueMicrotask(() => stop.abort(reason));
        }),
    });
    await assert.rejects(creating, (e) => e === reason);
    await sleep(20);
    assert.equal(after, 0);
  }
});

test("what cannot be created is refused", async () => {
  const { LanguageModel, fail } = model(text("x"));
  const create = (/** @type {object} */ options) => LanguageModel.create(untyped(options));
  await assert.rejects(create({ expectedInputs: [{ type: "audio" }] }), named("NotSupportedError"));
  await assert.rejects(create({ initialPrompts: [USER("a"), SYSTEM] }), TypeError);
  await assert.rejects(create({ initialPrompts: [{ role: "robot", content: "a" }] }), TypeError);
  await assert.rejects(create({ samplingMode: "wild" }), TypeError);
  await assert.rejects(create({ samplingMode: "creative", topK: 3 }), TypeError);
  await assert.rejects(create({ temperature: -1 }), RangeError);
  await assert.rejects(create({ topK: 0 }), RangeError);
  await assert.rejects(create({ tools: [{ name: "a", inputSchema: {} }] }), TypeError);
  await assert.rejects(create({ initialPrompts: [USER("word ".repeat(WINDOW + 1))] }), (/** @type {any} */ e) => {
    assert.deepEqual([e.name, e.quota], ["QuotaExceededError", WINDOW]);
    return e.requested > WINDOW;
  });
  const other = model(text("x"));
  for (const [code, name] of /** @type {const} */ ([
    ["network", "NetworkError"],
    ["out-of-memory", "NotSupportedError"],
    ["internal", "OperationError"],
  ])) {
    other.fail(new PagelmError(code, "no"));
    await assert.rejects(other.LanguageModel.create(), named(name));
  }
  fail(null);
  await create({});
});

test("prompts go on from what was said, and count", async () => {
  const { LanguageModel, asked } = model(text("Par", "is"), text("Rome"));
  const made = await LanguageModel.create({
    initialPrompts: [
      SYSTEM,
      USER("hello"),
      {
        role: "assistant",
        content: [
          { type: "text", value: "hel" },
          { type: "text", value: "lo" },
        ],
      },
    ],
  });
  const initial = [SYSTEM, USER("hello"), { role: "assistant", content: "hello" }];
  assert.equal(made.contextUsage, 9, "a token for each word and role");
  assert.equal(await made.prompt("Capital of France?"), "Paris");
  assert.equal(made.contextUsage, 12 + 5 - 2, "of what the model read and wrote, without what it thought");
  assert.equal(await made.prompt([USER("And of"), USER("Italy?")]), "Rome");
  assert.deepEqual(asked()[0].messages, [...initial, USER("Capital of France?")]);
  const paris = { role: "assistant", content: "Paris" };
  assert.deepEqual(asked()[1].messages, [
    ...initial,
    USER("Capital of France?"),
    paris,
    USER("And of"),
    USER("Italy?"),
  ]);
  await assert.rejects(made.prompt([SYSTEM]), TypeError);
});

test("odd inputs are what WebIDL makes of them", async () => {
  const { session: made, asked } = await session(text("x"));
  assert.equal(await made.prompt([]), "x");
  await made.prompt(untyped({}));
  await made.prompt([{ role: "user", content: [] }]);
  assert.deepEqual(
    asked().map(({ messages }) => messages.at(-1).content),
    ["", "[object Object]", ""],
  );
  const rejects = (/** @type {unknown} */ input, /** @type {any} */ error) =>
    assert.rejects(made.prompt(untyped(input)), error);
  await rejects([{ role: "user" }], TypeError);
  await rejects([{ role: "user", content: [{ type: "text", value: 5 }] }], TypeError);
  await rejects([{ role: "user", content: [{ type: "image", value: new Blob([]) }] }], named("NotSupportedError"));
  await rejects([{ role: "assistant", content: [{ type: "image", value: new Blob([]) }] }], named("NotSupportedError"));
  await rejects([{ role: "user", content: "a", prefix: true }], named("SyntaxError"));
  await rejects([{ role: "assistant", content: "a", prefix: true }, USER("b")], named("SyntaxError"));
});

test("a system prompt may come with the first prompt or append, and never later", async () => {
  for (const first of /** @type {const} */ (["prompt", "append"])) {
    const { session: made, asked } = await session(text("x"));
    /** @type {import("../../src/prompt-api.ts").Message[]} */
    const messages = [SYSTEM, USER("a")];
    await made[first](messages);
    await made.prompt("b");
    assert.deepEqual(asked()[1].messages[0], SYSTEM);
    await assert.rejects(made[first]([SYSTEM]), TypeError);
  }
});

test("an answer that has a beginning goes on from it", async () => {
  const { session: made, asked } = await session(text("name = 1"), text("x"));
  assert.equal(await made.prompt([USER("TOML"), { role: "assistant", content: "```\n", prefix: true }]), "name = 1");
  assert.equal(asked()[0].continue_final_message, true);
  await made.prompt("b");
  assert.deepEqual(asked()[1].messages[1], { role: "assistant", content: "```\nname = 1" });
});

test("streams give pieces, wait for who reads, and can be left", async () => {
  const { session: made, made: engines } = await session(
    text("a", "b", "c"),
    { ...text(...Array(50).fill("w ")), hang: true },
    text("z"),
  );
  const pieces = [];
  for await (const piece of untyped(made.promptStreaming("Hi"))) pieces.push(piece);
  assert.deepEqual(pieces, ["a", "b", "c"]);
  const reader = made.promptStreaming("More").getReader();
  assert.equal((await reader.read()).value, "w ");
  await reader.cancel();
  assert.equal(await made.prompt("Again"), "z");
  assert.ok(engines[0]?.stopped());
  const failed = made.promptStreaming(untyped([{ role: "robot", content: "x" }])).getReader();
  await assert.rejects(failed.read(), TypeError);
});

test("aborts reject with their reason, and leave the session as it was", async () => {
  await aborts((signal) => model(text("x")).LanguageModel.create({ signal }));
  const { session: made, asked } = await session({ ...text("x"), hang: true });
  await aborts((signal) => made.prompt("a", { signal }));
  await aborts((signal) => made.append("a", { signal }));
  await aborts((signal) => made.clone({ signal }));
  await aborts((signal) => made.measureContextUsage("a", { signal }));
  await aborts((signal) => made.promptStreaming("a", { signal }).getReader().read());
  assert.equal(made.contextUsage, 0);
  const count = asked().length;
  const stop = new AbortController();
  const first = made.prompt("b", { signal: stop.signal });
  const queued = made.prompt("c", { signal: stop.signal });
  await sleep(5);
  stop.abort();
  await assert.rejects(first, named("AbortError"));
  await assert.rejects(queued, named("AbortError"));
  assert.equal(asked().length, count + 1, "what was queued was not asked");
});

test("a destroyed session rejects what runs and what comes, and its figures stay", async () => {
  const { session: made, made: engines } = await session({ ...text("x"), hang: true });
  const running = made.prompt("a");
  const stream = made.promptStreaming("b").getReader().read();
  made.destroy();
  for (const promise of [running, stream, made.prompt("c"), made.clone(), made.measureContextUsage("d")])
    await assert.rejects(promise, named("InvalidStateError"));
  assert.deepEqual([made.contextWindow, made.contextUsage], [WINDOW, 0]);
  await sleep(5);
  assert.equal(engines[0]?.engine.ended?.code, "disposed", "nobody uses the model any more");
});

test("the signal of create ends the session, and the model stays as long as a session does", async () => {
  const { LanguageModel, made } = model(text("x"));
  const stop = new AbortController();
  const one = await LanguageModel.create({ signal: stop.signal });
  const two = await one.clone();
  stop.abort();
  await assert.rejects(one.prompt("a"), named("AbortError"));
  await sleep(5);
  assert.equal(await two.prompt("a"), "x");
  two.destroy();
  await sleep(5);
  assert.ok(untyped(made[0]).engine.ended);
  assert.equal(await (await LanguageModel.create()).prompt("a"), "x");
  assert.equal(made.length, 2);
});

test("a clone goes on by itself", async () => {
  const { session: made, asked } = await session(text("1"), text("2"), text("3"));
  await made.prompt("a");
  const other = await made.clone();
  assert.ok(Object.getPrototypeOf(other) === Object.getPrototypeOf(made));
  assert.equal(other.contextUsage, made.contextUsage);
  await other.prompt("b");
  await made.prompt("c");
  assert.deepEqual(
    asked().map(({ messages }) =>
      messages.filter((/** @type {any} */ m) => m.role === "user").map((/** @type {any} */ m) => m.content),
    ),
    [["a"], ["a", "b"], ["a", "c"]],
  );
});

test("append reads ahead, and is answered later", async () => {
  const { session: made, asked } = await session(text("x"));
  assert.equal(await made.append("one two"), undefined);
  assert.equal(made.contextUsage, 12);
  await made.prompt("three");
  assert.deepEqual([asked()[0].max_tokens, asked()[0].messages], [1, [USER("one two")]]);
  assert.deepEqual(asked()[1].messages, [USER("one two"), USER("three")]);
});

test("the oldest turns go when the window is full, and an event tells so", async () => {
  const { LanguageModel, asked } = model(text("x"));
  const made = await LanguageModel.create({ initialPrompts: [SYSTEM] });
  const events = /** @type {string[]} */ ([]);
  for (const name of ["contextoverflow", "quotaoverflow"]) made.addEventListener(name, () => void events.push(name));
  made.oncontextoverflow = ({ type }) => void events.push(`on${type}`);
  await made.prompt("first ".repeat(25));
  await made.prompt("second ".repeat(15));
  assert.deepEqual(events, []);
  await made.prompt("third ".repeat(15));
  assert.deepEqual(events, ["contextoverflow", "oncontextoverflow", "quotaoverflow"]);
  const sent = asked()[2].messages;
  assert.deepEqual(sent[0], SYSTEM);
  assert.match(sent[1].content, /^second/);
  const long = "word ".repeat(WINDOW);
  await assert.rejects(made.prompt(long), (/** @type {any} */ e) => {
    assert.equal(e.name, "QuotaExceededError");
    assert.equal(e.quota, WINDOW);
    return e.requested > WINDOW;
  });
  await made.prompt("fourth");
  assert.match(asked().at(-1).messages[1].content, /^second/, "what did not fit removed nothing");
});
