// Models by their shorthand on a hub, with its sums, and in a folder.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { BROWSERS } from "../../tools/browsers.mjs";
import { golden, start } from "./setup.mjs";

const prompt = golden.prompts.find((/** @type {{ greedy?: object }} */ p) => p.greedy);
const right = prompt.greedy.tokens.slice(0, 8);
const exact = { activations: /** @type {const} */ ("f32"), kvType: /** @type {const} */ ("f32") };

for (const browser of BROWSERS) {
  test(`${browser}: a hub's models are checked by its sums`, async (t) => {
    // With threads: one of them makes the sum while the weights are taken.
    const c = await start(browser);
    const long = readFileSync(join(c.made, "long.gguf"));
    const sha256 = createHash("sha256").update(long).digest("hex");
    const hub = `${c.server.url}/made/hub`;
    for (const [repo, oid] of /** @type {const} */ ([
      ["good", sha256],
      ["bad", "0".repeat(64)],
    ])) {
      const [list, files] = [
        join(c.made, "hub/api/models/o", repo, "tree"),
        join(c.made, "hub/o", repo, "resolve/main"),
      ];
      for (const folder of [list, files]) mkdirSync(folder, { recursive: true });
      const names = ["m-Q4_K_M.gguf", "m-IQ4_XS.gguf", "mmproj-m-Q4_K_M.gguf"];
      const listed = names.map((path, i) => ({ type: "file", path, lfs: { oid: i ? "1".repeat(64) : oid } }));
      writeFileSync(join(list, "main"), JSON.stringify(listed));
      writeFileSync(join(files, "m-Q4_K_M.gguf"), long);
    }
    const asked = () => c.server.requests.filter((r) => r.path.startsWith("/made/hub"));
    const good = "hf:o/good:Q4_K_M";

    for (const options of [
      { backend: /** @type {const} */ ("cpu"), threads: 3 },
      { backend: /** @type {const} */ ("cpu"), threads: 1 },
      { backend: /** @type {const} */ ("webgpu") },
    ]) {
      await t.test(JSON.stringify(options), async () => {
        await c.call("forgetModels");
        const before = asked().length;
        const [first] = await c.call("answers", [good], { ...exact, ...options, hub }, prompt.ids);
        assert.deepEqual([first?.ids, first?.source.stored], [right, true]);
        const requests = asked().slice(before);
        const paths = requests.map((r) => r.path);
        // By the server's count: an engine whose GPU was lost tells how it was loaded again.
        const sent = requests.filter((r) => r.path.endsWith(".gguf")).reduce((sum, r) => sum + r.sent, 0);
        assert.equal(sent, long.length);
        assert.deepEqual(
          [...new Set(paths)],
          ["/made/hub/api/models/o/good/tree/main", "/made/hub/o/good/resolve/main/m-Q4_K_M.gguf"],
        );
        const [stored] = await c.call("models", "list");
        assert.equal(stored.files[0].sha256, sha256);
        // What is stored is read without a word from the hub.
        const [again] = await c.call("answers", [good], { ...exact, ...options, hub }, prompt.ids);
        assert.deepEqual([again?.ids, again?.source.cache], [right, long.length]);
        assert.equal(asked().length, before + paths.length);
        const bad = c.call("load", { model: "hf:o/bad:Q4_K_M", ...exact, ...options, hub, cache: true });
        await assert.rejects(bad, { code: "bad-checksum" });
        const list = await c.call("models", "list");
        assert.deepEqual(
          list.map((/** @type {import("pagelm").StoredModel} */ m) => m.model),
          [good],
        );
      });
    }

    await t.test("the threads of an engine are there after the sum", async () => {
      await c.call("forgetModels");
      const { info } = await c.call("load", { model: good, hub, backend: "cpu", threads: 3, cache: true });
      assert.equal(info.wasm.threads, 3);
      assert.equal((await c.call("stats")).threads, 3);
      const { ids } = await c.call("generate", prompt.ids, { maxTokens: 8, ignoreEos: true });
      assert.deepEqual(ids, right);
    });

    await t.test("a folder, and the files of a split model in any order", async () => {
      const parts = [2, 1, 3].map((i) => `/made/split/m-0000${i}-of-00003.gguf`);
      for (const ids of await c.call("ownFiles", parts, { backend: "cpu", ...exact }, prompt.ids))
        assert.deepEqual(ids, right);
    });

    await t.test("nothing went wrong unnoticed", () => assert.deepEqual(c.page.errors, []));
  });
}
