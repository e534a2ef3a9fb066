// React's hook in React itself: loads, conversations, StrictMode, Suspense and rendering on a server.
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Window } from "happy-dom";
import { calls, loader, scripted, text } from "./scripted.mjs";
import { source } from "./source.mjs";
import { untyped } from "./untyped.mjs";

// Before React looks whether there is a page.
const window = new Window();
Object.assign(globalThis, { window, document: window.document, IS_REACT_ACT_ENVIRONMENT: true });
if (!("navigator" in globalThis)) Object.assign(globalThis, { navigator: window.navigator });
const { act, Component, createElement, StrictMode, Suspense, useState } = await import("react");
const { createRoot } = await import("react-dom/client");
const { renderToString } = await import("react-dom/server");
const { PagelmError, usePagelm } = await source("react.ts");

/** @typedef {ReturnType<typeof usePagelm>} Shown */
/** @typedef {Parameters<typeof usePagelm>[0]} Options */

const OK = { ok: true, reason: null, code: null, best: null };
const unable = { ok: false, reason: "it needs 9 GB", code: "out-of-memory" };
let count = 0;
/** Options that nobody else has: models are shared. @param {ReturnType<typeof loader>} load @param {object} more */
const fresh = (load, more = {}) =>
  /** @type {Options} */ (
    untyped({ model: `/m${++count}.gguf`, create: load.create, canRun: async () => OK, ...more })
  );

/** @type {(() => Promise<void>)[]} */
const roots = [];
afterEach(async () => {
  for (const unmount of roots.splice(0)) await unmount();
});

/** What components saw, and what gives them other options. @typedef {{ seen: Shown[], change: (options: Options) => void }} Record */

/** @param {{ first: Options, record: Record }} props */
function Chat({ first, record }) {
  const [options, set] = useState(first);
  record.change = set;
  const shown = usePagelm(options);
  record.seen.push(shown);
  return createElement("p", null, shown.messages.map(({ content }) => content).join("|"));
}

/** @param {{ options: Options }} props */
function State({ options }) {
  const { status, messages } = usePagelm(options);
  return createElement("p", null, `${status} ${messages.length}`);
}

/** @extends {Component<{ children?: any }>} */
class Boundary extends Component {
  /** @override */
  state = { error: /** @type {any} */ (null) };
  static getDerivedStateFromError(/** @type {unknown} */ error) {
    return { error };
  }
  /** @override */
  render() {
    const { error } = this.state;
    const again = () => this.setState({ error: null });
    return error ? createElement("p", { onClick: again }, error.code) : this.props.children;
  }
}

/** What a component sees. @param {Options} first */
async function mount(first, { strict = true } = {}) {
  const record = /** @type {Record} */ ({ seen: [], change: () => {} });
  const { seen } = record;
  const chat = createElement(Chat, { first, record });
  const at = document.body.appendChild(document.createElement("div"));
  const root = createRoot(at);
  await act(async () => root.render(strict ? createElement(StrictMode, null, chat) : chat));
  const unmount = async () => {
    await act(async () => root.unmount());
    await sleep(5);
  };
  roots.push(unmount);
  return {
    at,
    seen,
    unmount,
    now: () => /** @type {Shown} */ (seen.at(-1)),
    states: () => seen.map(({ status }) => status).filter((status, i, all) => status !== all[i - 1]),
    change: (/** @type {Options} */ options) => act(async () => record.change(options)),
  };
}

/** Lets what was begun go on until it is so. @param {() => boolean} so */
async function until(so) {
  for (let i = 0; !so(); i++) {
    assert.ok(i < 400, "it never came to be");
    // React draws some things only at the end of each of these.
    await act(() => sleep(5));
  }
}

test("a model is checked, loaded once in StrictMode, and freed with the last component", async () => {
  const load = loader(text("Hello"));
  const options = fresh(load, { contextLength: 99, threads: 2 });
  const asked = /** @type {any[]} */ ([]);
  untyped(options).canRun = async (/** @type {any[]} */ ...given) => [OK, asked.push(given)][0];
  const chat = await mount(options);
  await until(() => chat.now().status === "ready");
  assert.deepEqual(chat.states(), ["idle", "checking", "loading", "ready"]);
  assert.equal(load.given.length, 1);
  assert.equal(load.given[0]?.contextLength, 99);
  assert.equal(chat.now().progress?.loaded, 100);
  assert.equal(chat.now().verdict?.ok, true);
  assert.equal(asked.length, 1);
  const [model, { signal, ...given }] = asked[0];
  assert.ok(signal instanceof AbortSignal);
  assert.deepEqual([model, given], [untyped(options).model, { contextLength: 99 }]);
  const second = await mount({ ...options });
  assert.equal(second.now().status, "ready");
  assert.equal(load.given.length, 1);
  await chat.unmount();
  assert.ok(!untyped(load.made[0]).engine.ended);
  await second.unmount();
  assert.equal(load.made[0]?.engine.ended?.code, "disposed");
});

