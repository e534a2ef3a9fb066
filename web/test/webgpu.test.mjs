// What every other browser test stands on: in a worker of an isolated page, WebGPU computes and reads back right.
import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { BROWSERS, launch } from "../tools/browsers.mjs";
import { serve } from "../tools/serve.mjs";

for (const name of BROWSERS) {
  test(`WebGPU in a worker, ${name}`, { timeout: 120_000 }, async (t) => {
    const server = await serve({ mounts: { "/": fileURLToPath(new URL("pages/", import.meta.url)) } });
    t.after(server.close);
    const browser = await launch(name);
    t.after(browser.close);
    const page = await browser.open(`${server.url}/worker.html`);
    const result = await page.evaluate(
      () =>
        new Promise((done, fail) => {
          const worker = new Worker("/webgpu.js", { type: "module" });
          worker.onmessage = (event) => done(event.data);
          worker.onerror = (event) => fail(new Error(event.message));
        }),
    );
    t.diagnostic(`${browser.version} ${JSON.stringify(result)}`);
    assert.equal(result.error, undefined);
    assert.equal(result.isolated, true);
    assert.equal(result.wrong, 0);
    assert.deepEqual(page.errors, []);
  });
}
