// Conversations that outlive their page: it is reloaded, or killed in the middle of an answer, and goes on as if nothing had
// happened.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { BROWSERS, launch } from "../../tools/browsers.mjs";
import { serve } from "../../tools/serve.mjs";
import { spelling } from "./gguf.mjs";
import { dataUrl, fixture, seeing, seeingIds, withTemplate } from "./setup.mjs";

/** @typedef {import("./talk.js").Talk} Talk */
/** @typedef {import("pagelm/conversations").SendParams} Params */

const at = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));

/** That of Qwen 3, in short. */
const TEMPLATE =
  "{% if tools %}{{ tools | tojson }}\n{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n" +
  "{% if m.content is string %}{{ m.content }}{% else %}{{ m | tojson }}{% endif %}<|im_end|>\n{% endfor %}" +
  "<|im_start|>assistant\n{% if false %}<think></think><tool_call></tool_call>{% endif %}";
const made = mkdtempSync(join(tmpdir(), "pagelm-talk-"));
after(() => rmSync(made, { recursive: true }));
// One without and one with recurrent states.
for (const name of ["qwen2", "qwen35"]) {
  const file = readFileSync(at(`../../../tests/golden/${name}.gguf`));
  writeFileSync(join(made, `${name}.gguf`), withTemplate(file, TEMPLATE));
}

// What it says reads back as the tokens that it said.
writeFileSync(join(made, "sees.gguf"), seeingIds("qwen3vl"));
writeFileSync(join(made, "mmproj.gguf"), seeing().mmproj);

const model = (/** @type {string} */ name, /** @type {"cpu" | "webgpu"} */ backend = "cpu") => ({
  model: `/made/${name}.gguf`,
  backend,
  wasmBuild: /** @type {const} */ ("base"),
});
/** A worker that stops in the middle of an answer. @param {number} steps */
const until = (steps) => ({ workerUrl: `/slow.js?steps=${steps}` });

const schema = {
  type: "object",
  properties: { a: { type: "string", minLength: 60, maxLength: 70 }, b: { type: "boolean" } },
  required: ["a", "b"],
  additionalProperties: false,
};
const tool = { type: /** @type {const} */ ("function"), function: { name: "add", parameters: schema, strict: true } };
const format = { type: /** @type {const} */ ("json_schema"), json_schema: { name: "n", schema, strict: true } };
/** @type {Record<string, Params>} */
const WAYS = {
  greedy: { temperature: 0, max_tokens: 90, ignore_eos: true },
  sampled: { temperature: 0.9, seed: 7, max_tokens: 90, ignore_eos: true, logprobs: true, top_logprobs: 2 },
  "by a schema": { temperature: 0.9, seed: 5, max_tokens: 160, response_format: format },
  "with a tool": { temperature: 0.9, seed: 5, max_tokens: 200, tools: [tool], tool_choice: "required" },
};

/** Without the ids of calls, which each request has of its own. @param {unknown} value */
const named = (value) => JSON.parse(JSON.stringify(value).replaceAll(/call_[0-9a-f]{16,}/g, "call_"));

