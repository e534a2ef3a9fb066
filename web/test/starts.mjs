// Starts engines with threads again and again, to find a start that hangs: node web/test/starts.mjs firefox 500
// Every tenth time the page is a new one. A start that takes a minute has hung; its page is left then.
import { fileURLToPath } from "node:url";
import { BROWSERS, launch } from "../tools/browsers.mjs";
import { serve } from "../tools/serve.mjs";

const [name, times = "500"] = process.argv.slice(2);
const browserName = BROWSERS.find((b) => b === name);
if (!browserName) {
  console.error(`usage: starts.mjs ${BROWSERS.join("|")} [TIMES]`);
  process.exit(2);
}
const at = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));
const mounts = { "/": at("e2e"), "/dist": at("../dist"), "/golden": at("../../tests/golden") };
const server = await serve({ mounts });
const browser = await launch(browserName);

/** One start: how many threads run, or what went wrong. @param {import("../tools/browsers.mjs").Page} page */
const start = (page) =>
  page.evaluate(async () => {
    const load = e2e.load({ model: "/golden/llama.gguf", backend: "cpu", threads: 4 });
    const late = /** @type {Promise<null>} */ (new Promise((resolve) => setTimeout(resolve, 60_000, null)));
    const loaded = await Promise.race([load, late]);
    return loaded ? `${loaded.info.wasm.threads} threads` : "hung";
  });

/** @type {Record<string, number>} */
const seen = {};
const began = performance.now();
let page;
for (let i = 0; i < Number(times); i++) {
  if (!page || i % 10 === 0) {
    await page?.close();
    page = await browser.open(`${server.url}/page.html`);
    await page.waitForFunction(() => "e2e" in globalThis);
  }
  const what = await start(page).catch((e) => String(e));
  seen[what] = (seen[what] ?? 0) + 1;
  if (what === "hung") page = undefined;
  if (i % 50 === 49) console.log(`${i + 1} starts in ${Math.round((performance.now() - began) / 1000)} s:`, seen);
}
console.log(`${times} starts in ${browserName} ${browser.version}:`, seen);
await browser.close();
await server.close();
process.exitCode = seen["4 threads"] === Number(times) ? 0 : 1;