test("a component that goes while the model loads ends the load, and one that comes back loads it", async () => {
  const load = loader(text("Hello"));
  const options = fresh(load);
  const chat = await mount(options);
  await until(() => load.given.length === 1);
  await chat.unmount();
  assert.ok(load.given[0]?.signal?.aborted);
  const again = await mount(options);
  await until(() => again.now().status === "ready");
  assert.equal(load.given.length, 2);
});

test("a model that cannot run is not downloaded, unless one asks for it", async () => {
  const load = loader(text("Hello"));
  const chat = await mount(fresh(load, { canRun: async () => unable }));
  await until(() => chat.now().status === "unable");
  assert.equal(chat.now().error?.code, "out-of-memory");
  await act(() => chat.now().send("Hi"));
  assert.equal(chat.now().messages.at(-1)?.state, "failed");
  assert.equal(load.given.length, 0);
  await act(() => chat.now().load());
  assert.equal(chat.now().status, "ready");
});

test("`asked` checks, and loads with the first question", async () => {
  const load = loader(text("Hel", "lo"));
  const chat = await mount(fresh(load, { load: "asked" }));
  await until(() => chat.now().verdict !== null);
  assert.equal(chat.now().status, "idle");
  assert.equal(load.given.length, 0);
  await act(() => chat.now().send("Hi"));
  assert.deepEqual(chat.states(), ["idle", "checking", "idle", "loading", "answering", "ready"]);
  assert.equal(chat.at.textContent, "Hi|Hello");
  const { messages, usage } = chat.now();
  assert.deepEqual(
    messages.map(({ id: _, ...rest }) => rest),
    [
      { role: "user", content: "Hi", state: "done" },
      { role: "assistant", content: "Hello", state: "done", finishReason: "stop" },
    ],
  );
  assert.equal(usage?.completion_tokens, 5);
  assert.equal(new Set(messages.map(({ id }) => id)).size, 2);
});

test("a load that failed says why, and can be tried again", async () => {
  const load = loader(text("Hello"));
  load.fail(new PagelmError("network", "offline"));
  const chat = await mount(fresh(load, { check: false }));
  await until(() => chat.now().status === "failed");
  assert.equal(chat.now().error?.code, "network");
  load.fail(null);
  await act(() => chat.now().load());
  const { status, error } = chat.now();
  assert.deepEqual([status, error], ["ready", null]);
  const checks = loader();
  const refused = () => Promise.reject(new PagelmError("http-status", "404"));
  const other = await mount(fresh(checks, { canRun: refused }));
  await until(() => other.now().status === "failed");
  assert.equal(other.now().error?.code, "http-status");
  assert.equal(checks.given.length, 0);
});

test("a conversation goes on: parameters, the words before, another answer, another beginning", async () => {
  const { engine, asked } = scripted(text("One"), text("Two"), text("Three"), text("Four"));
  const system = { role: /** @type {const} */ ("system"), content: "Count." };
  const options = { engine, initialMessages: [system], params: { temperature: 0, seed: 1 } };
  const chat = await mount(options);
  assert.equal(chat.now().status, "ready");
  await act(() => chat.now().send("a"));
  await act(() => chat.now().send("b"));
  const user = (/** @type {string} */ content) => ({ role: "user", content });
  assert.deepEqual(asked[1].messages, [system, user("a"), { role: "assistant", content: "One" }, user("b")]);
  assert.deepEqual([asked[1].temperature, asked[1].seed], [0, 1]);
  await chat.change({ ...options, params: { temperature: 1 } });
  await act(() => chat.now().regenerate());
  assert.deepEqual(asked[2].messages, asked[1].messages);
  assert.equal(asked[2].temperature, 1);
  assert.equal(chat.at.textContent, "Count.|a|One|b|Three");
  await act(async () => chat.now().setMessages([]));
  await act(() => chat.now().regenerate());
  assert.equal(chat.now().error?.code, "invalid-state");
  await act(() => chat.now().send("c"));
  assert.deepEqual(asked[3].messages, [user("c")]);
  assert.equal(chat.now().error, null);
});

test("questions wait for the answer before them", async () => {
  const { engine, asked } = scripted(text("One"), text("Two"));
  const chat = await mount({ engine });
  await act(() => Promise.all([chat.now().send("a"), chat.now().send("b")]));
  assert.equal(chat.at.textContent, "a|One|b|Two");
  assert.equal(asked[1].messages.length, 3);
});

test("an answer that is stopped stays as far as it came, and what is asked next knows it", async () => {
  const { engine, asked, stopped } = scripted({ ...text("Hel", "lo"), hang: true }, text("Yes"));
  const chat = await mount({ engine });
  void chat.now().send("Hi");
  await until(() => chat.at.textContent === "Hi|Hello");
  assert.deepEqual([chat.now().status, chat.now().messages.at(-1)?.state], ["answering", "streaming"]);
  await act(async () => chat.now().stop());
  await until(() => chat.now().status === "ready");
  assert.equal(chat.now().messages.at(-1)?.state, "stopped");
  assert.equal(chat.now().error, null);
  assert.ok(stopped());
  await act(() => chat.now().send("Go on"));
  assert.equal(asked[1].messages[1].content, "Hello");
});

