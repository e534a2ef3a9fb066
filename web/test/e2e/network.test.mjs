// What goes wrong between a page and the servers of its models and scripts, as browsers tell it.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { BROWSERS } from "../../tools/browsers.mjs";
import { serve } from "../../tools/serve.mjs";
import { golden, SMOLLM, start, TINY } from "./setup.mjs";

const prompt = golden.prompts.find((/** @type {{ greedy?: object }} */ p) => p.greedy);

const models = new URL("../../../tests/golden", import.meta.url).pathname;
const one = { isolated: false, load: { backend: "cpu", wasmBuild: "base" } };
const [silent, others] = [
  await serve({ mounts: { "/golden": models }, isolated: false, cors: false }),
  await serve({ mounts: { "/golden": models }, isolated: false }),
];
after(() => Promise.all([silent.close(), others.close()]));

for (const browser of BROWSERS) {
  test(`${browser}: a page is told why a model does not come`, async (t) => {
    const c = await start(browser, one);
    const load = (/** @type {string} */ model, more = {}) => c.call("load", { model, ...more });

    await t.test("a server that does not let the page read (CORS)", async () => {
      await assert.rejects(load(silent.url + TINY), {
        code: "network",
        message: /the server answers, but not to pages of http:.*CORS.*Access-Control-Allow-Origin/,
      });
      await load(others.url + TINY);
    });

    await t.test("a port at which nobody is", async () => {
      const gone = await serve({ mounts: { "/golden": models } });
      await gone.close();
      await assert.rejects(load(gone.url + TINY), { code: "network", message: /is there a server at http:/ });
    });

    await t.test("a name that was taken for a path", async () => {
      const message = /404.*owner\/name was taken for a path beside this page.*hf:OWNER\/NAME/;
      await assert.rejects(load("owner/name"), { code: "http-status", message });
    });

    await t.test("a page's own fetch function brings all of a model", async () => {
      const options = { ...one.load, backend: /** @type {const} */ ("cpu"), wasmBuild: /** @type {const} */ ("base") };
      const exact = { ...options, activations: /** @type {const} */ ("f32"), kvType: /** @type {const} */ ("f32") };
      const seen = await c.call("ownFetch", TINY, `/fault/slow${TINY}?bytes=2000&ms=20`, exact, prompt.ids);
      assert.deepEqual(seen.ids, prompt.greedy.tokens.slice(0, 8));
      assert.deepEqual([seen.ok, seen.code, seen.stopped, seen.source.stored], [true, "aborted", true, true]);
      assert.ok(seen.asked.length >= 3 && seen.asked.every((a) => a === "https://nowhere.invalid/own.gguf 1"));
      assert.equal(seen.refused, 'invalid-argument: fetch must return a Response, returned "text"');
    });

    await t.test("a server that sends parts of at most so many bytes", async () => {
      const before = c.server.requests.length;
      const { last } = await load(`/fault/capped${TINY}`);
      assert.equal(last?.phase, "ready");
      const asked = c.server.requests.slice(before).filter((r) => r.path.endsWith(".gguf"));
      assert.ok(asked.length > 1);
      assert.ok(asked.every((r) => r.status === 206));
      assert.equal((await c.call("canRun", `/fault/capped${TINY}`, { wasmBuild: "base" })).ok, true);
    });

    await t.test("a busy server that says when to come again", async () => {
      const startedAt = performance.now();
      const { stalled } = await load(`/fault/busy${TINY}`);
      assert.ok(performance.now() - startedAt >= 1000);
      assert.equal(stalled, true);
      assert.equal((await load(TINY)).stalled, false);
    });

    await t.test("a stopped load has the name that fetch gives it", async () => {
      const slow = `/fault/slow${TINY}?bytes=2000&ms=20`;
      await assert.rejects(load(slow, { stopAfterMs: 300 }), { code: "aborted", name: "TimeoutError" });
    });

    await t.test("calls with wrong arguments are refused where they are wrong, and the engine goes on", async () => {
      await load(TINY);
      const places = ["prompt", "prompt", "prompt[1]", "prompt[0]", "temprature", "text", "addSpecal", "tokens"];
      const more = ["showSpecial", "messages", "tools", "dept", "reps", "tokens[0]", "token", "next", "length"];
      const rest = ["model", "threads", "last", "wasmURL", "the argument"];
      assert.deepEqual(await c.call("wrongCalls"), [...places, ...more, ...rest]);
      assert.equal((await c.call("generate", [1, 2], { maxTokens: 2, ignoreEos: true })).ids.length, 2);
    });

    await t.test("the signal of a chat's second argument stops it", { timeout: 300_000 }, async () => {
      await load(SMOLLM, { activations: "q8", contextLength: 512 });
      const messages = [{ role: /** @type {const} */ ("user"), content: "Count to a thousand." }];
      const seen = await c.call("stoppedChat", { messages, temperature: 0 }, 200);
      const { chunks, ...end } = seen;
      assert.deepEqual(end, { name: "TimeoutError", code: "aborted", cause: "TimeoutError" });
      assert.ok(chunks < 400);
    });
  });

  test(`${browser}: a content security policy is named, with what it lacks`, async (t) => {
    for (const [policy, load, code, message] of /** @type {const} */ ([
      ["connect-src 'self'", { model: others.url + TINY }, "network", /allow http:\/\/localhost:\d+ in connect-src/],
      ["script-src 'self'", { model: TINY }, "engine-not-loaded", /allow 'wasm-unsafe-eval' in script-src/],
      ["worker-src 'none'", { model: TINY }, "engine-not-loaded", /allow 'self' in worker-src/],
    ])) {
      await t.test(policy, async () => {
        const c = await start(browser, { ...one, headers: { "Content-Security-Policy": policy } });
        await assert.rejects(c.call("load", load), (/** @type {import("pagelm").PagelmError} */ e) => {
          assert.equal(e.code, code, e.message);
          assert.match(e.message, message);
          return true;
        });
      });
    }
  });
}
