// Client libraries that many programs use, each in a page on `engine.fetch` and in Node on `pagelm serve`: what they make
// of a model's answers is right, and the same in both.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { launch } from "../../tools/browsers.mjs";
import { cache } from "../../tools/cache.mjs";
import { serve } from "../../tools/serve.mjs";
import { skip } from "../skipped.mjs";
import { answers, flows, requests } from "./flows.mjs";

const MODEL = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf";
/** What flows give that have such a name. */
const RIGHT = /** @type {[string, RegExp][]} */ ([
  ["models", /"object":"model"/],
  ["several answers", /^\[\[0,true,"\w+"\],\[1,true,"\w+"\]\]$/],
  ["structured output", /^\{"name":"\w+","inhabitants":\d+,"capital":(true|false)\}$/],
  ["tools", /("asked":\["Paris"|"args":\{"city":"Paris"\})/],
  // The client of OpenAI ends a stream that is aborted as if it were over.
  ["openai: abort", /^\{"seen":3,"error":"none"\}$/],
  ["abort", /^\{"seen":3,"error":"AbortError"\}$/],
  ["errors", /("known":true.*){6}/],
  ["completions", /return a \+ b/],
  ["responses", /Paris.*"events":\["response\.created".*"response\.completed"\]/],
  ["", /capital of France is Paris/],
]);
/** Without what is another one each time: ids, times, and what of a prompt was read before. @param {unknown} answer */
const timeless = (answer) =>
  JSON.parse(
    JSON.stringify(answer, (name, value) => {
      if (["created", "created_at", "completed_at", "extra", "cached_tokens"].includes(name)) return 0;
      return /(^|_)id$/.test(name) && typeof value === "string" ? value.replace(/_.*|-.*/, "") : value;
    }),
  );
const at = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));

/** The address of a server of the command. @param {string} model */
async function native(model) {
  execFileSync("cargo", ["build", "--locked", "--workspace", "--bin", "pagelm"], {
    cwd: at("../../.."),
    stdio: "inherit",
  });
  const target = process.env.CARGO_TARGET_DIR ?? at("../../../target");
  const args = ["serve", "--model", model, "--backend", "cpu", "--port", "0", "--name", "m"];
  const server = spawn(join(target, "debug/pagelm"), args, { stdio: ["ignore", "ignore", "pipe"] });
  after(() => server.kill());
  for await (const line of createInterface({ input: server.stderr })) {
    const [address] = /http:\/\/\S+/.exec(line) ?? [];
    if (address) return address;
  }
  throw new Error("pagelm serve ended before it listened");
}

