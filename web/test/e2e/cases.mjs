// What must hold in every browser, on every backend.
import assert from "node:assert/strict";
import { serve } from "../../tools/serve.mjs";
import { skip } from "../skipped.mjs";
import { spelling } from "./gguf.mjs";
import { TYPES } from "./retyped.mjs";
import { dataUrl, fixture, golden, MIXED, real, reference, SMOLLM, TINY } from "./setup.mjs";

/** @typedef {Awaited<ReturnType<typeof import("./setup.mjs").start>>} Context */
/** @typedef {"webgpu" | "cpu"} Backend */
/** @typedef {import("node:test").TestContext} T */
/** @typedef {{ ids: number[], logits_last: { data: number[] }, greedy: { tokens: number[] } }} Answered */

const CHEAP = golden.prompts[0];
const greedy = { ignoreEos: true };
/** The cache as pages have it that say nothing. */
const USUAL = { kvType: undefined };

/** The tiny model on this backend, and what it says. @param {Context} c @param {Backend} backend */
async function works(c, backend) {
  await c.call("load", { model: TINY, backend });
  const { ids } = await c.call("generate", CHEAP.ids, { ...greedy, maxTokens: 8 });
  assert.deepEqual(ids, CHEAP.greedy.tokens.slice(0, 8));
}

/** @param {T} t @param {Context} c @param {Backend} backend */
export async function generation(t, c, backend) {
  await t.test("a model loads, its header first, and says what it is", async () => {
    const { info, phases, last } = await c.call("load", { model: TINY, backend });
    assert.deepEqual(phases, ["header", "weights", "ready"].slice(phases.length === 2 ? 1 : 0));
    assert.equal(last?.loaded, last?.total);
    assert.equal(info.backend, backend);
    assert.equal(info.backendReason, "asked for");
    assert.equal(info.model.architecture, "llama");
    assert.equal(info.model.problem, null);
    t.diagnostic(JSON.stringify(info.adapter));
  });

  await t.test("greedy tokens are those of the reference", async () => {
    const { ids, reason, usage } = await c.call("generate", CHEAP.ids, { ...greedy, maxTokens: 16 });
    assert.deepEqual(ids, CHEAP.greedy.tokens);
    assert.equal(reason, "max-tokens");
    assert.equal(usage?.completionTokens, 16);
    assert.equal(usage?.promptTokens, CHEAP.ids.length);
  });

  await t.test("steps are on their way while tokens are read, and a token is four bytes", async () => {
    // The first prompt that goes on from another one's middle copies a block, which takes a buffer that stays.
    await c.call("generate", CHEAP.ids, { ...greedy, maxTokens: 1 });
    const before = (await c.call("stats")).counters;
    const { ids } = await c.call("generate", CHEAP.ids, { ...greedy, maxTokens: 12 });
    const { inFlight, bytesRead, buffers } = (await c.call("stats")).counters;
    assert.deepEqual(ids, CHEAP.greedy.tokens.slice(0, 12));
    if (backend === "cpu") return assert.equal(inFlight, 0);
    assert.ok(inFlight >= 2, `${inFlight} at most`);
    assert.equal(bytesRead - before.bytesRead, 12 * 4);
    assert.equal(buffers, before.buffers);
  });

  await t.test("a profile has each kernel of a token, or says why there is none", async (t) => {
    const profile = c.call("profile", { depth: 3, reps: 2 });
    if (backend === "cpu") return assert.rejects(profile, { code: "invalid-state" });
    try {
      const { depth, kernels, readBytesPerS } = await profile;
      t.diagnostic(JSON.stringify(kernels));
      assert.equal(depth, 3);
      assert.ok(readBytesPerS > 0);
      const before = (await c.call("stats")).counters;
      await c.call("generate", CHEAP.ids, { ...greedy, maxTokens: 1 });
      await c.call("generate", CHEAP.ids, { ...greedy, maxTokens: 3 });
      const { dispatches, steps } = (await c.call("stats")).counters;
      assert.ok(kernels.length > 4);
      const sum = kernels.reduce((n, k) => n + k.dispatchesPerToken, 0);
      // A step of a few tokens has about as many as one of one, and there is the kernel that chooses.
      assert.ok(Math.abs(sum - (dispatches - before.dispatches) / (steps - before.steps)) < 4, `${sum} dispatches`);
    } catch (e) {
      const { code, message } = /** @type {import("pagelm").PagelmError} */ (e);
      if (code !== "invalid-state") throw e;
      t.diagnostic(message);
    }
  });

  await t.test("a stopped generation leaves a usable engine", async () => {
    await assert.rejects(c.call("generate", CHEAP.ids, { ...greedy, stopAfter: 3 }), { code: "aborted" });
    const { ids } = await c.call("generate", CHEAP.ids, { ...greedy, maxTokens: 8 });
    assert.deepEqual(ids, CHEAP.greedy.tokens.slice(0, 8));
  });

  await t.test("wrong requests are refused by name and change nothing", async () => {
    const refused = /** @type {const} */ ([
      [[1_000_000], {}, "token-out-of-range"],
      [[], {}, "empty-prompt"],
      [CHEAP.ids, { topP: 7 }, "invalid-argument"],
      [CHEAP.ids, { stop: "" }, "invalid-argument"],
      [Array.from({ length: 5000 }, () => 5), {}, "context-overflow"],
    ]);
    for (const [prompt, params, code] of refused)
      await assert.rejects(c.call("generate", [...prompt], params), { code });
    await assert.rejects(c.call("chat", { messages: [{ role: "user", content: "Hi" }] }), { code: "no-template" });
    const { ids } = await c.call("generate", CHEAP.ids, { ...greedy, maxTokens: 8 });
    assert.deepEqual(ids, CHEAP.greedy.tokens.slice(0, 8));
  });

  await t.test("steps can be taken one by one, and taken back", async () => {
    const { first, second, again, refused, closed } = await c.call("steps", CHEAP.ids);
    assert.deepEqual([first, second], CHEAP.greedy.tokens.slice(0, 2));
    assert.equal(again, second);
    assert.equal(refused, "invalid-argument");
    assert.equal(closed, "invalid-state");
  });

  await t.test("a file works as well as an address", async () => {
    const { last } = await c.call("loadFile", TINY, { backend });
    assert.equal(last?.phase, "ready");
    const { ids } = await c.call("generate", CHEAP.ids, { ...greedy, maxTokens: 8 });
    assert.deepEqual(ids, CHEAP.greedy.tokens.slice(0, 8));
    await assert.rejects(c.call("loadFile", "/made/cut.gguf", { backend }), { code: "gguf-truncated" });
    await c.call("load", { model: TINY, backend });
  });

  await t.test("disposal ends what runs", async () => {
    assert.equal(await c.call("disposeWhileRunning", CHEAP.ids), "disposed");
  });
}

