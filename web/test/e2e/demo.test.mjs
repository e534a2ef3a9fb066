// The demo page for who uses a keyboard, a screen reader or a finger.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { createServer } from "vite";
import { serveDemo } from "../../demo/serve.mjs";
import { launch } from "../../tools/browsers.mjs";
import { dataUrl, fixture, seeing } from "./setup.mjs";

const server = await serveDemo();
const browser = await launch("chromium");
after(async () => {
  await browser.close();
  await server.close();
});
const SMOLLM = "/models/SmolLM2-135M-Instruct.Q4_1.gguf";
const CPU = "backend=cpu&temperature=0&seed=1";

/** @param {string} query */
const open = (query) => browser.open(`${server.url}/?${query}`);
/** What the page is in, and where the keyboard is. @param {import("../../tools/browsers.mjs").Page} page */
const look = (page) =>
  page.evaluate(() => ({
    state: document.body.dataset.state,
    focus: document.activeElement?.id || document.activeElement?.textContent?.trim() || document.activeElement?.tagName,
    announced: document.querySelector("#announced")?.textContent ?? "",
    cut: [...document.querySelectorAll(".cut")].at(-1)?.textContent ?? "",
    answer: /** @type {typeof globalThis & { answer: string }} */ (globalThis).answer,
    note: [...document.querySelectorAll(".message.assistant .note")].at(-1)?.textContent ?? "",
  }));
/** @param {import("../../tools/browsers.mjs").Page} page @param {string} state */
const until = (page, state) =>
  page.waitForFunction((/** @type {string} */ s) => document.body.dataset.state === s, state);
/** Remembers what a screen reader is given from now on. @param {import("../../tools/browsers.mjs").Page} page */
const listen = (page) =>
  page.evaluate(() => {
    const said = /** @type {string[]} */ ([]);
    const live = '[role="status"], [role="alert"], [aria-live]:not([aria-live="off"])';
    new MutationObserver((changes) => {
      for (const { target } of changes) {
        const region = (target instanceof Element ? target : target.parentElement)?.closest(live);
        const text = region?.textContent?.trim();
        if (text && said.at(-1) !== text) said.push(text);
      }
    }).observe(document.body, { subtree: true, childList: true, characterData: true });
    Object.assign(globalThis, { said });
  });
/** @param {import("../../tools/browsers.mjs").Page} page @returns {Promise<string[]>} */
const said = (page) => page.evaluate(() => /** @type {typeof globalThis & { said: string[] }} */ (globalThis).said);

test("the keyboard stays where it was, from loading to another model", { timeout: 120_000 }, async () => {
  const page = await open(CPU);
  await page.focus("#url");
  await page.keyboard.press("Enter");
  assert.deepEqual((await look(page)).focus, "cancel");
  await page.keyboard.press("Escape");
  await until(page, "idle");
  assert.equal((await look(page)).focus, "url");
  await page.focus("#load-address");
  await page.keyboard.press("Enter");
  await until(page, "ready");
  assert.equal((await look(page)).focus, "prompt");
  await page.focus("#unload");
  await page.keyboard.press("Enter");
  await until(page, "idle");
  assert.equal((await look(page)).focus, "load-address");
  const status = await page.evaluate(() => {
    const { textContent, title, dataset } = /** @type {HTMLElement} */ (document.querySelector("#status"));
    return { textContent, title, backend: dataset.backend };
  });
  assert.deepEqual(status, { textContent: "", title: "", backend: undefined });
  await page.fill("#url", "/models/none.gguf");
  await page.focus("#url");
  await page.keyboard.press("Enter");
  await until(page, "failed");
  assert.equal((await look(page)).focus, "url");
  await page.close();
});

test("an answer is said once and whole, Escape stops one, and a cut is told", { timeout: 120_000 }, async () => {
  const page = await open(`${CPU}&load&max_tokens=24`);
  await until(page, "ready");
  await listen(page);
  await page.fill("#prompt", "Explain what a browser is.");
  await page.focus("#prompt");
  await page.keyboard.press("Enter");
  // Somebody who goes elsewhere meanwhile is left there.
  await page.focus("#settings-open");
  await until(page, "ready");
  const { focus, answer, announced, cut } = await look(page);
  assert.equal(focus, "settings-open");
  assert.match(cut, /^The answer was cut: it reached 24 tokens, the most that it may have/);
  assert.equal(announced, `Answer complete. ${answer} ${cut}`);
  assert.deepEqual(await said(page), [announced]);
  await page.click("#clear");
  await page.close();

  const long = await open(`${CPU}&load`);
  await until(long, "ready");
  await listen(long);
  await long.fill("#prompt", "Write a long story about the sea.");
  await long.click("#send");
  await until(long, "answering");
  assert.equal((await look(long)).focus, "stop");
  await long.waitForFunction(() => (document.querySelector(".message.assistant .text")?.textContent?.length ?? 0) > 10);
  await long.keyboard.press("Escape");
  await until(long, "ready");
  const stopped = await look(long);
  assert.equal(stopped.note, "stopped");
  assert.equal(stopped.focus, "prompt");
  assert.deepEqual(await said(long), [`Stopped. ${stopped.answer}`]);
  await long.close();

  const full = await open(`${CPU}&load&context=64`);
  await until(full, "ready");
  await full.fill("#prompt", "Write a long story about the sea.");
  await full.click("#send");
  await until(full, "answering");
  await until(full, "ready");
  assert.equal((await look(full)).cut, "The answer was cut: the context of 64 tokens is full. Start a new chat.");
  await full.close();
});

