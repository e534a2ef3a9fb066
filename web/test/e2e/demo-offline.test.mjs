// The demo as an app: loaded once, it answers without a server.
import assert from "node:assert/strict";
import { test } from "node:test";
import { serveDemo } from "../../demo/serve.mjs";
import { launch } from "../../tools/browsers.mjs";

/** @param {import("../../tools/browsers.mjs").Page} page @param {string} state */
const until = (page, state) =>
  page.waitForFunction((/** @type {string} */ s) => document.body.dataset.state === s, state);
/** @param {import("../../tools/browsers.mjs").Page} page */
const tell = async (page) => {
  await page.fill("#prompt", "Explain what a browser is.");
  await page.keyboard.press("Enter");
  await until(page, "answering");
  await until(page, "ready");
  return page.evaluate(() => ({
    answer: /** @type {typeof globalThis & { answer: string }} */ (globalThis).answer,
    status: document.querySelector("#status")?.textContent,
    isolated: crossOriginIsolated,
  }));
};

test("loaded once, the page answers when the server is gone, with as many threads", { timeout: 180_000 }, async (t) => {
  const server = await serveDemo();
  const browser = await launch("chromium");
  t.after(() => browser.close());
  let gone = false;
  t.after(() => (gone ? undefined : server.close()));
  const page = await browser.open(`${server.url}/?backend=cpu&temperature=0&max_tokens=12&load`);
  await until(page, "ready");
  const before = await tell(page);
  await page.getByRole("button", { name: "Activity" }).click();
  await page.locator(".activity dd", { hasText: /^ready$/ }).waitFor();
  const manifest = await page.evaluate(async () => {
    const link = /** @type {HTMLLinkElement} */ (document.querySelector("link[rel=manifest]"));
    return (await fetch(link.href)).json();
  });
  for (const { src } of manifest.icons) assert.equal((await fetch(new URL(src, server.url))).status, 200, src);
  const debug = await browser.debug?.();
  const { installabilityErrors } = (await debug?.send("Page.getInstallabilityErrors")) ?? {};
  assert.deepEqual(
    installabilityErrors?.map(({ errorId }) => errorId).filter((id) => id !== "in-incognito"),
    [],
  );

  await server.close();
  gone = true;
  await assert.rejects(fetch(server.url), "the server is gone");
  await page.goto(`${server.url}/?backend=cpu&temperature=0&max_tokens=12`);
  await page.locator("#reopen").waitFor();
  assert.equal(await page.evaluate(() => /** @type {any} */ (globalThis).answer), before.answer, "the chat is here");
  await page.click("#clear");
  await page.locator(".tag.good", { hasText: "stored here" }).waitFor();
  await page.click("#load-address");
  await until(page, "ready");
  const after = await tell(page);
  assert.deepEqual(after, before);
  assert.match(after.status ?? "", /CPU/);
  // What comes later in the page's life is there too.
  await page.goto(`${server.url}/#schema`);
  await page.locator("#schema").waitFor();
  await page.goto(`${server.url}/bench.html`);
  await page.locator("#run").waitFor();
});

test("a server without headers gets threads from the second visit on", { timeout: 60_000 }, async (t) => {
  const { serve } = await import("../../tools/serve.mjs");
  const dist = new URL("../../demo/dist", import.meta.url).pathname;
  const server = await serve({ mounts: { "/": dist }, isolated: false });
  const browser = await launch("chromium");
  t.after(async () => {
    await browser.close();
    await server.close();
  });
  const page = await browser.open(`${server.url}/`);
  assert.equal(await page.evaluate(() => crossOriginIsolated), false);
  await page.evaluate(async () => {
    await navigator.serviceWorker.ready;
    if (!navigator.serviceWorker.controller)
      await new Promise((done) => navigator.serviceWorker.addEventListener("controllerchange", done, { once: true }));
  });
  await page.reload();
  assert.equal(await page.evaluate(() => crossOriginIsolated), true);
});