const ARCHITECTURES = [
  "llama32",
  "qwen2",
  "qwen2moe",
  "qwen3_tied",
  "qwen3moe",
  "gemma",
  "gemma2",
  "gemma3",
  "qwen35",
  "qwen35moe",
  "qwen35_mtp",
];

/** What proposes tokens here; the second needs a block of the model. */
const BOTH = /** @type {const} */ (["lookup", "mtp"]);

/** Two f32 implementations are 1e-4 apart; a GPU's exp, sin and tanh are looser. */
const TOLERANCE = { cpu: 3e-4, webgpu: 2e-3 };

/** Conversations beside each other, and proposed tokens. @param {T} t @param {Context} c @param {Backend} backend */
export async function sequences(t, c, backend) {
  const [one, two] = golden.prompts;
  await t.test("a conversation goes on where it was after another one", async () => {
    const sizes = { model: TINY, backend, contextLength: 256 };
    await assert.rejects(c.call("load", { ...sizes, cacheTokens: 100 }), {
      code: "invalid-argument",
      message: /of 256/,
    });
    await c.call("load", { ...sizes, cacheTokens: 1024 });
    const { ids } = await c.call("generate", one.ids, { ...greedy, maxTokens: 8 });
    await c.call("generate", two.ids, { ...greedy, maxTokens: 8 });
    const more = [...one.ids, ...ids, 7];
    const { usage } = await c.call("generate", more, { ...greedy, maxTokens: 1 });
    // The answer's last token never ran.
    assert.equal(usage?.cachedTokens, more.length - 2);
  });
  await t.test("proposed tokens need room for drafts", async () => {
    await assert.rejects(c.call("generate", one.ids, { ...greedy, speculate: { proposer: "lookup" } }), {
      code: "invalid-argument",
    });
  });
}

/** The largest difference of two lists. @param {ArrayLike<number>} got @param {ArrayLike<number>} want */
function maxDiff(got, want) {
  assert.equal(got.length, want.length);
  return Math.max(...Array.from(got, (x, i) => Math.abs(x - (want[i] ?? Number.NaN))));
}

/** Vectors, and how likely tokens are. @param {T} t @param {Context} c @param {Backend} backend */
export async function outputs(t, c, backend) {
  await t.test("texts become vectors, those of the reference", async () => {
    const { gguf, prompts } = fixture("gemma-embedding.json");
    await c.call("load", { model: `/golden/${gguf}`, backend, kvType: "f32" });
    const texts = Array.from({ length: 20 }, (_, i) => `text number ${i}`);
    const { ofIds, ofTexts, ofOne, ranked, refused } = await c.call(
      "vectors",
      prompts.map((/** @type {{ ids: number[] }} */ p) => p.ids),
      texts,
    );
    for (const [i, { embedding }] of /** @type {any[]} */ (prompts).entries()) {
      // Of vectors with a length of 1: a tenth of what logits may be off by.
      const off = maxDiff(ofIds.embeddings[i] ?? [], embedding.data);
      assert.ok(off <= TOLERANCE[backend] / 10, `prompt ${i} is off by ${off}`);
    }
    assert.equal(ofIds.tokens, 5 + 24 + 70);
    assert.deepEqual(
      ofTexts.embeddings.map((/** @type {number[]} */ v) => v.length),
      texts.map(() => 64),
    );
    const cut = (ofTexts.embeddings[0] ?? []).slice(0, 8);
    const norm = Math.hypot(...cut);
    const one = ofOne.embeddings[0] ?? [];
    assert.ok(
      maxDiff(
        one,
        cut.map((/** @type {number} */ x) => x / norm),
      ) < 1e-5,
      "cut first, then normalised",
    );
    // The query itself is the last of the documents, and the best.
    const places = ranked.results.map((/** @type {{ index: number }} */ r) => r.index);
    assert.deepEqual([places.length, places[0]], [2, 4]);
    assert.ok(Math.abs(ranked.results[0].relevance_score - 1) < 1e-5, "a text is as near to itself as can be");
    assert.deepEqual(refused, ["invalid-argument", "empty-prompt", "invalid-state", "aborted"]);
  });
  await t.test("tokens say how likely they were", async () => {
    await c.call("load", { model: TINY, backend, kvType: "f32" });
    const [{ ids, greedy: want, logits_last }] = golden.prompts;
    const said = await c.call("likely", ids, { ...greedy, maxTokens: 4, logprobs: 3 });
    assert.deepEqual(
      said.map((s) => s.id),
      want.tokens.slice(0, 4),
    );
    const top = Math.max(...logits_last.data);
    const all =
      top +
      Math.log(
        logits_last.data.reduce((/** @type {number} */ sum, /** @type {number} */ l) => sum + Math.exp(l - top), 0),
      );
    for (const [i, s] of said.entries()) {
      assert.deepEqual([s.top?.length, s.top?.[0]], [3, [s.id, s.logprob]]);
      if (i === 0) assert.ok(Math.abs((s.logprob ?? 0) - (top - all)) < 2 * TOLERANCE[backend]);
    }
    await assert.rejects(c.call("likely", ids, { logprobs: 21 }), { code: "invalid-argument" });
    assert.equal((await c.call("likely", ids, { ...greedy, maxTokens: 1 }))[0]?.logprob, undefined);
  });
  await t.test("an answer keeps to its grammar, and what nothing can meet is refused", async () => {
    const [{ ids }] = golden.prompts;
    const jsonSchema = {
      type: "object",
      properties: { ok: { type: "boolean" }, n: { type: "integer", minimum: 0, maximum: 99 } },
      required: ["ok", "n"],
      additionalProperties: false,
    };
    const params = { maxTokens: 400, temperature: 2, seed: 5 };
    const answer = await c.call("generate", ids, { ...params, grammar: { jsonSchema } });
    const { ok, n, ...rest } = JSON.parse(answer.text);
    assert.deepEqual([typeof ok, Number.isInteger(n) && n >= 0 && n <= 99, rest], ["boolean", true, {}]);
    assert.equal(answer.reason, "end-of-sequence");
    const matched = await c.call("generate", ids, { ...params, grammar: { regex: "[a-c]{3}-[0-9]{2}" } });
    assert.match(matched.text, /^[a-c]{3}-[0-9]{2}$/);
    const refused = { code: "bad-grammar" };
    await assert.rejects(c.call("generate", ids, { grammar: { jsonSchema: { not: {} } } }), refused);
    await assert.rejects(c.call("generate", ids, { grammar: { regex: "(" } }), refused);
    const wrong = /** @type {{}} */ ({ grammar: { ebnf: "x" } });
    await assert.rejects(c.call("generate", ids, wrong), { code: "invalid-argument" });
  });
}

