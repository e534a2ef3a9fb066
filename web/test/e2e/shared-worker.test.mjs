// Why tabs that share an engine have it in one of them and not in a `SharedWorker`: what those lack in each browser.
import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { BROWSERS, launch } from "../../tools/browsers.mjs";
import { serve } from "../../tools/serve.mjs";

/** What an engine needs and a `SharedWorker` has not. */
const LACKS = {
  chromium: ["threads' memory", "workers", "synchronous handles of files"],
  firefox: ["threads' memory", "synchronous handles of files"],
};

for (const name of BROWSERS) {
  test(`${name}: a SharedWorker lacks what an engine needs`, { timeout: 300_000 }, async (t) => {
    const server = await serve({ mounts: { "/": fileURLToPath(new URL(".", import.meta.url)) } });
    t.after(() => server.close());
    const browser = await launch(name);
    t.after(() => browser.close());
    const open = () => browser.open(new URL("/shared-worker.html", server.url).href);
    /** @param {Awaited<ReturnType<typeof open>>} page @param {"dedicated" | "shared"} kind */
    const asked = (page, kind) =>
      page.evaluate(
        (kind) =>
          /** @type {Promise<{ lacks: string[], born: number }>} */ (
            new Promise((resolve, reject) => {
              const options = /** @type {const} */ ({ type: "module" });
              const shared = kind === "shared" ? new SharedWorker("/shared-worker.js", options) : null;
              const worker = shared ?? new Worker("/shared-worker.js", options);
              worker.onerror = ({ message }) => reject(new Error(`the worker failed: ${message}`));
              const port = shared?.port ?? /** @type {Worker} */ (worker);
              port.onmessage = ({ data }) => resolve(data);
            })
          ),
        kind,
      );
    const page = await open();
    assert.deepEqual((await asked(page, "dedicated")).lacks, [], "a page's worker has all of it");
    const { lacks, born } = await asked(page, "shared");
    const what = `${browser.version} has other things in a SharedWorker: look again at whether tabs can share an engine there`;
    assert.deepEqual(lacks, LACKS[name], `${what}, as web/docs/src/content/docs/sharing.md says that they cannot`);
    // It would outlive the tab that made it, which is why it is worth a look.
    const other = await open();
    assert.equal((await asked(other, "shared")).born, born);
    await page.close();
    assert.equal((await asked(other, "shared")).born, born);
    assert.deepEqual(other.errors, []);
  });
}
