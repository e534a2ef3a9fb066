// The demo's conversations: kept, branched, drawn, and brought elsewhere.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, test } from "node:test";
import { serveDemo } from "../../demo/serve.mjs";
import { launch } from "../../tools/browsers.mjs";
import { example } from "./demo-example.mjs";

const server = await serveDemo();
const browser = await launch("chromium");
after(async () => {
  await browser.close();
  await server.close();
});

/** @typedef {Awaited<ReturnType<typeof open>>} Page */
/** A page of somebody who was never here. @param {string} [query] */
async function open(query = "") {
  const page = await browser.open(`${server.url}/theme.js`);
  await page.evaluate(async () => {
    localStorage.clear();
    for (const { name = "" } of await indexedDB.databases()) indexedDB.deleteDatabase(name);
  });
  await page.goto(`${server.url}/?backend=cpu&temperature=0&seed=1${query}`);
  return page;
}
/** @param {Page} page @param {string} state */
const until = (page, state) =>
  page.waitForFunction((/** @type {string} */ s) => document.body.dataset.state === s, state);
/** @param {Page} page @returns {Promise<string>} */
const answer = (page) => page.evaluate(() => /** @type {typeof globalThis & { answer: string }} */ (globalThis).answer);
/** @param {Page} page @param {string} text */
async function ask(page, text) {
  await page.fill("#prompt", text);
  await page.keyboard.press("Enter");
  await until(page, "answering");
}
/** @param {Page} page */
const titles = (page) => page.locator(".history .item").allTextContents();
/** @param {Page} page @param {string} name */
async function menu(page, name) {
  await page.getByRole("button", { name: "This chat" }).click();
  await page.locator("#chat-menu").getByRole("button", { name }).click();
}
/** What a click lets the browser save. @param {Page} page @param {() => Promise<void>} click */
async function saved(page, click) {
  const [download] = await Promise.all([page.waitForEvent("download"), click()]);
  return { name: download.suggestedFilename(), text: readFileSync(await download.path(), "utf8") };
}
/** @param {Page} page @param {unknown} conversations */
const bring = (page, conversations) =>
  page.setInputFiles("#import", {
    name: "chats.json",
    mimeType: "application/json",
    buffer: Buffer.from(JSON.stringify({ format: "pagelm-conversations", version: 1, conversations })),
  });

test("an answer that was coming when the page ended is there after a reload, and goes on", {
  timeout: 120_000,
}, async () => {
  const page = await open("&load&max_tokens=200");
  await until(page, "ready");
  await ask(page, "Write a long story about the sea.");
  await page.waitForFunction(
    () => /** @type {typeof globalThis & { answer: string }} */ (globalThis).answer.length > 60,
  );
  // Some of it is written down a moment later.
  await page.waitForTimeout(600);
  const seen = await answer(page);
  await page.goto(`${server.url}/?backend=cpu&temperature=0&max_tokens=40`);
  await page.locator("#reopen").waitFor();
  const kept = await answer(page);
  assert.ok(kept.length > 60 && (kept.startsWith(seen) || seen.startsWith(kept)), `${kept} | ${seen}`);
  assert.match((await page.locator(".message .cut").textContent()) ?? "", /closed before this answer was whole/);
  assert.deepEqual(await titles(page), ["Write a long story about the sea."]);
  assert.equal(await page.locator("#reopen").textContent(), "Load SmolLM2 135M");
  await page.click("#reopen");
  await until(page, "ready");
  await page.getByRole("button", { name: "Continue" }).click();
  await until(page, "answering");
  await until(page, "ready");
  const whole = await answer(page);
  assert.ok(whole.startsWith(kept) && whole.length > kept.length + 40, whole);
  assert.equal(await page.locator(".message.assistant").count(), 1);
  await menu(page, "Delete");
  await page.locator("#delete .danger").click();
  assert.deepEqual(await titles(page), []);
  await page.reload();
  await page.locator(".model").first().waitFor();
  assert.deepEqual(await titles(page), []);
  await page.close();
});

