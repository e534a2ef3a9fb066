// What the demo measures: two engines side by side, the benchmark with its report, and the live plot.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { serveDemo } from "../../demo/serve.mjs";
import { launch } from "../../tools/browsers.mjs";

const server = await serveDemo();
const browser = await launch("chromium");
after(async () => {
  await browser.close();
  await server.close();
});
/** @param {import("../../tools/browsers.mjs").Page} page @param {string} state */
const until = (page, state) =>
  page.waitForFunction((/** @type {string} */ s) => document.body.dataset.state === s, state);

test("two backends answer the same question, one after the other", { timeout: 180_000 }, async () => {
  const page = await browser.open(
    `${server.url}/?temperature=0&seed=1&max_tokens=5&threads=1&model=/models/none.gguf#compare`,
  );
  await page.locator("#compare-run").waitFor();
  const sides = page.locator(".side");
  for (const i of [0, 1]) {
    await sides.nth(i).getByLabel("Model").selectOption("SmolLM2 135M");
    await sides.nth(i).getByLabel("Backend").selectOption("cpu");
  }
  await page.fill("#compare-prompt", "Explain what a browser is.");
  await page.click("#compare-run");
  await page.waitForFunction(() => document.querySelectorAll(".side dl:not(:empty)").length === 2);
  await page.locator("#compare-run").waitFor();
  const texts = await sides.locator(".text").allTextContents();
  assert.ok((texts[0] ?? "").length > 5, texts[0]);
  assert.equal(texts[0], texts[1]);
  for (const i of [0, 1]) {
    const numbers = await sides.nth(i).locator("dl").textContent();
    assert.match(numbers ?? "", /Tokens per second[\d.]+Prompt tokens.*Memory[\d.]+ MBRan onCPU · 1 thread$/);
  }
  // One that fails ends both, and says why.
  await sides.nth(0).getByLabel("Model").selectOption("/models/none.gguf");
  await page.click("#compare-run");
  await page.locator("#problem strong", { hasText: "The server does not give the file" }).waitFor();
  await page.locator("#compare-run").waitFor();
  await page.close();
});

test("the plot and the memory follow an answer", { timeout: 120_000 }, async () => {
  const page = await browser.open(`${server.url}/?backend=cpu&temperature=0&max_tokens=60&load`);
  await until(page, "ready");
  await page.getByRole("button", { name: "Activity" }).click();
  await page.locator(".activity .plot.none", { hasText: "Ask something" }).waitFor();
  const memory = page.locator(".activity .legend").first();
  await memory.locator("dt", { hasText: "Weights" }).waitFor();
  await page.fill("#prompt", "Explain what a browser is.");
  await page.keyboard.press("Enter");
  await page.locator(".activity .plot canvas").waitFor();
  await until(page, "ready");
  assert.ok(Number(await page.locator(".activity h3 .numbers").first().textContent()) > 0);
  await memory.locator("dt", { hasText: "Keys and values" }).waitFor();
  assert.match((await memory.textContent()) ?? "", /Weights9\d\.\d MBKeys and values[\d.]+ MB.*Module[\d.]+ MB/);
  await page.click("#unload");
  await page.locator(".activity", { hasText: "No model is loaded." }).waitFor();
  await page.close();
});

test("a benchmark is drawn, and its link shows it to somebody else", { timeout: 120_000 }, async () => {
  const page = await browser.open(`${server.url}/bench.html?backend=cpu&pp=16&tg=4&reps=2&run`);
  await until(page, "done");
  await page.locator("#charts canvas").nth(1).waitFor();
  const debug = await browser.debug?.();
  await debug?.send("Browser.grantPermissions", {
    permissions: ["clipboardReadWrite", "clipboardSanitizedWrite"],
    origin: server.url,
  });
  const copied = async (/** @type {string} */ id) => {
    await page.click(id);
    await page.locator(id, { hasText: "Copied" }).waitFor();
    return page.evaluate(() => navigator.clipboard.readText());
  };
  const result = JSON.parse(await copied("#copy"));
  assert.deepEqual(
    result.tests.map((/** @type {{ test: string, tokensPerS: number[] }} */ t) => [t.test, t.tokensPerS.length]),
    [
      ["pp16", 2],
      ["tg4", 2],
    ],
  );
  const link = await copied("#link");
  assert.match(link, /^http:\/\/localhost:\d+\/bench\.html\?[^#]*#r=[\w-]+$/);
  const rows = await page.locator("#speeds td").allTextContents();
  const other = await browser.open("about:blank");
  await other.goto(link);
  await until(other, "done");
  assert.deepEqual(await other.locator("#speeds td").allTextContents(), rows);
  assert.match((await other.locator("#shared").textContent()) ?? "", /^A report of another visit: \/models\/SmolLM2/);
  await other.goto("about:blank");
  await other.goto(link.slice(0, -20));
  await until(other, "failed");
  assert.match((await other.locator("#problem").textContent()) ?? "", /The report in this link cannot be read/);
  await other.close();
  await page.close();
});
