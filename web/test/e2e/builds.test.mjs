// The builds of the module, in pages that may share memory and in pages that may not.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { builds, bytes, models, starts } from "./cases.mjs";
import { SMOLLM, start } from "./setup.mjs";

const isolated = await start("chromium");
const base = await start("chromium", { isolated: false, load: { wasmBuild: "base" } });
const open = await start("chromium", { isolated: false });

test("Chromium has everything in an isolated page", async (t) => {
  const { wasm } = await isolated.call("capabilities");
  assert.deepEqual(wasm, { simd: true, relaxedSimd: true, threads: true, whyOneThread: null });
  await builds(t, isolated);
});

test("Chromium has one thread in another page, and says why", async (t) => {
  const { wasm, crossOriginIsolated } = await open.call("capabilities");
  assert.equal(crossOriginIsolated, false);
  assert.equal(wasm.threads, false);
  assert.match(wasm.whyOneThread ?? "", /COOP and COEP/);
  await builds(t, open);
});

test("the build without relaxed SIMD computes every model", async (t) => {
  await models(t, base, "cpu");
  await bytes(t, base);
});

test("the build with relaxed SIMD computes every type", (t) => bytes(t, isolated, { threads: 2 }));

test("SmolLM2 knows its facts with activations of 8 bits", async (t) => {
  const { info } = await isolated.call("load", {
    model: SMOLLM,
    backend: "cpu",
    activations: "q8",
    contextLength: 512,
  });
  assert.equal(info.wasm.build, "threads-relaxed");
  const { text, usage } = await isolated.call("generate", "The capital of France is", { maxTokens: 1 });
  assert.equal(text, " Paris");
  t.diagnostic(JSON.stringify(usage));
});

test("the first question of README and demo has a good answer on the CPU", { timeout: 300_000 }, async (t) => {
  const question = "Explain what a browser is.";
  const at = (/** @type {string} */ path) => readFileSync(new URL(`../../../${path}`, import.meta.url), "utf8");
  for (const path of ["README.md", "web/README.md", "Makefile", "web/demo/headless.mjs"]) {
    assert.ok(at(path).includes(question), path);
  }
  assert.ok(at("web/demo/src/chat.tsx").includes(`IDEAS = ["${question}"`));
  for (const wasmBuild of /** @type {const} */ (["base", "relaxed"])) {
    await open.call("load", { model: SMOLLM, backend: "cpu", activations: undefined, kvType: undefined, wasmBuild });
    for (const [temperature, seed] of /** @type {const} */ ([
      [0, 0],
      [0.2, 1],
      [0.2, 2],
    ])) {
      const messages = [{ role: /** @type {const} */ ("user"), content: question }];
      const chunks = await open.call("chat", { messages, temperature, seed, max_tokens: 24 });
      const answer = chunks.map((x) => x.choices[0]?.delta.content ?? "").join("");
      t.diagnostic(`${wasmBuild} at ${temperature}: ${answer}`);
      assert.match(
        answer,
        /^A browser is a software application that allows users to access and interact with the internet/,
      );
    }
  }
});

test("Chromium starts workers wherever their script lies", async (t) => {
  await starts(t, isolated);
});

test("threads end with their engine", async (t) => {
  const session = await isolated.browser.debug?.();
  if (!session) throw new Error("Chromium has its protocol");
  /** Workers that the browser has. */
  const workers = async () => {
    const { targetInfos } = await session.send("Target.getTargets");
    return targetInfos.filter((/** @type {{ type: string }} */ i) => i.type === "worker").length;
  };
  /** Waits until there are so many, and says how many ms. @param {number} want @param {number} most */
  const come = async (want, most = 10_000) => {
    const start = performance.now();
    while ((await workers()) !== want && performance.now() < start + most) await sleep(20);
    assert.equal(await workers(), want);
    return performance.now() - start;
  };
  await isolated.call("dispose");
  await come(0);
  // Chromium lets a worker go on for two seconds where it is in wasm: those that wait and those that compute.
  await isolated.call("load", { model: "/golden/llama.gguf", backend: "cpu", threads: 4 });
  await come(4); // an engine and three threads
  await isolated.call("dispose");
  t.diagnostic(`idle: ${await come(0, 1000)} ms`);
  await isolated.call("load", { model: SMOLLM, backend: "cpu", threads: 3, contextLength: 4096 });
  await come(3);
  const ids = Array.from({ length: 4000 }, (_, i) => (i * 37) % 250);
  const running = assert.rejects(isolated.call("generate", ids), { code: "disposed" });
  await sleep(300);
  await isolated.call("dispose");
  t.diagnostic(`in a prompt: ${await come(0, 1000)} ms`);
  await running;
});