/** What the command answers about the second image of the fixture: `tests/cli/images.rs` has the same. */
const SEEN = "(name\ufffd\ufffdre3(name\ufffd3";

/** The same about the first image of Gemma's. */
const SEEN_BY_GEMMA = "\ufffdadad2kkk\u0014";

/** Images in requests. @param {T} t @param {Context} c @param {Backend} backend */
export async function images(t, c, backend) {
  await t.test("an image is answered about, from wherever the page has it, as the command does", async () => {
    const [, second] = fixture("qwen3vl.json").cases;
    const files = { model: "/made/sees.gguf", mmproj: "/golden/mmproj-qwen3vl.gguf", imageRows: 16 };
    const fits = await c.call("canRun", files.model, { mmproj: files.mmproj, backend });
    const alone = await c.call("canRun", files.model, { backend });
    assert.deepEqual([fits.ok, fits.model.images, alone.model.images], [true, true, false]);
    assert.ok(Number(fits.fileBytes) > Number(alone.fileBytes) && Number(fits.memoryBytes) > Number(alone.memoryBytes));
    const { info } = await c.call("load", { ...files, backend });
    assert.equal(info.source.network, fits.fileBytes);
    const { all, refused, words, encoded } = await c.call("images", dataUrl(second));
    for (const [i, { text, prompt, cached }] of all.entries()) {
      assert.deepEqual([text, prompt, i > 0], [SEEN, 14, Number(cached) > 8]);
    }
    assert.equal(encoded, 1);
    const place = "messages[0].content[1].image_url.url";
    assert.deepEqual(refused, [...Array(4).fill(["bad-image", place]), ["aborted"]]);
    assert.match(String(words[2]), /HTTP 404/);
  });
  await t.test("an image whose rows see each other is answered about as the command does", async () => {
    const [first] = fixture("gemma3vl.json").cases;
    await c.call("load", { model: "/made/gemma-sees.gguf", mmproj: "/golden/mmproj-gemma3vl.gguf", backend });
    const { all, encoded } = await c.call("images", dataUrl(first));
    for (const { text, prompt } of all) assert.deepEqual([text, prompt], [SEEN_BY_GEMMA, 20]);
    assert.equal(encoded, 1);
  });
  await t.test("images are answered about with the reference's tokens by a model with recurrent states", async () => {
    const { cases, image_token_id: pad } = fixture("qwen35vl.json");
    const files = { model: "/made/ids-see.gguf", mmproj: "/golden/mmproj-qwen35vl.gguf", imageRows: 16 };
    await c.call("load", { ...files, backend });
    for (const [i, of] of cases.entries()) {
      const ids = /** @type {number[]} */ (of.ids);
      const text = (/** @type {number[]} */ ids) => ids.map(spelling).join("");
      // The template writes what stands around the rows.
      const around = [text(ids.slice(0, ids.indexOf(pad) - 1)), text(ids.slice(ids.lastIndexOf(pad) + 2))];
      const { all, encoded } = await c.call("images", dataUrl(of), ...around);
      for (const said of all) assert.deepEqual([said.text, said.prompt], [text(of.greedy.tokens), ids.length]);
      assert.equal(encoded, i + 1);
    }
  });
  await t.test("files that do not belong together, and images for a model of text, are refused", async () => {
    const wrong = { model: "/golden/qwen35vl.gguf", mmproj: "/golden/mmproj-qwen3vl.gguf", backend };
    await assert.rejects(c.call("load", wrong), { code: "invalid-argument", message: /rows of/ });
    await assert.rejects(c.call("load", { ...wrong, mmproj: TINY }), { code: "unsupported-architecture" });
    await assert.rejects(c.call("load", { ...wrong, model: TINY }), { code: "no-images" });
    await c.call("load", { model: "/made/sees.gguf", backend });
    const [first] = fixture("qwen3vl.json").cases;
    await assert.rejects(c.call("images", dataUrl(first)), /no-images at messages\[0\]\.content\[1\]/);
  });
}

