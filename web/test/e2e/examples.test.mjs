// Each web example answers, as it stands in the repository.
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { launch } from "../../tools/browsers.mjs";
import { cache } from "../../tools/cache.mjs";
import { serve } from "../../tools/serve.mjs";

const at = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));
const examples = at("../../../examples/web");
const server = await serve({ mounts: { "/": examples, "/pagelm": at("../../dist"), "/models": `${cache}/models` } });
const browser = await launch("chromium");
after(async () => {
  await browser.close();
  await server.close();
});

for (const name of readdirSync(examples)) {
  test(`the example ${name} answers`, { timeout: 120_000 }, async () => {
    const page = await browser.open(`${server.url}/${name}/`);
    await page.click("button");
    await page.waitForFunction(() => document.querySelector("form")?.dataset.state === "answered");
    const answer = await page.evaluate(() => document.querySelector("#answer")?.textContent ?? "");
    assert.match(answer, /browser is .*(web|internet)/i);
    assert.deepEqual(page.errors, []);
    await page.close();
  });
}