test("answers are given again and messages edited, each on a branch of its own", { timeout: 120_000 }, async () => {
  const page = await open("&load&max_tokens=6");
  await until(page, "ready");
  await ask(page, "Name a colour.");
  await until(page, "ready");
  const first = await answer(page);
  await page.click("#settings-open");
  await page.fill("#max_tokens", "3");
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Answer again" }).click();
  await until(page, "answering");
  await until(page, "ready");
  const second = await answer(page);
  assert.ok(first.startsWith(second) && second.length < first.length, `${second} | ${first}`);
  const switcher = page.locator(".message.assistant .switcher");
  assert.equal(await switcher.textContent(), "2/2");
  await switcher.getByRole("button", { name: "Version before" }).click();
  assert.equal(await switcher.textContent(), "1/2");
  assert.equal(await answer(page), first);

  await page.locator(".message.user").hover();
  await page.getByRole("button", { name: "Edit" }).click();
  await page.keyboard.press("Control+A");
  await page.keyboard.type("Name an animal.");
  await page.keyboard.press("Enter");
  await until(page, "answering");
  await until(page, "ready");
  assert.equal(await page.locator(".message.user .text").textContent(), "Name an animal.");
  assert.equal(await page.locator(".message.user .switcher").textContent(), "2/2");
  await page.locator(".message.user .switcher").getByRole("button", { name: "Version before" }).click();
  assert.equal(await page.locator(".message.user .text").textContent(), "Name a colour.");
  assert.equal(await page.locator(".message.assistant .switcher").textContent(), "2/2", "the newest of that branch");
  // Escape leaves an edit, and nothing changed.
  await page.getByRole("button", { name: "Edit" }).click();
  await page.keyboard.press("Escape");
  assert.equal(await page.locator(".message.user .text").textContent(), "Name a colour.");
  await page.close();
});