/** Requests at the same time, several answers, sessions. @param {T} t @param {Context} c @param {Backend} backend */
export async function concurrency(t, c, backend) {
  const request = (/** @type {number[]} */ ids, params = {}) => ({
    ids,
    params: { ...greedy, maxTokens: 16, ...params },
  });
  const [one, two] = golden.prompts;
  const prompts = [one.ids, two.ids, [...one.ids].reverse()];
  const requests = prompts.map((ids) => request(ids));
  const want = [one.greedy.tokens, two.greedy.tokens, /** @type {number[]} */ ([])];

  await t.test("requests at the same time give what each gives alone, in the steps of one", async () => {
    await c.call("load", { model: TINY, backend, contextLength: 2048, sequences: 3 });
    assert.equal((await c.call("stats")).sequences, 3);
    const alone = await c.call("together", requests.slice(2), 1500);
    want[2] = alone.ends[0]?.ids ?? [];
    const { ends, steps } = await c.call("together", requests.slice(0, 2), 1500);
    assert.deepEqual(
      ends.map((e) => e.ids),
      want.slice(0, 2),
    );
    if (backend === "cpu") assert.deepEqual([alone.steps, steps], [16, 16]);
  });

  await t.test("more requests than may run wait for their turn", async () => {
    await c.call("load", { model: TINY, backend, contextLength: 256, cacheTokens: 1024 });
    assert.equal((await c.call("stats")).sequences, 2);
    const { ends } = await c.call("together", [...requests, ...requests]);
    assert.deepEqual(
      ends.map((e) => e.ids),
      [...want, ...want],
    );
  });

  await t.test("a request that is stopped or fails leaves the others", async () => {
    const { ends } = await c.call("together", [
      request(one.ids, { stopAfter: 3 }),
      request([1_000_000]),
      request(two.ids),
      request([]),
      request(one.ids, { topP: 7 }),
      request(prompts[2] ?? []),
    ]);
    assert.deepEqual(
      ends.map((e) => e.code || e.ids),
      ["aborted", "token-out-of-range", want[1], "empty-prompt", "invalid-argument", want[2]],
    );
  });

  await t.test("a request whose pieces nobody takes does not hold up others", async () => {
    const seen = await c.call("besideOneThatWaits", prompts);
    assert.deepEqual(
      seen.map((ids) => ids.slice(0, 16)),
      want,
    );
    assert.deepEqual(
      seen.map((ids) => ids.length),
      [60, 60, 60],
    );
  });

  await t.test("sessions run beside generations, fork, and go on from a snapshot", async () => {
    const { first, seconds, ...seen } = await c.call("sessions", one.ids, two.ids);
    assert.deepEqual([first, ...seconds], [one.greedy.tokens[0], ...Array(5).fill(one.greedy.tokens[1])]);
    assert.deepEqual(seen.damaged, Array(4).fill("bad-snapshot"));
    assert.equal(seen.profile, "invalid-state");
    assert.deepEqual(seen.beside, two.greedy.tokens.slice(0, 12));
    // What is left is that of conversations.
    assert.ok(seen.held.blocks >= seen.closed.blocks + 4, `${seen.held.blocks}, then ${seen.closed.blocks} blocks`);
  });

  await t.test("the page goes on as before", () => works(c, backend));
}

/** Tiny models of every architecture and block format. @param {T} t @param {Context} c @param {Backend} backend */
export async function models(t, c, backend) {
  /** @param {number[]} ids @param {number[]} want */
  async function near(ids, want) {
    const off = maxDiff(await c.call("logits", ids), want);
    assert.ok(off <= TOLERANCE[backend], `logits are off by ${off}`);
  }
  for (const name of ARCHITECTURES) {
    const { gguf, prompts, mtp } = fixture(`${name}.json`);
    const answered = /** @type {Answered[]} */ (prompts).filter((p) => p.greedy);
    const tokens = answered.map((p) => p.greedy.tokens.slice(0, 16));

    // One load for all that a model must do: most of its time goes into compiling kernels for a software adapter.
    await t.test(`${name} gives the reference's logits and greedy tokens`, async () => {
      // The room is for what the sessions below open: five, a generation, and one that is restored.
      await c.call("load", { model: `/golden/${gguf}`, backend, sequences: 7, drafts: 3, ...(mtp && { mtp: true }) });
      for (const { ids, logits_last } of prompts) await near(ids, logits_last.data);
      for (const [i, { ids }] of answered.entries())
        assert.deepEqual((await c.call("generate", ids, { ...greedy, maxTokens: 16 })).ids, tokens[i]);
    });

    await t.test(`${name} says the same beside others, forked and restored`, async () => {
      const params = { ...greedy, maxTokens: 16 };
      const { ends } = await c.call(
        "together",
        answered.slice(0, 3).map(({ ids }) => ({ ids, params })),
      );
      assert.deepEqual(
        ends.map((e) => e.ids),
        tokens.slice(0, 3),
      );
      const [one, two] = answered;
      const { first, seconds, damaged } = await c.call("sessions", one?.ids ?? [], two?.ids ?? []);
      assert.deepEqual([first, ...seconds], [tokens[0]?.[0], ...Array(5).fill(tokens[0]?.[1])]);
      assert.deepEqual(damaged, Array(4).fill("bad-snapshot"));
    });

    await t.test(`${name} says the same when tokens are proposed`, async () => {
      for (const proposer of mtp ? BOTH : BOTH.slice(0, 1)) {
        for (const [i, { ids }] of answered.entries()) {
          const got = await c.call("generate", ids, { ...greedy, maxTokens: 16, speculate: { proposer } });
          assert.deepEqual(got.ids, tokens[i]);
          const { steps, drafted, accepted } = got.usage?.speculated ?? { steps: 0, drafted: 0, accepted: 0 };
          assert.equal(steps + accepted, 15, `${proposer}: the first token comes with the prompt`);
          if (proposer === "mtp") assert.ok(drafted > 0);
        }
      }
      for (const speculate of [{ proposer: "guess" }, { proposer: "lookup", maxDraft: 4 }, { proposer: "draft" }]) {
        const wrong = /** @type {{}} */ ({ ...greedy, speculate });
        await assert.rejects(c.call("generate", CHEAP.ids, wrong), { code: "invalid-argument" });
      }
    });

    if (name === "qwen35") {
      await t.test("a checkpoint is gone back to without running a token again", async () => {
        const { before, again, ran } = await c.call("checkpoint", prompts[1].ids, 20);
        assert.deepEqual(again, before);
        assert.equal(ran, 1);
      });
    }
    if (!mtp) continue;
    await t.test("multi-token prediction gives the reference's logits", async () => {
      const [{ ids, next_ids, logits_all, argmax }] = mtp;
      const rows = await c.call("mtp", ids, next_ids);
      const off = maxDiff(rows.flat(), logits_all.data);
      assert.ok(off <= TOLERANCE[backend], `logits are off by ${off}`);
      const best = (/** @type {number[]} */ row) => row.indexOf(Math.max(...row));
      assert.deepEqual(rows.map(best), argmax);
      if (backend === "webgpu") return;
      await c.call("load", { model: `/golden/${gguf}`, backend });
      await assert.rejects(c.call("mtp", ids, next_ids), { code: "invalid-state" });
    });
  }
  if (backend === "webgpu") return;
  const { prompts, variants } = fixture("quants/models.json");
  for (const [name, { gguf, outputs }] of Object.entries(variants)) {
    await t.test(`${name} gives the logits of its widened weights`, async () => {
      await c.call("load", { model: `/golden/quants/${gguf}`, backend });
      for (const [i, { logits_last }] of outputs.entries()) await near(prompts[i], logits_last.data);
    });
  }
}

