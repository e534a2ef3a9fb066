// The examples for libraries and frameworks, each with the version that it names: all are built, and one of them is asked
// each day; PAGELM_BUNDLERS=all asks all of them.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { launch } from "../../tools/browsers.mjs";
import { cache } from "../../tools/cache.mjs";
import { serve } from "../../tools/serve.mjs";
import { skip } from "../skipped.mjs";
import { install } from "./install.mjs";

const from = fileURLToPath(new URL("../../../examples/frameworks", import.meta.url));
const files = readdirSync(from).filter((name) => name !== "node_modules");
const QUESTION = "Explain what a browser is.";

test("examples for libraries and frameworks are built, and answer", { timeout: 600_000 }, async (t) => {
  const folder = install("frameworks", from, files);
  if (!folder) return skip(t, "their packages are not installed: run tests/tools/setup.sh bundlers");
  if (!existsSync(join(cache, "models/SmolLM2-135M-Instruct.Q4_1.gguf"))) return skip(t, "the model is not downloaded");
  execFileSync(join(folder, "node_modules/.bin/vite"), ["build", "--logLevel", "error"], { cwd: folder });
  const server = await serve({ mounts: { "/": join(folder, "dist"), "/models": join(cache, "models") } });
  const browser = await launch("chromium");
  after(async () => {
    await browser.close();
    await server.close();
  });
  const pages = files.filter((name) => name.endsWith(".html") && name !== "index.html");
  const turn = Math.floor(Date.now() / 86_400_000) % pages.length;
  for (const page of pages.filter((_, i) => process.env.PAGELM_BUNDLERS === "all" || i === turn)) {
    await t.test(page, { timeout: 120_000 }, async () => {
      const opened = await browser.open(`${server.url}/${page}`);
      const input = opened.locator("input, textarea").first();
      await input.fill(QUESTION);
      await opened.locator("button", { hasText: "Ask" }).click();
      await opened
        .waitForFunction(() => document.body.dataset.state, null, { timeout: 100_000 })
        .catch((e) => assert.fail(`${e}\n${[...opened.console, ...opened.errors].join("\n")}`));
      const answer = await opened.evaluate(() => document.querySelector("#answer")?.textContent ?? "");
      assert.match(answer, /browser is .*(web|internet)/i);
      assert.equal(await opened.evaluate(() => document.body.dataset.state), "answered");
      assert.deepEqual(opened.errors, []);
      await opened.close();
    });
  }
});
