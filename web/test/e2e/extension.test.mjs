// The example of an extension, as it stands in the repository: its service worker opens the document with the engine, also
// after the browser ended it, and a page gets the answer of a real model.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { launch } from "../../tools/browsers.mjs";
import { cache } from "../../tools/cache.mjs";
import { serve } from "../../tools/serve.mjs";
import { skip } from "../skipped.mjs";
import { reference } from "./setup.mjs";

const at = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));

test("chromium: an extension answers from its offscreen document", { timeout: 300_000 }, async (t) => {
  if (!existsSync(join(cache, "models", reference.model))) return skip(t, `${reference.model} is not downloaded`);
  const folder = mkdtempSync(join(tmpdir(), "pagelm-extension-"));
  const server = await serve({ mounts: { "/models": join(cache, "models") } });
  t.after(async () => {
    await server.close();
    rmSync(folder, { recursive: true });
  });
  cpSync(at("../../../examples/extension"), folder, { recursive: true });
  execFileSync(process.execPath, [at("../../dist/single.mjs"), join(folder, "pagelm.js")]);
  writeFileSync(join(folder, "model.js"), `export const MODEL = "${server.url}/models/${reference.model}";`);
  const browser = await launch("chromium", {
    args: [`--disable-extensions-except=${folder}`, `--load-extension=${folder}`],
  });
  t.after(() => browser.close());
  const page = await browser.open("about:blank");
  const context = page.context();
  const worker = context.serviceWorkers()[0] ?? (await context.waitForEvent("serviceworker"));
  await page.goto(new URL("popup.html", worker.url()).href);
  const answer = async () => {
    await page.click("button");
    await page.waitForFunction(() => /answered|failed/.test(document.querySelector("form")?.dataset.state ?? ""));
    return page.textContent("#answer");
  };
  const first = await answer();
  assert.match(first ?? "", /browser is .*(web|internet)/i);

  const debug = await context.newCDPSession(page);
  const ended = new Promise((done) =>
    debug.on("ServiceWorker.workerVersionUpdated", ({ versions }) => {
      if (versions.some(({ runningStatus }) => runningStatus === "stopped")) done(undefined);
    }),
  );
  await debug.send("ServiceWorker.enable");
  await debug.send("ServiceWorker.stopAllWorkers");
  await ended;
  assert.equal(await answer(), first);
  assert.deepEqual(page.errors, []);
});