test("every control on a phone is 44 px high and wide and shows all of its words", async () => {
  const page = await open(CPU);
  await page.setViewportSize({ width: 360, height: 740 });
  const small = () =>
    page.evaluate(() => {
      const found = [];
      for (const e of document.querySelectorAll(
        "button, select, textarea, .button, input:not(.unseen), a.item, a.brand",
      )) {
        const { width, height } = e.getBoundingClientRect();
        const cut = e.matches("button, .button") && e.scrollWidth > e.clientWidth;
        if (width > 0 && (width < 44 || height < 44 || cut))
          found.push(`${e.id || e.textContent}: ${width} x ${height}`);
      }
      if (document.documentElement.scrollWidth > innerWidth)
        found.push(`page: ${document.documentElement.scrollWidth}`);
      return found;
    });
  assert.deepEqual(await small(), []);
  await page.click("#load-address");
  await until(page, "ready");
  assert.deepEqual(await small(), []);
  for (const open of ["#menu", "#settings-open"]) {
    await page.click(open);
    assert.deepEqual(await small(), [], open);
    await page.keyboard.press("Escape");
  }
  await page.goto(`${server.url}/bench.html`);
  assert.deepEqual(await small(), []);
  await page.close();
});

test("pictures are picked, pasted and dropped, and go with the message", { timeout: 120_000 }, async () => {
  const page = await open(`${CPU}&max_tokens=4`);
  /** Gives files to the page: into an input, or as an event that brings some. */
  const give = (/** @type {string} */ how, /** @type {[name: string, type: string, base64: string][]} */ given) =>
    page.evaluate(
      ([how, given]) => {
        const data = new DataTransfer();
        for (const [name, type, base64] of given) {
          data.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], name, { type }));
        }
        if (how === "paste") document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }));
        else if (how === "drop") document.dispatchEvent(new DragEvent("drop", { dataTransfer: data }));
        else {
          const input = /** @type {HTMLInputElement} */ (document.querySelector(how));
          input.files = data.files;
          input.dispatchEvent(new Event("change"));
        }
      },
      /** @type {const} */ ([how, given]),
    );
  const seen = () =>
    page.evaluate(() => ({
      button: document.querySelector("#see")?.checkVisibility() ?? false,
      shelf: document.querySelectorAll("#pictures img").length,
      sent: document.querySelectorAll(".message.user img").length,
    }));
  assert.deepEqual(await seen(), { button: false, shelf: 0, sent: 0 });
  const { model, mmproj } = seeing();
  await give("#file", [
    ["mmproj-tiny.gguf", "", mmproj.toString("base64")],
    ["tiny.gguf", "", model.toString("base64")],
  ]);
  await until(page, "ready");
  const png = dataUrl(fixture("qwen3vl.json").cases[0]).split(",")[1] ?? "";
  const file = /** @type {[string, string, string]} */ (["a.png", "image/png", png]);
  await give("#picture", [file]);
  await give("paste", [file]);
  await give("drop", [file, ["a.txt", "text/plain", ""]]);
  assert.deepEqual(await seen(), { button: true, shelf: 3, sent: 0 });
  await page.click("#pictures button");
  assert.deepEqual(await seen(), { button: true, shelf: 2, sent: 0 });
  await page.fill("#prompt", "3j?");
  await page.keyboard.press("Enter");
  await until(page, "ready");
  assert.deepEqual(await seen(), { button: true, shelf: 0, sent: 2 });
  assert.match((await look(page)).note, /4 tokens/);
  await page.close();
});

test("in development the page runs the package's sources", { timeout: 120_000 }, async (t) => {
  const configFile = fileURLToPath(new URL("../../demo/vite.config.ts", import.meta.url));
  const development = await createServer({ configFile, logLevel: "error", server: { port: 0 } });
  t.after(() => development.close());
  await development.listen();
  const page = await browser.open(`${development.resolvedUrls?.local[0]}?${CPU}&max_tokens=1`);
  await page.fill("#url", server.url + SMOLLM);
  await page.click("#load-address");
  await until(page, "ready");
  const loaded = await page.evaluate(() => performance.getEntriesByType("resource").map((e) => e.name));
  assert.ok(
    loaded.some((/** @type {string} */ url) => url.endsWith("/src/page/engine.ts")),
    `${loaded}`,
  );
  await page.close();
});