test("chats are renamed, searched, exported, deleted and brought back", { timeout: 60_000 }, async () => {
  const page = await open();
  await bring(page, [example("1", "Primes"), { ...example("2", "Tides"), updatedAt: 1 }]);
  await page.locator(".history .item").nth(1).waitFor();
  assert.deepEqual(await titles(page), ["Primes", "Tides"]);
  await menu(page, "Rename");
  await page.fill("#title", "Prime numbers");
  await page.keyboard.press("Enter");
  assert.deepEqual(await titles(page), ["Prime numbers", "Tides"]);
  await page.fill("#chat-search", "tid");
  assert.deepEqual(await titles(page), ["Tides"]);
  await page.fill("#chat-search", "zeta");
  assert.equal(await page.locator(".history .none").textContent(), "No chat has these words.");
  await page.fill("#chat-search", "");
  const text = await saved(page, () => menu(page, "Export as Markdown"));
  assert.equal(text.name, "Prime-numbers.md");
  assert.match(text.text, /^# Prime numbers\n\n## You\n\n[\s\S]+## Model\n\n<details>[\s\S]+```python/);
  const one = await saved(page, () => menu(page, "Export as JSON"));
  const all = await saved(page, () => page.getByRole("button", { name: "Export all" }).click());
  assert.equal(JSON.parse(one.text).conversations[0].title, "Prime numbers");
  assert.equal(JSON.parse(all.text).conversations.length, 2);
  await menu(page, "Delete");
  await page.locator("#delete").getByRole("button", { name: "Keep" }).click();
  assert.equal((await titles(page)).length, 2);
  await menu(page, "Delete");
  await page.locator("#delete .danger").click();
  assert.deepEqual(await titles(page), ["Tides"]);
  await bring(page, JSON.parse(one.text).conversations);
  await page.locator(".history .item", { hasText: "Prime numbers" }).waitFor();
  await bring(page, [{ id: "x", order: ["nothing"], nodes: {} }]);
  await page.locator("#problem", { hasText: "conversation 1 lacks messages that it names" }).waitFor();
  await page.reload();
  await page.locator(".history .item").nth(1).waitFor();
  assert.deepEqual((await titles(page)).sort(), ["Prime numbers", "Tides"]);
  await page.close();
});

test("markdown is drawn: code, formulas, thoughts and tools; and nothing in it acts", { timeout: 60_000 }, async () => {
  const page = await open();
  /** @type {string[]} */
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  const evil = [
    '<script>document.body.dataset.evil = 1</script><img src=x onerror="document.body.dataset.evil = 1">',
    "![seen](https://evil.example/pixel.png)",
    "[a](javascript:document.body.dataset.evil=1) [b](https://example.com/) <style>body{display:none}</style>",
    "| a | b |\n|---|---|\n| 1 | $2 and $3 |\n\n`$x$`",
  ].join("\n\n");
  await bring(page, [example("3", "Primes"), example("4", "Evil", evil)]);
  await page.locator(".history .item", { hasText: "Primes" }).click();
  const message = page.locator(".message.assistant").last();
  await message.locator("code.hljs .hljs-keyword").first().waitFor();
  await message.locator("math").first().waitFor();
  assert.equal(await message.locator("math[display=block]").count(), 1);
  const thoughts = page.locator(".thoughts").first();
  assert.equal(await thoughts.getAttribute("open"), null);
  await thoughts.locator("summary").click();
  assert.equal(await thoughts.locator("div").isVisible(), true);
  assert.deepEqual(await page.locator(".tool strong").allTextContents(), ["calculator", "read_page"]);
  assert.equal(await page.locator(".tool .fine").count(), 1);
  assert.equal(await page.locator(".tool header .bad").count(), 1);
  assert.match((await page.locator(".tool").first().textContent()) ?? "", /"expression": "97 \* 89".*8633/);
  await browser.debug?.().then((debug) =>
    debug.send("Browser.grantPermissions", {
      permissions: ["clipboardReadWrite", "clipboardSanitizedWrite"],
      origin: server.url,
    }),
  );
  await page.getByRole("button", { name: "Copy the code in python" }).click();
  assert.match(await page.evaluate(() => navigator.clipboard.readText()), /^def is_prime\(n\):\n/);

  await page.locator(".history .item", { hasText: "Evil" }).click();
  await page.locator(".message table").waitFor();
  const drawn = page.locator(".message.assistant .markdown").last();
  assert.equal(await drawn.locator("script, img, style, [onerror]").count(), 0);
  assert.deepEqual(
    await drawn.locator("a").evaluateAll((all) => all.map((a) => [a.getAttribute("href"), a.getAttribute("rel")])),
    [
      [null, "noopener noreferrer"],
      ["https://example.com/", "noopener noreferrer"],
    ],
  );
  assert.equal(await drawn.locator("math").count(), 0, "prices and code are no formulas");
  assert.equal(await page.evaluate(() => document.body.dataset.evil), undefined);
  assert.deepEqual(
    asked.filter((url) => !url.startsWith(server.url) && !url.startsWith("blob:")),
    [],
  );
  assert.deepEqual(page.errors, []);
  assert.deepEqual(
    page.console.filter((line) => /content security policy/i.test(line)),
    [],
  );
  await page.close();
});

test("what is dictated is written, where the browser hears", { timeout: 120_000 }, async () => {
  const page = await open();
  await page.addInitScript(() => {
    class Ears extends EventTarget {
      start() {
        const results = [[{ transcript: "Name " }], [{ transcript: "a colour." }]];
        this.dispatchEvent(Object.assign(new Event("result"), { results }));
      }
      stop() {
        this.dispatchEvent(new Event("end"));
      }
    }
    const has = !location.search.includes("deaf");
    Object.assign(globalThis, { SpeechRecognition: has ? Ears : undefined, webkitSpeechRecognition: undefined });
  });
  await page.goto(`${server.url}/?backend=cpu&load`);
  await until(page, "ready");
  await page.fill("#prompt", "Please:");
  const button = page.getByRole("button", { name: "Dictate" });
  await button.click();
  assert.equal(await page.inputValue("#prompt"), "Please: Name a colour.");
  assert.equal(await button.getAttribute("aria-pressed"), "true");
  await button.click();
  assert.equal(await button.getAttribute("aria-pressed"), "false");
  await page.goto(`${server.url}/?backend=cpu&load&deaf`);
  await until(page, "ready");
  assert.equal(await button.count(), 0);
  await page.close();
});

test("an answer by a schema fits it, and settings hold", { timeout: 120_000 }, async () => {
  const page = await open("&load");
  await until(page, "ready");
  await page.locator(".item", { hasText: "JSON by a schema" }).click();
  await page.locator("#schema").waitFor();
  await page.fill("#schema", "{");
  assert.match((await page.locator("#schema-why").textContent()) ?? "", /This is no JSON/);
  assert.equal(await page.locator("#schema-run").isDisabled(), true);
  await page.getByRole("button", { name: "A mood" }).click();
  await page.click("#schema-run");
  await page.locator("[role=status]", { hasText: "Complete: it fits the schema" }).waitFor();
  const { mood, why } = JSON.parse((await page.locator("#schema-output").textContent()) ?? "");
  assert.ok(["good", "mixed", "bad"].includes(mood) && typeof why === "string");
  await page.fill("#schema", '{"type": "object", "not": {}}');
  await page.click("#schema-run");
  await page.locator("#problem", { hasText: "bad-grammar" }).waitFor();
  await page.keyboard.press("Control+,");
  await page.fill("#top_k", "5");
  await page.fill("#system", "Be brief.");
  await page.fill("#temperature", "9");
  await page.keyboard.press("Escape");
  await page.reload();
  await page.keyboard.press("Control+,");
  assert.deepEqual(
    await page.evaluate(() =>
      ["system", "top_k", "min_p", "temperature"].map(
        (id) => /** @type {HTMLInputElement} */ (document.getElementById(id)).value,
      ),
    ),
    ["Be brief.", "5", "", "0"],
    "what is out of range is not taken",
  );
  await page.getByRole("button", { name: "Reset all" }).click();
  await page.keyboard.press("Escape");
  await page.keyboard.press("?");
  await page.locator("#shortcuts", { hasText: "Search chats" }).waitFor();

  // A key comes before the event that says that a dialog has closed: it must not close the next one.
  const closed = await page.evaluate(async () => {
    const dialog = /** @type {HTMLDialogElement} */ (document.getElementById("shortcuts"));
    const event = new Promise((done) => dialog.addEventListener("close", done));
    dialog.close();
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key: ",", ctrlKey: true, bubbles: true }));
    await event;
    return dialog.open;
  });
  assert.equal(closed, false);
  await page.locator("#settings[open]").waitFor();
  await page.close();
});