/**
 * Every packed type on the GPU against the CPU, whose numbers are the reference's: models with many types each, so that
 * kernels are compiled for a few loads only. @param {T} t @param {Context} c
 */
export async function types(t, c) {
  const prompts = [[7], [3, 60], ...fixture("quants/models.json").prompts];
  for (const { name, types } of MIXED) {
    await t.test(`${types.join(", ")} give the same logits on both backends`, async () => {
      const logits = async (/** @type {Backend} */ backend) => {
        await c.call("load", { model: `/made/${name}`, backend });
        const rows = /** @type {number[][]} */ ([]);
        for (const ids of prompts) rows.push(await c.call("logits", ids));
        return rows;
      };
      const [got, want] = [await logits("webgpu"), await logits("cpu")];
      for (const [i, row] of want.entries()) {
        const size = Math.max(...row.map(Math.abs));
        const off = maxDiff(got[i] ?? [], row);
        assert.ok(size > 0.1 && off <= TOLERANCE.webgpu * Math.max(size, 1), `off by ${off}, of size ${size}`);
      }
    });
  }
}

/**
 * Kernels of bytes against the plain loops of the reference with the same activations: every packed type.
 * @param {T} t @param {Context} c @param {object} load
 */
export async function bytes(t, c, load = {}) {
  const { prompts, variants } = fixture("quants/models.json");
  const made = Object.keys(TYPES).map((type) => [type, `/made/${type}.gguf`]);
  const models = Object.entries(variants).map(([name, { gguf }]) => [name, `/golden/quants/${gguf}`]);
  for (const [name, model] of [...models, ...made]) {
    await t.test(`${name} gives the logits of the reference with activations of 8 bits`, async () => {
      const logits = async (/** @type {"cpu" | "reference"} */ backend) => {
        await c.call("load", { model, backend, activations: "q8", ...load });
        const rows = /** @type {number[][]} */ ([]);
        for (const ids of [[7], [3, 60], [11, 5, 80], prompts[1]]) rows.push(await c.call("logits", ids));
        return rows;
      };
      const [got, want] = [await logits("cpu"), await logits("reference")];
      const off = want.map((row, p) => {
        const size = Math.max(...row.map(Math.abs));
        return Math.max(...row.map((w, i) => Math.abs(w - Number(got[p]?.[i])))) / Math.max(size, 1);
      });
      t.diagnostic(`${name}: off by ${off}`);
      // The sums of bytes are exact. But an activation at the border between two steps may fall on the other side where f32
      // rounds another way than f64, and then all that follows differs. These prompts lie in the positions with two terms,
      // whose steps are 1/127 of 1/254: measured, 6e-5. A step of one term, or a wrong kernel, makes 1e-3 to 5e-2.
      assert.ok(Math.max(...off) <= 5e-4, `off by ${off} of the largest`);
    });
  }
}

/** The build that this page gets, and what each of them computes. @param {T} t @param {Context} c */
export async function builds(t, c) {
  const { wasm } = await c.call("capabilities");
  t.diagnostic(JSON.stringify(wasm));
  const best =
    (wasm.threads ? "threads" : "") +
    (wasm.threads && wasm.relaxedSimd ? "-" : "") +
    (wasm.relaxedSimd ? "relaxed" : "");
  const runs = (/** @type {string} */ build) =>
    (wasm.threads || !build.includes("threads")) && (wasm.relaxedSimd || !build.includes("relaxed"));

  await t.test("a page loads the best build that it can run, and nothing of the others", async () => {
    const before = c.server.requests.length;
    const { info } = await c.call("load", { model: TINY, backend: "cpu", threads: 3 });
    assert.equal(info.wasm.build, best || "base");
    assert.equal(info.wasm.whyOneThread, wasm.whyOneThread);
    assert.equal(info.wasm.threads, wasm.threads ? 3 : 1);
    assert.equal((await c.call("stats")).threads, wasm.threads ? 3 : 1);
    const asked = new Set(c.server.requests.slice(before).map((r) => r.path));
    const modules = [...asked].filter((path) => path.endsWith(".wasm"));
    assert.deepEqual(modules, [`/dist/pagelm-${info.wasm.build}.wasm`]);
    const scripts = [...asked].filter((path) => path.includes("worker"));
    assert.deepEqual(scripts, ["/dist/worker.js"]);
  });

  for (const wasmBuild of /** @type {const} */ (["base", "relaxed", "threads", "threads-relaxed"])) {
    if (!runs(wasmBuild)) {
      await t.test(`${wasmBuild} is refused where it cannot run`, async () => {
        await assert.rejects(c.call("load", { model: TINY, wasmBuild }), { code: "invalid-argument" });
      });
      continue;
    }
    await t.test(`${wasmBuild} gives the reference's tokens`, async () => {
      const { info } = await c.call("load", { model: TINY, backend: "cpu", threads: 2, wasmBuild });
      assert.equal(info.wasm.build, wasmBuild);
      assert.equal((await c.call("stats")).threads, wasmBuild.includes("threads") ? 2 : 1);
      for (const { ids, greedy: want } of golden.prompts) {
        if (!want) continue;
        const got = await c.call("generate", ids, { ...greedy, maxTokens: want.tokens.length });
        assert.deepEqual(got.ids, want.tokens);
      }
    });
  }

  await t.test("one thread can be asked for", async () => {
    const { info } = await c.call("load", { model: TINY, backend: "cpu", threads: 1 });
    assert.ok(info.wasm.whyOneThread);
    assert.equal((await c.call("stats")).threads, 1);
    await assert.rejects(c.call("load", { model: TINY, threads: 0 }), { code: "invalid-argument" });
  });

  await t.test("on a GPU there is one thread, and that is said", async () => {
    const { info } = await c.call("load", { model: TINY, backend: "webgpu", threads: 3 });
    assert.equal(info.wasm.threads, 1);
    assert.match(info.wasm.whyOneThread ?? "", wasm.threads ? /webgpu/ : /COOP/);
  });

  await t.test("a folder that has one build is enough", async () => {
    const { info } = await c.call("load", { model: TINY, backend: "cpu", threads: 3, wasmUrl: "/made/one" });
    assert.equal(info.wasm.build, "base");
    if (wasm.threads) assert.match(info.wasm.whyOneThread ?? "", /404/);
    await answers(c, 1);
  });
}

