// The built site works in any folder of any server: pages, styles and the search. Run after `make docs`, with a browser.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { launch } from "../tools/browsers.mjs";
import { serve } from "../tools/serve.mjs";

const dist = fileURLToPath(new URL("dist", import.meta.url));

test("the site works in a folder, and asks for nothing elsewhere", { timeout: 120_000 }, async () => {
  assert.ok(existsSync(dist), "run make docs first");
  const server = await serve({ mounts: { "/some/docs": dist } });
  const browser = await launch("chromium");
  after(async () => {
    await browser.close();
    await server.close();
  });
  const page = await browser.open(`${server.url}/some/docs/`);
  await page.click('a[href="start/"]');
  await page.waitForFunction(() => document.title.startsWith("First answer"));
  await page.click("site-search button");
  await page.fill("site-search input", "cross-origin isolated");
  await page.click(".pagefind-ui__result-link");
  await page.waitForFunction(() => /\/some\/docs\/.+\/$/.test(location.pathname) && !/start/.test(location.pathname));
  const lost = server.requests.filter(({ status, path }) => status >= 400 && !path.includes("favicon"));
  assert.deepEqual(lost, []);
  assert.deepEqual(page.errors, []);
  assert.doesNotMatch(page.console.join("\n"), /ERR_|Failed to load/);
});
