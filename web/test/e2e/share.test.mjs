// Tabs of one origin that share an engine: one has it, and when it goes, another goes on.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { BROWSERS } from "../../tools/browsers.mjs";
import { concurrency, images, sequences } from "./cases.mjs";
import { golden, start, TINY } from "./setup.mjs";

/** @typedef {import("./share.js").Tab} Tab */
/** @typedef {Awaited<ReturnType<typeof open>>} Opened */

const prompt = golden.prompts[0].ids;
const LOAD = { model: TINY, contextLength: 1024, cacheTokens: 4096 };
const TEXT = { maxTokens: 120, ignoreEos: true, temperature: 0.8, seed: 1 };
const STREAM = { maxTokens: 120, temperature: 0.8, seed: 2 };

/** @param {Awaited<ReturnType<typeof start>>} c */
async function open(c) {
  const page = await c.browser.open(new URL("/share.html", c.server.url).href);
  await page.waitForFunction(() => "tab" in globalThis);
  /**
   * @template {keyof Tab} K @param {K} method @param {Parameters<Tab[K]>} args
   * @returns {Promise<Awaited<ReturnType<Tab[K]>>>}
   */
  const call = (method, ...args) =>
    page.evaluate(
      ([method, args]) => /** @type {any} */ (globalThis).tab[method](...args),
      /** @type {const} */ ([method, args]),
    );
  return { page, call };
}

/** Waits until it is so. @param {() => Promise<unknown>} so */
async function until(so) {
  while (!(await so())) await sleep(20);
}

/** Waits until so much of a request came. @param {Opened} tab @param {string} name @param {number} tokens */
async function taken(tab, name, tokens) {
  await until(async () => {
    const { ids, code } = await tab.call("seen", name);
    assert.equal(code, undefined);
    return ids.length >= tokens;
  });
}

/** The tab that has the engine, and the others. @param {Opened[]} tabs */
async function ranked(tabs) {
  const states = () => Promise.all(tabs.map((tab) => tab.call("state")));
  // One engine in all: its worker, and those of its threads.
  const wrong = (/** @type {Awaited<ReturnType<typeof states>>} */ all) =>
    all.filter(({ roles }) => roles.at(-1) === "leader").length !== 1 ||
    all.some(({ roles, workers }) => workers > 0 !== (roles.at(-1) === "leader"));
  // Workers that are told to end have a moment for it: a second where the browser slows down the timers of hidden tabs.
  let now = await states();
  for (let tries = 0; tries < 250 && wrong(now); tries++) {
    await sleep(20);
    now = await states();
  }
  assert.ok(!wrong(now), JSON.stringify(now));
  const leading = now.findIndex(({ roles }) => roles.at(-1) === "leader");
  return { leader: /** @type {Opened} */ (tabs[leading]), others: tabs.filter((_, i) => i !== leading) };
}

/** Begins a generation and a stream, of which tokens wait to be taken. @param {Opened} tab @param {number} most */
async function begin(tab, most) {
  await tab.call("ask", "text", prompt, TEXT, most);
  await tab.call("ask", "stream", prompt, STREAM, most, true);
}