for (const name of BROWSERS) {
  test(`${name}: conversations outlive their page`, { timeout: 900_000 }, async (t) => {
    const mounts = { "/": at("."), "/dist": at("../../dist"), "/made": made };
    const server = await serve({ isolated: true, mounts });
    const browser = await launch(name);
    t.after(async () => {
      await browser.close();
      await server.close();
    });
    const open = async () => {
      const page = await browser.open(new URL("/talk.html", server.url).href);
      await page.waitForFunction(() => "talk" in globalThis);
      /** @template {keyof Talk} K @param {K} method @param {Talk[K] extends (...given: infer A) => unknown ? A : never} given */
      const call = async (method, ...given) =>
        /** @type {Promise<Talk[K] extends (...given: never) => infer R ? Awaited<R> : never>} */ (
          page.evaluate(
            ([method, given]) => /** @type {any} */ (globalThis).talk[method](...given),
            /** @type {const} */ ([method, given]),
          )
        );
      return { page, call };
    };
    let { page, call } = await open();
    const reload = async () => {
      await page.reload();
      await page.waitForFunction(() => "talk" in globalThis);
    };
    /** Ends the page's process in Chromium, the page in Firefox. */
    const die = async () => {
      if (name !== "chromium") return reload();
      const debug = await page.context().newCDPSession(page);
      const gone = new Promise((done) => page.once("crash", done));
      debug.send("Page.crash").catch(() => {});
      await gone;
      await page.close().catch(() => {});
      ({ page, call } = await open());
    };
    /**
     * Begins an answer, and ends the page once no more of it comes.
     * @param {string} id @param {Params} params @param {import("./talk.js").Said} said
     */
    const dieAnswering = async (id, params, said = "Say something.") => {
      await call("begin", id, said, params);
      let seen = 0;
      for (;;) {
        await sleep(150);
        const { chunks, end } = await page.evaluate(() => /** @type {any} */ (globalThis).talk.now);
        assert.equal(end, "");
        if (chunks.length > 1 && chunks.length === seen) {
          await die();
          return chunks;
        }
        seen = chunks.length;
      }
    };

    await t.test("the next turn after a reload reads only what is new", async () => {
      for (const kind of ["qwen2", "qwen35"]) {
        await call("start", model(kind), { name: kind });
        const id = await call("create", { title: "One", messages: [{ role: "system", content: "s".repeat(60) }] });
        const params = { temperature: 0, max_tokens: 12 };
        const first = await call("send", id, "Hello there, how are you today?", params);
        assert.deepEqual([first.end, first.messages.length, first.unfinished], ["whole", 3, false]);
        await call("close");
        const files = await call("files", `pagelm-conversations-${kind}`);
        assert.ok(Number(files[`${id}.cache`]) > 1000, JSON.stringify(files));
        await reload();
        await call("start", model(kind), { name: kind });
        const [info] = await call("list");
        assert.deepEqual([info?.id, info?.title, info?.state], [id, "One", "idle"]);
        assert.ok(Number(info?.bytes) > Number(files[`${id}.cache`]));
        const opened = await call("open", id);
        assert.deepEqual(opened, { title: "One", messages: first.messages, unfinished: false });
        const usage = { stream_options: { include_usage: true } };
        const second = await call("send", id, "And now?", { ...params, ...usage });
        const { prompt_tokens, prompt_tokens_details } = second.chunks.at(-1)?.usage ?? {};
        const cached = prompt_tokens_details?.cached_tokens ?? 0;
        t.diagnostic(`${kind}: ${cached} of ${prompt_tokens} tokens were there`);
        assert.ok(cached > 60, `${kind}: ${cached} of ${prompt_tokens}`);
        // As without the reload.
        const again = await call("create", { messages: [...first.messages] });
        await call("start", { ...model(kind), contextLength: 500 }, { name: kind });
        const fresh = await call("send", again, "And now?", { ...params, ...usage });
        assert.deepEqual(fresh.messages, second.messages);
        assert.equal(fresh.chunks.at(-1)?.usage?.prompt_tokens_details?.cached_tokens, 0);
      }
    });

    for (const kind of ["qwen2", "qwen35"]) {
      for (const [way, params] of Object.entries(WAYS)) {
        await t.test(`an answer of ${kind}, ${way}, goes on in another page`, async (t) => {
          await call("start", model(kind));
          const whole = await call("send", await call("create"), "Say something.", params);
          assert.equal(whole.end, "whole");
          for (const steps of name === "chromium" && kind === "qwen2" && way === "greedy" ? [6, 40, 75] : [50]) {
            await call("start", { ...model(kind), ...until(steps) });
            const id = await call("create");
            const seen = await dieAnswering(id, params);
            await call("start", model(kind));
            const [info] = await call("list");
            assert.deepEqual([info?.id, info?.state], [id, "unfinished"]);
            assert.equal((await call("open", id)).unfinished, true);
            const { history, chunks, end, messages, unfinished } = await call("resume", id);
            t.diagnostic(`${seen.length} of ${whole.chunks.length} chunks came, the log has ${history.length}`);
            assert.deepEqual([end, unfinished], ["whole", false]);
            assert.deepEqual(named(messages), named(whole.messages));
            // Each once, and all of one answer; what the dead page saw is the same.
            const got = [...history, ...chunks];
            assert.deepEqual(
              named(got.map(({ choices }) => choices)),
              named(whole.chunks.map(({ choices }) => choices)),
            );
            assert.equal(new Set(got.map(({ id, created }) => `${id} ${created}`)).size, 1);
            assert.deepEqual(got.slice(0, seen.length), seen);
            assert.equal((await call("list"))[0]?.state, "idle");
            assert.equal((await call("resume", id)).end, "invalid-state");
          }
        });
      }
    }

    await t.test("an answer about an image goes on in another page, and so does the conversation", async (t) => {
      const options = { ...model("sees"), mmproj: "/made/mmproj.gguf", imageRows: 16 };
      const url = dataUrl(fixture("qwen3vl.json").cases[1]);
      const said = /** @type {import("pagelm").ChatMessage} */ ({
        role: "user",
        content: [
          { type: "image_url", image_url: { url } },
          { type: "text", text: spelling(7) },
        ],
      });
      const params = { temperature: 0, max_tokens: 40, ignore_eos: true, stream_options: { include_usage: true } };
      const cached = (/** @type {{ chunks: import("pagelm").ChatChunk[] }} */ { chunks }) =>
        chunks.at(-1)?.usage?.prompt_tokens_details?.cached_tokens ?? 0;
      await call("start", options);
      const undisturbed = await call("create");
      const whole = await call("send", undisturbed, said, params);
      const next = await call("send", undisturbed, spelling(8), params);
      const last = await call("send", undisturbed, spelling(9), params);
      for (const { end } of [whole, next, last]) assert.equal(end, "whole");
      assert.equal((await call("stats")).images, 1);

      await call("start", { ...options, ...until(25) });
      const id = await call("create");
      const seen = await dieAnswering(id, params, said);
      await call("start", options);
      const { history, chunks, end, messages } = await call("resume", id);
      t.diagnostic(`${seen.length} of ${whole.chunks.length} chunks came, the log has ${history.length}`);
      assert.deepEqual([end, messages], ["whole", whole.messages]);
      assert.deepEqual(messages[0]?.content, said.content);
      assert.deepEqual(
        [...history, ...chunks].map(({ choices }) => choices),
        whole.chunks.map(({ choices }) => choices),
      );
      await call("close");
      await reload();
      await call("start", options);
      const after = await call("send", id, spelling(8), params);
      assert.deepEqual([after.end, after.messages], ["whole", next.messages]);
      // All that the turn before left is there, the rows of the image too.
      t.diagnostic(`${cached(after)} of ${after.chunks.at(-1)?.usage?.prompt_tokens} tokens were there`);
      assert.deepEqual([cached(after), (await call("stats")).images], [cached(next), 0]);
      assert.ok(cached(after) >= Number(whole.chunks.at(-1)?.usage?.total_tokens) - 1);

      await call("close");
      await call("start", { ...options, ...until(25) });
      await dieAnswering(id, params, spelling(9));
      await call("start", options);
      const resumed = await call("resume", id);
      assert.deepEqual([resumed.end, resumed.messages], ["whole", last.messages]);
      assert.equal((await call("stats")).images, 0);
    });

    await t.test("an answer on WebGPU goes on in another page, and its cache is there for the next", async (t) => {
      const params = { temperature: 0, max_tokens: 40, ignore_eos: true };
      await call("start", model("qwen2", "webgpu"));
      const whole = await call("send", await call("create"), "Say something.", params);
      assert.equal(whole.end, "whole");
      await call("start", { ...model("qwen2", "webgpu"), ...until(15) });
      const id = await call("create");
      const seen = await dieAnswering(id, params);
      await call("start", model("qwen2", "webgpu"));
      const { history, chunks, end, messages } = await call("resume", id);
      t.diagnostic(`${seen.length} of ${whole.chunks.length} chunks came, the log has ${history.length}`);
      assert.deepEqual([end, messages], ["whole", whole.messages]);
      assert.deepEqual(
        [...history, ...chunks].map(({ choices }) => choices),
        whole.chunks.map(({ choices }) => choices),
      );
      await call("close");
      await reload();
      await call("start", model("qwen2", "webgpu"));
      const usage = { temperature: 0, max_tokens: 8, stream_options: { include_usage: true } };
      const after = await call("send", id, "And now?", usage);
      const cached = after.chunks.at(-1)?.usage?.prompt_tokens_details?.cached_tokens ?? 0;
      // The prompt of the first turn: the text of an answer may be other tokens than those that were drawn.
      assert.ok(cached > 20, `${cached}`);
      await call("close");
    });

    await t.test("of two pages one finishes an answer", async () => {
      await call("start", { ...model("qwen2"), ...until(50) });
      const id = await call("create");
      await dieAnswering(id, WAYS.greedy ?? {});
      const other = await open();
      await Promise.all([call("start", model("qwen2")), other.call("start", model("qwen2"))]);
      const both = await Promise.all([call("resume", id), other.call("resume", id)]);
      assert.deepEqual(both.map(({ end }) => end).sort(), ["invalid-state", "whole"]);
      const { messages } = await call("open", id);
      assert.equal(messages.length, 2);
      await other.page.close();
    });

    await t.test("a log that is cut or damaged anywhere gives the same answer", async (t) => {
      const params = WAYS.sampled ?? {};
      await call("start", model("qwen2"));
      const whole = await call("send", await call("create"), "Say something.", params);
      const damages = [{ cut: -1 }, { cut: -500 }, { cut: 900 }, { flip: 0.5 }, { flip: 0.9 }];
      for (const damage of damages) {
        await call("start", { ...model("qwen2"), ...until(60) });
        const id = await call("create");
        await dieAnswering(id, params);
        await call("damage", `${id}.answer`, damage);
        await call("start", model("qwen2"));
        const { history, end, messages } = await call("resume", id);
        t.diagnostic(`${JSON.stringify(damage)}: ${history.length} chunks are left`);
        assert.deepEqual([end, messages], ["whole", whole.messages]);
      }
    });

    await t.test("a snapshot that is damaged or of another model is left out", async () => {
      const params = { temperature: 0, max_tokens: 8, stream_options: { include_usage: true } };
      for (const how of [{ cut: 0 }, { cut: -1 }, { flip: 0.5 }, "other"]) {
        await call("start", model("qwen2"));
        const id = await call("create");
        await call("send", id, "Hello there, how are you today?", params);
        await call("close");
        if (typeof how === "object") await call("damage", `${id}.cache`, how);
        await call("start", model(how === "other" ? "qwen35" : "qwen2"));
        const { end, chunks, messages } = await call("send", id, "And now?", params);
        assert.deepEqual([end, messages.length], ["whole", 4]);
        assert.equal(chunks.at(-1)?.usage?.prompt_tokens_details?.cached_tokens, 0);
        await call("close");
      }
    });

    await t.test("a snapshot is of its conversation, and one of another costs a prompt and no more", async () => {
      const params = { temperature: 0, max_tokens: 12, stream_options: { include_usage: true } };
      const cached = (/** @type {{ chunks: import("pagelm").ChatChunk[] }} */ { chunks }) =>
        Number(chunks.at(-1)?.usage?.prompt_tokens_details?.cached_tokens);
      const own = { name: "mixed" };
      await call("start", model("qwen2"), own);
      const [id, other] = [await call("create"), await call("create")];
      const first = await call("send", id, "Hello there, how are you today?", params);
      // It ends before the snapshot is taken.
      await call("ask", "Which of the two is the older one?");
      await call("close");
      const files = () => call("files", "pagelm-conversations-mixed");
      assert.ok(!(`${id}.cache` in (await files())));
      await call("start", model("qwen2"), own);
      await call("send", other, "Which of the two is the older one?", params);
      await call("close");
      assert.ok(`${other}.cache` in (await files()));
      await call("copy", `${other}.cache`, `${id}.cache`, "pagelm-conversations-mixed");
      await reload();
      await call("start", model("qwen2"), own);
      const wrong = await call("send", id, "And now?", params);
      assert.ok(cached(wrong) < 20, `${cached(wrong)} tokens were there`);
      // After that it has its own, as however it is answered.
      for (const ways of Object.values(WAYS)) {
        const made = await call("create");
        await call("send", made, "Say something.", ways);
        await call("close");
        assert.ok(`${made}.cache` in (await files()), JSON.stringify(ways));
      }
      await reload();
      await call("start", model("qwen2"), own);
      const next = await call("send", id, "And then?", params);
      assert.ok(cached(next) > 60, `${cached(next)} tokens were there`);
      await call("start", model("qwen2"), own);
      const fresh = await call("create", { messages: [...first.messages] });
      for (const [said, want] of /** @type {const} */ ([
        ["And now?", wrong],
        ["And then?", next],
      ]))
        assert.deepEqual((await call("send", fresh, said, params)).messages, want.messages);
    });

    await t.test("snapshots keep to their quota, the least recently used go first, and messages stay", async () => {
      const params = { temperature: 0, max_tokens: 8 };
      await call("start", model("qwen2"), { name: "few" });
      const ids = /** @type {string[]} */ ([]);
      for (let i = 0; i < 3; i++) {
        ids.push(await call("create"));
        await call("send", ids[i] ?? "", "Hello there, how are you today?", params);
        // The next turn writes it first.
      }
      await call("close");
      const sizes = await call("files", "pagelm-conversations-few");
      const one = Number(sizes[`${ids[0]}.cache`]);
      assert.deepEqual(
        ids.map((id) => sizes[`${id}.cache`]),
        [one, one, one],
      );
      await call("start", model("qwen2"), { name: "few", quota: 2.5 * one });
      const more = await call("create");
      await call("send", more, "Hello there, how are you today?", params);
      await call("close");
      const left = await call("files", "pagelm-conversations-few");
      const has = (/** @type {string} */ of) => [...ids, more].map((id) => `${id}.${of}` in left);
      assert.deepEqual(has("cache"), [false, false, true, true]);
      assert.deepEqual(has("chat"), [true, true, true, true]);
      assert.equal(await call("remove", more), "removed");
      assert.deepEqual(
        Object.keys(await call("files", "pagelm-conversations-few")).filter((f) => f.startsWith(more)),
        [],
      );
    });
  });
}