test("an answer that fails says why, and if nothing of it came it was never asked for", async () => {
  const { engine, asked } = scripted({ error: { code: "context_length_exceeded", message: "too long" } }, text("Yes"));
  const chat = await mount({ engine });
  await act(() => chat.now().send("Hi"));
  assert.equal(chat.now().error?.code, "context-overflow");
  assert.equal(chat.now().messages.at(-1)?.state, "failed");
  await act(() => chat.now().send("Shorter"));
  assert.equal(chat.now().error, null);
  assert.deepEqual(asked[1].messages, [{ role: "user", content: "Shorter" }]);
});

test("a component that goes ends its answer", async () => {
  const { engine, stopped } = scripted({ ...text("Hel"), hang: true });
  const chat = await mount({ engine });
  void chat.now().send("Hi");
  await until(() => chat.now().messages.at(-1)?.state === "streaming");
  await chat.unmount();
  assert.ok(stopped());
  assert.equal(engine.ended, null, "it is the caller's");
});

test("tools run, and their calls and results are messages", async () => {
  const { engine, asked } = scripted(calls("clock", "{}"), calls("none", "{}"), text("Noon"));
  const tools = [
    {
      type: /** @type {const} */ ("function"),
      function: { name: "clock", parameters: { type: "object" } },
      execute: () => "12:00",
    },
  ];
  const chat = await mount({ engine, tools });
  await act(() => chat.now().send("What time?"));
  const roles = chat.now().messages.map(({ role, state }) => [role, state]);
  assert.deepEqual(roles, [
    ["user", "done"],
    ["assistant", "done"],
    ["tool", "done"],
    ["assistant", "done"],
    ["tool", "failed"],
    ["assistant", "done"],
  ]);
  assert.equal(untyped(chat.now().messages[1]).tool_calls[0].function.name, "clock");
  assert.equal(chat.now().messages.at(-1)?.content, "Noon");
  await act(() => chat.now().send("Thanks"));
  const kept = asked.at(-1).messages;
  assert.deepEqual(kept.map((/** @type {any} */ m) => m.role).slice(0, 3), ["user", "assistant", "tool"]);
  assert.ok(kept.every((/** @type {any} */ m) => !("id" in m) && !("state" in m)));
});

test("another model takes the conversation over", async () => {
  const [one, two] = [loader(text("One")), loader(text("Two"))];
  const chat = await mount(fresh(one));
  await act(() => chat.now().send("a"));
  await chat.change(fresh(two));
  await until(() => chat.now().status === "ready");
  await act(() => chat.now().send("b"));
  assert.equal(chat.at.textContent, "a|One|b|Two");
  assert.equal(two.made[0]?.asked[0].messages.length, 3);
  await sleep(5);
  assert.equal(one.made[0]?.engine.ended?.code, "disposed");
});

test("functions that are new each time load nothing anew", async () => {
  const load = loader(text("One"));
  const options = fresh(load);
  const chat = await mount(options);
  await until(() => chat.now().status === "ready");
  await chat.change({ ...options, onProgress: () => {}, fetch: (url, init) => fetch(url, init) });
  assert.equal(chat.now().status, "ready");
  assert.equal(load.given.length, 1);
});

test("Suspense waits for the model, and its error is that of the boundary", async () => {
  const draw = async (/** @type {Options} */ options) => {
    const at = document.body.appendChild(document.createElement("div"));
    const root = createRoot(at, { onCaughtError: () => {} });
    const inside = createElement(Suspense, { fallback: "waits" }, createElement(State, { options }));
    await act(async () => root.render(createElement(StrictMode, null, createElement(Boundary, null, inside))));
    roots.push(async () => act(async () => root.unmount()));
    return at;
  };
  const load = loader();
  const go = load.hold();
  const at = await draw(fresh(load, { suspense: true }));
  assert.equal(at.textContent, "waits");
  go();
  await until(() => at.textContent === "ready 0");
  assert.equal(load.given.length, 1);
  const failing = loader();
  failing.fail(new PagelmError("network", "offline"));
  const failed = await draw(fresh(failing, { suspense: true }));
  await until(() => failed.textContent === "network");
  failing.fail(null);
  await act(async () => untyped(failed.firstChild).dispatchEvent(new window.Event("click", { bubbles: true })));
  await until(() => failed.textContent === "ready 0");
});

test("a server renders it, and loads nothing", () => {
  const page = globalThis.window;
  Reflect.deleteProperty(globalThis, "window");
  try {
    const load = loader();
    const options = fresh(load, { suspense: true });
    assert.equal(renderToString(createElement(State, { options })), "<p>idle 0</p>");
    assert.equal(load.given.length, 0);
  } finally {
    globalThis.window = page;
  }
});