for (const name of BROWSERS) {
  test(`${name}: tabs share an engine`, { timeout: 600_000 }, async (t) => {
    const c = await start(name);
    const first = await open(c);
    let tabs = [first, await open(c), await open(c)];
    await first.call("load", { ...LOAD, alone: true });
    await begin(first, 1000);
    const want = { text: await first.call("finish", "text"), stream: await first.call("finish", "stream") };
    assert.deepEqual([want.text.ids.length, want.stream.end], [120, "whole"]);
    await first.call("dispose");
    const whole = async (/** @type {Opened} */ tab, what = "") => {
      const got = { text: await tab.call("finish", "text"), stream: await tab.call("finish", "stream") };
      assert.deepEqual(got, want, what);
    };

    await t.test("one engine answers all tabs, each as it would alone", async () => {
      const before = c.server.requests.length;
      const infos = await Promise.all(tabs.map((tab) => tab.call("load", LOAD)));
      const loads = c.server.requests.slice(before).filter(({ path }) => path === TINY);
      assert.ok(loads.length <= 1, JSON.stringify(loads));
      for (const info of infos) assert.deepEqual(info, infos[0]);
      await ranked(tabs);
      // The page of one does not take what comes: the others go on.
      await Promise.all(tabs.map((tab, i) => begin(tab, i ? 1000 : 20)));
      await Promise.all(tabs.slice(1).map((tab) => whole(tab)));
      const [slow] = /** @type {[Opened]} */ (/** @type {unknown} */ (tabs));
      assert.equal((await slow.call("seen", "text")).ids.length, 20);
      await whole(slow);
    });

    await t.test(`a tab that closes or crashes leaves its answers to others, and takes only its own`, async () => {
      await Promise.all(tabs.map((tab) => begin(tab, 60)));
      await Promise.all(tabs.map((tab) => taken(tab, "text", 60)));
      const { leader, others } = await ranked(tabs);
      await kill(name, leader.page);
      await Promise.all(others.map((tab) => whole(tab, "after the leader")));
      const next = await ranked(others);
      // Now one that has no engine.
      tabs = [...others, await open(c)];
      await tabs[2]?.call("load", LOAD);
      await Promise.all(tabs.map((tab) => begin(tab, 40)));
      await Promise.all(tabs.map((tab) => taken(tab, "stream", 40)));
      const [follower] = /** @type {[Opened]} */ (/** @type {unknown} */ (next.others));
      await follower.call("openSession", prompt);
      await follower.page.close();
      tabs = tabs.filter((tab) => tab !== follower);
      assert.equal((await ranked(tabs)).leader, next.leader);
      await Promise.all(tabs.map((tab) => whole(tab, "after a follower")));
      tabs.push(await open(c));
      await tabs[2]?.call("load", LOAD);
    });

    await t.test("an engine that is disposed of in one tab runs on in the others", async () => {
      await Promise.all(tabs.map((tab) => begin(tab, 30)));
      await Promise.all(tabs.map((tab) => taken(tab, "text", 30)));
      const { leader, others } = await ranked(tabs);
      await leader.call("dispose");
      await Promise.all(others.map((tab) => whole(tab)));
      assert.match((await leader.call("finish", "text")).code ?? "", /^disposed/);
      await ranked(others);
      await leader.call("load", LOAD);
      await ranked(tabs);
    });

    await t.test("a worker that ends is replaced, and each tab is told", async () => {
      await Promise.all(tabs.map((tab) => begin(tab, 30)));
      await Promise.all(tabs.map((tab) => taken(tab, "stream", 30)));
      const { leader } = await ranked(tabs);
      await leader.call("terminate");
      await Promise.all(tabs.map((tab) => whole(tab)));
      await ranked(tabs);
      const told = (await Promise.all(tabs.map((tab) => tab.call("state")))).map(({ told }) => told);
      assert.ok(told.flat().includes("recovered worker-lost"), JSON.stringify(told));
    });

    await t.test("a tab with many requests does not keep another one waiting", async () => {
      const { leader, others } = await ranked(tabs);
      const [other] = /** @type {[Opened]} */ (/** @type {unknown} */ (others));
      const many = ["a", "b", "c", "d"];
      for (const name of many) await leader.call("ask", name, prompt, { ...TEXT, maxTokens: 900 });
      await taken(leader, "a", 5);
      await begin(other, 1000);
      await whole(other);
      const seen = await Promise.all(many.map((name) => leader.call("seen", name)));
      assert.ok(
        seen.some(({ end }) => end === ""),
        JSON.stringify(seen.map(({ ids }) => ids.length)),
      );
      // Those that made way go on.
      const all = await Promise.all(many.map((name) => leader.call("finish", name)));
      for (const one of all) assert.deepEqual(one, all[0]);
      assert.equal(all[0]?.ids.length, 900);
    });

    await t.test("sessions are lost with the tab that has them, and say so", async () => {
      const { leader, others } = await ranked(tabs);
      const [other] = /** @type {[Opened]} */ (/** @type {unknown} */ (others));
      const token = await other.call("openSession", prompt);
      assert.equal(await leader.call("openSession", prompt), token);
      const [one, two] = await other.call("restored", token);
      assert.equal(one, two);
      assert.equal(await other.call("decode", token), one);
      await leader.call("dispose");
      await until(async () => (await Promise.all(others.map((tab) => tab.call("state")))).some((s) => s.workers > 0));
      assert.match(String(await other.call("decode", token)), /^worker-lost: .*open another one, from a snapshot/);
      assert.equal(await other.call("openSession", prompt), token);
      assert.equal(await other.call("decode", token), one);
      await leader.call("load", LOAD);
    });

    if (name === "chromium") {
      await t.test("a tab that is frozen gives the engine up, and goes on when it is back", async () => {
        await Promise.all(tabs.map((tab) => begin(tab, 30)));
        await Promise.all(tabs.map((tab) => taken(tab, "text", 30)));
        const { leader, others } = await ranked(tabs);
        const debug = await leader.page.context().newCDPSession(leader.page);
        await debug.send("Page.setWebLifecycleState", { state: "frozen" });
        await Promise.all(others.map((tab) => whole(tab)));
        await debug.send("Page.setWebLifecycleState", { state: "active" });
        await whole(leader);
        await ranked(tabs);
      });
    }
    for (const tab of tabs) await tab.call("dispose");

    await t.test("tabs that ask for other options, or another model, have engines of their own", async () => {
      const [a, b] = /** @type {[Opened, Opened]} */ (/** @type {unknown} */ (tabs));
      await a.call("load", LOAD);
      assert.equal((await b.call("load", { ...LOAD, contextLength: 512 })).contextLength, 512);
      const states = await Promise.all([a, b].map((tab) => tab.call("state")));
      for (const { roles, workers } of states) assert.deepEqual([roles.at(-1), workers > 0], ["leader", true]);
      for (const tab of [a, b]) await tab.call("dispose");
    });

    for (const { page } of tabs) assert.deepEqual(page.errors, []);
  });

  if (name === "chromium") {
    test("chromium: an engine on the GPU goes on in another tab", { timeout: 300_000 }, async () => {
      const c = await start(name);
      const [a, b] = [await open(c), await open(c)];
      const load = /** @type {const} */ ({ model: TINY, backend: "webgpu" });
      const params = { ...TEXT, maxTokens: 60 };
      await a.call("load", { ...load, alone: true });
      await a.call("ask", "text", prompt, params);
      const want = await a.call("finish", "text");
      assert.equal(want.ids.length, 60);
      for (const tab of [a, b]) await tab.call("load", load);
      // Some come ahead of what is taken.
      await b.call("ask", "text", prompt, params, 5);
      await taken(b, "text", 5);
      await kill(name, a.page);
      assert.deepEqual(await b.call("finish", "text"), want);
      assert.deepEqual((await b.call("state")).roles, ["follower", "leader"]);
    });
  }

  test(`${name}: what one tab can, tabs can that use the engine of another`, { timeout: 600_000 }, async (t) => {
    const c = await start(name, { load: { shared: true } });
    await sequences(t, c, "cpu");
    await concurrency(t, c, "cpu");
    await images(t, c, "cpu");
    assert.deepEqual(c.page.errors, []);
  });
}

/** Ends a page as when its process dies. @param {string} browser @param {import("../../tools/browsers.mjs").Page} page */
async function kill(browser, page) {
  if (browser !== "chromium") return page.close();
  const session = await page.context().newCDPSession(page);
  const gone = new Promise((crashed) => page.once("crash", crashed));
  void session.send("Page.crash").catch(() => {});
  await gone;
  await page.close();
}