/** That the engine computes right, with so many threads, and says so. @param {Context} c @param {number} threads */
async function answers(c, threads) {
  const { ids } = await c.call("generate", CHEAP.ids, { ...greedy, maxTokens: 8 });
  assert.deepEqual(ids, CHEAP.greedy.tokens.slice(0, 8));
  assert.equal((await c.call("stats")).threads, threads);
}

/** How workers start in an isolated page: engine and threads. @param {T} t @param {Context} c */
export async function starts(t, c) {
  const second = await serve({ mounts: { "/": c.mounts["/dist"] } });
  const other = second.url;
  const load = (/** @type {object} */ options) =>
    c.call("load", { model: TINY, backend: "cpu", threads: 3, ...options });

  await t.test("threads run where a bundler makes the worker a classic script, on another origin too", async () => {
    const elsewhere = `${c.server.url.replace("localhost", "127.0.0.1")}/made/bundle/worker.js`;
    const module = { worker: elsewhere, type: "module" };
    for (const given of [{ worker: "/classic.js#/made/bundle/worker.js" }, { worker: elsewhere }, module]) {
      const from = `/made/bundle/bundled.js?${new URLSearchParams(given)}`;
      const { info } = await load({ from, ...(given.worker !== elsewhere && { wasmUrl: "/dist" }) });
      assert.deepEqual([info.wasm.threads, info.wasm.whyOneThread, info.wasm.whyFewerThreads], [3, null, null]);
      await answers(c, 3);
    }
  });

  await t.test("the package, or its worker alone, may lie on another origin", async () => {
    for (const elsewhere of [{ from: `${other}/index.js` }, { workerUrl: `${other}/worker.js` }]) {
      const { info } = await load(elsewhere);
      assert.equal(info.wasm.threads, 3);
      await answers(c, 3);
    }
    await assert.rejects(load({ workerUrl: `${other}/none.js` }), {
      code: "engine-not-loaded",
      place: `${other}/none.js`,
      message: /another origin.*Access-Control-Allow-Origin/,
    });
  });

  await t.test("a page whose scripts come without its headers has threads too", async () => {
    const bare = await serve({ isolated: "pages", mounts: c.mounts });
    const { page, call } = await c.open(`${bare.url}/page.html`);
    const { info } = await call("load", { model: TINY, backend: "cpu", threads: 3 });
    assert.equal(info.wasm.threads, 3);
    await answers({ ...c, page, call }, 3);
    await page.close();
    await bare.close();
  });

  await t.test("threads that do not start are missing, and why is said", async () => {
    const { info } = await load({ threads: 4, workers: ["", "", "/none.js"] });
    assert.equal(info.wasm.threads, 2);
    assert.equal(info.wasm.whyOneThread, null);
    assert.match(info.wasm.whyFewerThreads ?? "", /^2 of 3 threads did not start: .*did not load/);
    await answers(c, 2);
    const alone = await load({ workers: ["", "/none.js"] });
    assert.equal(alone.info.wasm.threads, 1);
    assert.match(alone.info.wasm.whyOneThread ?? "", /^2 of 2 threads did not start: .*did not load/);
    await answers(c, 1);
  });

  await t.test("a thread that says nothing is not waited for without end", async () => {
    const { info } = await load({ workers: ["", "", "/silent.js"] });
    assert.equal(info.wasm.threads, 2);
    assert.match(info.wasm.whyFewerThreads ?? "", /^1 of 2 threads did not start: .*within 10 s/);
    await answers(c, 2);
  });

  await t.test("content security policies and Trusted Types are obeyed, or named", async () => {
    /** @param {string} policy */
    const under = async (policy) => {
      const { page, call } = await c.open(`/page.html?csp=${encodeURIComponent(policy)}`);
      const load = (/** @type {object} */ options) =>
        call("load", { model: TINY, backend: "cpu", threads: 2, activations: "f32", ...options });
      return { load, page, context: { ...c, page, call } };
    };
    const script = "script-src 'self' 'unsafe-eval'"; // `unsafe-eval` is for the test's own calls
    for (const policy of [
      "require-trusted-types-for 'script'; trusted-types pagelm",
      `default-src 'self'; ${script}`,
    ]) {
      const { load, page, context } = await under(policy);
      await load({});
      await answers(context, 2);
      await page.close();
    }
    const trusted = await under(
      `require-trusted-types-for 'script'; trusted-types pagelm; script-src * 'unsafe-eval'; worker-src blob:`,
    );
    await trusted.load({ from: `${other}/index.js` });
    await answers(trusted.context, 2);
    await trusted.page.close();

    const blocked = /** @type {const} */ ([
      ["worker-src 'none'", /allow 'self' in worker-src/, {}],
      ["worker-src 'self'", /is the package's worker\.js served there/, { workerUrl: "/none.js" }],
      ["worker-src 'self'", /allow blob: in worker-src/, { workerUrl: `${other}/worker.js` }],
      [
        "worker-src blob:; script-src 'self'",
        /another origin.* http:.* in script-src and blob: in worker-src/,
        { workerUrl: `${other}/worker.js` },
      ],
    ]);
    for (const [policy, message, options] of blocked) {
      const { load, page } = await under(policy);
      await assert.rejects(load(options), { code: "engine-not-loaded", message });
      await page.close();
    }
    // Of the module only the policy of the worker's script counts.
    for (const [policy, message] of /** @type {const} */ ([
      ["script-src 'self'", /allow 'wasm-unsafe-eval' in script-src/],
      ["connect-src 'none'", /allow http:\/\/localhost:\d+ in connect-src/],
    ])) {
      const workerUrl = `/dist/worker.js?csp=${encodeURIComponent(policy)}`;
      await assert.rejects(load({ workerUrl }), { code: "engine-not-loaded", message });
    }
    const untrusted = await under("require-trusted-types-for 'script'; trusted-types other");
    // Browsers without Trusted Types do not know the directive.
    if (await untrusted.page.evaluate(() => "trustedTypes" in globalThis)) {
      const message = /Trusted Types.*`pagelm`.*trusted-types/;
      await assert.rejects(untrusted.load({}), { code: "engine-not-loaded", message });
    } else await untrusted.load({});
    await untrusted.page.close();
  });
  await second.close();
}

/** Starts an engine with threads again and again: once in a while a browser hung there. @param {T} t @param {Context} c */
export async function startsAgain(t, c, times = 10) {
  await t.test(`threads start ${times} times in a row`, async () => {
    for (let i = 0; i < times; i++) {
      const { info } = await c.call("load", { model: TINY, backend: "cpu", threads: 4 });
      assert.equal(info.wasm.threads, 4);
    }
    await answers(c, 4);
  });
}

/** @param {T} t @param {Context} c @param {Backend} backend */
export async function faults(t, c, backend) {
  const refused = /** @type {const} */ ([
    ["an address that nobody serves", "http://127.0.0.1:9/a.gguf", "network"],
    ["an address that is none", "http://", "invalid-argument"],
    ["a file that is not there", "/models/none.gguf", "http-status"],
    ["a web page", "/made/page.html", "not-gguf"],
    ["random bytes", `/fault/garbage${TINY}`, "not-gguf"],
    ["a file cut in its weights", "/made/cut.gguf", "gguf-truncated"],
    ["a file cut in its header", "/made/cut-header.gguf", "gguf-truncated"],
    ["an unknown architecture", "/made/other.gguf", "unsupported-architecture"],
    ["a key that is not known", "/made/unknown.gguf", "unknown-content"],
  ]);
  for (const [what, model, code] of refused) {
    await t.test(`${what} is refused as ${code}`, async () => {
      await assert.rejects(c.call("load", { model, backend }), (/** @type {import("pagelm").PagelmError} */ e) => {
        assert.equal(e.code, code, e.message);
        assert.ok(e.message.length > 10);
        if (code === "http-status") assert.match(`${e.message} ${e.place}`, /404.*none\.gguf/);
        return true;
      });
    });
  }
  await t.test("a model that does not fit is refused with the sum, whatever limits it", async () => {
    const small = { model: TINY, backend, contextLength: 4000, memoryLimit: 1e6 };
    await assert.rejects(c.call("load", small), {
      code: "out-of-memory",
      message: /of weights.* of cache for 4000 tokens .*1\.0 MiB are available/,
    });
    // A cache of 9 GB: more than the memory of wasm, or than a GPU binds.
    const limit = backend === "cpu" ? /\d+\.\d MiB are available/ : /GPU can bind at most \d+/;
    await assert.rejects(c.call("load", { model: TINY, backend, contextLength: 12_000_000 }), {
      code: "out-of-memory",
      message: limit,
    });
  });
  await t.test("what is not known is passed over where that is wanted", async () => {
    const model = "/made/unknown.gguf";
    const { ok, reason } = await c.call("canRun", model);
    assert.ok(!ok && reason?.includes("`prism.hadamard.x` = 0"), `${reason}`);
    assert.equal((await c.call("canRun", model, { allowUnknown: true })).ok, true);
    await c.call("load", { model, backend, allowUnknown: true });
    const { ids } = await c.call("generate", CHEAP.ids, { ...greedy, maxTokens: 8 });
    assert.deepEqual(ids, CHEAP.greedy.tokens.slice(0, 8));
  });
  await t.test("a load can be stopped", async () => {
    const model = `/fault/slow${TINY}?bytes=2000&ms=20`;
    await assert.rejects(c.call("load", { model, backend, stopAfterMs: 300 }), { code: "aborted" });
  });
  await t.test("after all of these a good model works", () => works(c, backend));
  await t.test("a connection that is cut goes on where it was", async () => {
    const before = c.server.requests.length;
    await c.call("load", { model: `/fault/flaky/made/${backend}.gguf`, backend });
    const asked = c.server.requests.slice(before).filter((r) => r.path.endsWith(".gguf"));
    assert.deepEqual(
      asked.map((r) => r.status),
      [206, 206],
    );
    const { ids } = await c.call("generate", CHEAP.ids, { ...greedy, maxTokens: 8 });
    assert.deepEqual(ids, CHEAP.greedy.tokens.slice(0, 8));
  });
}

/**
 * The kernels for hardware, which other tests run natively only: here the browser's compiler and its checks are between.
 * @param {T} t @param {Context} c
 */
export async function hardwareKernels(t, c) {
  for (const name of ["gemma3", "qwen35", "qwen3moe"]) {
    await t.test(`${name} gives the reference's logits and tokens with kernels for hardware`, async (t) => {
      const { prompts } = fixture(`${name}.json`);
      const model = `/golden/${name}.gguf`;
      await c.call("load", { model, backend: "webgpu", kernels: "hardware", tune: false });
      for (const { ids, greedy: want, logits_last } of prompts) {
        const got = await c.call("logits", ids);
        const far = logits_last.data.map((/** @type {number} */ x, /** @type {number} */ i) =>
          Math.abs(x - (got[i] ?? Number.NaN)),
        );
        t.diagnostic(`${ids.length} tokens: off by ${Math.max(...far)}`);
        assert.ok(Math.max(...far) <= TOLERANCE.webgpu);
        if (want) assert.deepEqual((await c.call("generate", ids, { ...greedy, maxTokens: 16 })).ids, want.tokens);
      }
    });
  }

  await t.test("kernels are measured once, and what was found is kept", { timeout: 600_000 }, async (t) => {
    const load = /** @type {const} */ ({ model: TINY, backend: "webgpu", kernels: "hardware", activations: "q8" });
    const kept = () => c.call("kept", "pagelm-tuning");
    assert.deepEqual(await kept(), []);
    await c.call("load", load);
    const [record] = await kept();
    t.diagnostic(`${record}`);
    assert.equal(typeof JSON.parse(record ?? "").attn_chunk, "number");
    const { ids } = await c.call("generate", CHEAP.ids, { ...greedy, maxTokens: 8 });
    assert.deepEqual(ids, CHEAP.greedy.tokens.slice(0, 8));
    await c.call("load", load);
    assert.deepEqual(await kept(), [record]);
    await c.call("forget", "pagelm-tuning");
  });
}

/** A real model, from a question to the end of its answer. @param {T} t @param {Context} c @param {Backend} backend */
export async function realModel(t, c, backend) {
  await t.test("SmolLM2 loads, and its weights stay out of wasm memory on a GPU", { timeout: 300_000 }, async () => {
    const startedAt = performance.now();
    const { info } = await c.call("load", { model: SMOLLM, backend, contextLength: 512, ...USUAL });
    const stats = await c.call("stats");
    t.diagnostic(`loaded in ${Math.round(performance.now() - startedAt)} ms: ${JSON.stringify(stats)}`);
    if (backend === "webgpu") {
      assert.ok(stats.weightBytesCopied < 1e6, `${stats.weightBytesCopied} bytes were copied`);
      assert.ok(stats.wasmBytes < (info.model.weightBytes ?? 0) / 2, `${stats.wasmBytes} bytes of wasm memory`);
    }
  });

  await t.test("SmolLM2 answers as the reference does", { timeout: 600_000 }, async () => {
    const params = { ignoreEos: true, maxTokens: reference.tokens.length };
    const { ids, usage } = await c.call("generate", reference.ids, params);
    t.diagnostic(JSON.stringify(usage));
    assert.deepEqual(ids, reference.tokens);
    const { counters } = await c.call("stats");
    t.diagnostic(JSON.stringify(counters));
    if (backend === "webgpu") assert.ok(counters.inFlight >= 2, `${counters.inFlight} steps on their way at most`);
  });

  await t.test("a chat has the shape of OpenAI's, and reuses the cache", { timeout: 600_000 }, async () => {
    const chunks = await c.call("chat", { messages: reference.messages, max_tokens: 16 });
    const content = chunks.map((x) => x.choices[0]?.delta.content ?? "").join("");
    assert.equal(content, "The capital of France is Paris.");
    assert.deepEqual(chunks[0]?.choices[0]?.delta, { role: "assistant", content: "" });
    assert.equal(chunks.at(-2)?.choices[0]?.finish_reason, "stop");
    const usage = chunks.at(-1)?.usage;
    assert.equal(usage?.prompt_tokens, reference.ids.length);
    assert.equal(usage?.prompt_tokens_details.cached_tokens, reference.ids.length - 1);
    assert.ok((usage?.extra.decode_tokens_per_s ?? 0) > 0);
  });

  await t.test("several answers read their prompt once", { timeout: 600_000 }, async () => {
    const messages = [{ role: /** @type {const} */ ("user"), content: "Name a colour." }];
    const params = { messages, max_tokens: 4, temperature: 0 };
    const { whole, steps, streamed } = await c.call("choices", { ...params, n: 3 });
    const [text] = whole.choices.map((choice) => choice.message.content);
    assert.ok(text);
    const { prompt_tokens, completion_tokens, total_tokens } = whole.usage;
    assert.deepEqual([completion_tokens, total_tokens], [12, prompt_tokens + 12]);
    assert.deepEqual(
      whole.choices.map((choice) => [choice.index, choice.message.content, choice.finish_reason]),
      [0, 1, 2].map((i) => [i, text, "length"]),
    );
    assert.deepEqual([streamed.texts, streamed.ends], [Array(3).fill(text), Array(3).fill("length")]);
    assert.equal(streamed.usage?.prompt_tokens_details.cached_tokens, prompt_tokens - 1);
    // The second begins once the prompt is read, the third when the first has ended.
    if (backend === "cpu") assert.equal(steps, 8);
    const alone = await c.call("choices", params);
    assert.equal(alone.whole.choices[0]?.message.content, text);
  });
}

/**
 * Bigger models of other families, for some tokens. What they run through is also tested natively, for longer.
 * @param {T} t @param {Context} c @param {Backend} backend @param {number} tokens
 */
export async function biggerModels(t, c, backend, tokens) {
  for (const [file, numbers] of /** @type {const} */ ([
    ["gemma-3-270m-q4_k_m.gguf", "gemma-3-270m"],
    ["qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", "qwen2.5-coder-0.5b"],
  ])) {
    await t.test(`${file} continues as the reference does`, { timeout: 900_000 }, async (t) => {
      const found = real(file, numbers);
      if (!found) return skip(t, `the model ${file} is not downloaded (make models)`);
      await c.call("load", { model: found.url, backend, contextLength: 256, ...USUAL });
      // A prompt at all of whose steps the best token is clearly ahead of the second.
      const { ids: prompt, f32 } = found.prompts[1];
      assert.ok(Math.min(...f32.margins) > 0.05);
      const { ids, usage } = await c.call("generate", prompt, { ...greedy, maxTokens: tokens });
      t.diagnostic(JSON.stringify(usage));
      assert.deepEqual(ids, f32.tokens.slice(0, tokens));
    });
  }
}

/** Not with the others: the browser tells of these errors too, in its own words. @param {Context} c */
export async function brokenStarts(c) {
  const load = (/** @type {object} */ o) => c.call("load", { model: TINY, ...o });
  await assert.rejects(load({ wasmUrl: "/models" }), { code: "engine-not-loaded" });
  await assert.rejects(load({ workerUrl: "/none.js" }), { code: "engine-not-loaded" });
  const slow = `/fault/slow${TINY}?bytes=2000&ms=20`;
  await assert.rejects(load({ workerUrl: "/trap.js", model: slow }), { code: "internal" });
  await works(c, "webgpu");
}