test("clients get the same from a page and from a server", { timeout: 900_000 }, async (t) => {
  const model = join(cache, "models", MODEL);
  if (!existsSync(model)) return skip(t, `${MODEL} is not downloaded`);
  const made = mkdtempSync(join(tmpdir(), "pagelm-clients-"));
  await build({
    entryPoints: [at("page.mjs")],
    outfile: join(made, "clients.js"),
    bundle: true,
    format: "esm",
    external: ["/dist/*"],
    // The package as it is built.
    tsconfigRaw: {},
  });
  const mounts = {
    "/": at("."),
    "/dist": at("../../dist"),
    "/models": join(cache, "models"),
    "/made": made,
    "/golden": at("../../../tests/golden"),
  };
  const server = await serve({ mounts });
  const browser = await launch("chromium");
  after(async () => {
    await browser.close();
    await server.close();
    rmSync(made, { recursive: true });
  });
  const page = await browser.open(`${server.url}/page.html`);
  await page.waitForFunction(() => "clients" in globalThis);
  const inPage = (/** @type {keyof import("./page.mjs").Page} */ name, /** @type {unknown} */ given) =>
    page.evaluate(
      ([name, given]) =>
        /** @type {{ clients: Record<string, Function> }} */ (/** @type {unknown} */ (globalThis)).clients[name]?.(
          given,
        ),
      /** @type {const} */ ([name, given]),
    );
  await inPage("load", { model: `/models/${MODEL}`, backend: "cpu", cache: false });
  const baseURL = `${await native(model)}/v1`;
  const { PagelmError, withRemote } = await import(at("../../dist/remote.js"));
  const failed = Promise.reject(new PagelmError("no-gpu", "this browser has no GPU"));
  const remote = withRemote(failed, { baseURL, model: "m", when: "unable" });

  const answered = /** @type {Map<string, unknown>} */ (new Map());
  for (const [name, flow] of Object.entries(flows)) {
    await t.test(name, async () => {
      // The package's provider asks for the same as the one over HTTP, so that the server need not answer all of it again.
      const twin = answered.get(name.replace("pagelm/ai-sdk: ", "ai: "));
      const there = name.endsWith(": text") ? undefined : twin;
      const expected = there ?? (await flow({ baseURL, fetch, llm: remote }));
      answered.set(name, expected);
      assert.deepEqual(await inPage("run", name), JSON.parse(JSON.stringify(expected)));
      const [, right] = /** @type {[string, RegExp]} */ (RIGHT.find(([part]) => name.endsWith(part)));
      assert.match(JSON.stringify(expected), right);
    });
  }

  await t.test("a client for Python gets the same", async (t) => {
    const python = join(cache, "tools/openai/bin/python");
    if (!existsSync(python)) return skip(t, "OpenAI's client for Python is not installed");
    const given = requests.map(([endpoint, params]) => [endpoint, { model: "m", ...params }]);
    const options = { input: JSON.stringify(given), encoding: /** @type {const} */ ("utf8") };
    const there = JSON.parse(execFileSync(python, [at("requests.py"), baseURL], options));
    const here = await answers({ baseURL, fetch });
    for (const [i, answer] of here.entries()) assert.deepEqual(timeless(there[i]), timeless(answer), `${requests[i]}`);
    assert.deepEqual(here.map((answer) => answer.status ?? 200).slice(-2), [400, 400]);
  });

  await t.test("a server that takes over answers the same", async () => {
    const there = await answers({ baseURL, fetch });
    const over = await answers({ baseURL: "http://pagelm.local/v1", fetch: remote.fetch });
    assert.deepEqual(timeless(over), timeless(there));
    const stream = await remote.chat.completions.create({ ...requests[1][1] });
    const events = [];
    for await (const event of stream) events.push(event);
    assert.deepEqual(timeless(events), timeless(there[1]));
  });

  await t.test("the browsers' Prompt API", async () => {
    const said = await inPage("prompt", `/models/${MODEL}`);
    const { started, measured, used, window } = said.counts;
    assert.deepEqual([said.availability, said.loaded], ["downloadable", [0, 1]]);
    assert.ok(started > 5 && measured > 5 && window === 256, JSON.stringify(said.counts));
    assert.ok(used >= started + measured, `${used} tokens after ${started} and ${measured}`);
    assert.match(said.answer, /Paris/);
    assert.equal(said.streamed, said.answer);
    assert.equal(typeof said.json.inhabitants, "number");
    assert.match(said.word, /^(yes|no)$/);
    assert.equal(said.reason, "AbortError");
    assert.equal(said.overflows, 1);
    assert.deepEqual(said.quota, ["QuotaExceededError", true]);
    assert.equal(said.destroyed, "InvalidStateError");
  });

  await t.test("embeddings", async () => {
    await inPage("load", { model: "/golden/gemma-embedding.gguf", backend: "cpu", cache: false });
    const { own, openai, ai, provider, tokens } = await inPage("embed", ["one two", "a third text", "one two"]);
    assert.deepEqual(openai, own);
    assert.deepEqual(ai, own);
    assert.deepEqual(provider, own);
    assert.deepEqual(own[0], own[2]);
    assert.notDeepEqual(own[0], own[1]);
    assert.ok(tokens > 6, `${tokens} tokens`);
  });
  assert.deepEqual(page.errors, []);
});
