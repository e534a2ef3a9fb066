// Whether a page of headless Chromium goes on drawing while an image is encoded: gaps between its frames, and how long the parts
// of the encoding are. The encoder is one of `pagelm synth --width 64`; the language model is a tiny one.
//   node web/bench/frames.mjs --mmproj FILE [--of gemma3vl] [--backends cpu,webgpu] [--threads 2] [--dist FOLDER] [--wait SECONDS]
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { seeing } from "../test/e2e/setup.mjs";
import { launch } from "../tools/browsers.mjs";
import { serve } from "../tools/serve.mjs";
import { quiet, watch } from "./load.mjs";

const at = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));
const { values: o } = parseArgs({
  options: {
    mmproj: { type: "string", default: "" },
    of: { type: "string", default: "gemma3vl" },
    backends: { type: "string", default: "cpu,webgpu" },
    threads: { type: "string", default: "2" },
    dist: { type: "string", default: at("../dist") },
    wait: { type: "string", default: "0" },
  },
});
const mmproj = resolve(o.mmproj);
const made = mkdtempSync(join(tmpdir(), "pagelm-frames-"));
const { model } = seeing(/** @type {"gemma3vl"} */ (o.of));
// The window of the tiny model is shorter than an image of the real one.
const key = "gemma3.attention.sliding_window";
const found = model.indexOf(key);
if (found >= 0) model.writeUInt32LE(512, found + key.length + 4);
writeFileSync(join(made, "model.gguf"), model);
const server = await serve({
  mounts: { "/": at("."), "/dist": resolve(o.dist), "/made": made, "/encoder": dirname(mmproj) },
});
const browser = await launch("chromium", { timeout: 1_200_000 });
try {
  console.log(
    `${basename(mmproj)}, ${o.threads} threads, ${browser.name} ${browser.version}: milliseconds, min / median / max`,
  );
  console.log("| backend | frames, idle | while encoding | over 100 ms | parts | of | seconds | others |");
  console.log("| --- | --- | --- | --- | --- | --- | --- | --- |");
  for (const backend of /** @type {("cpu" | "webgpu")[]} */ (o.backends.split(","))) {
    const page = await browser.open(`${server.url}/pagelm.html`);
    await page.waitForFunction(() => "bench" in globalThis);
    await quiet(Number(o.wait));
    const end = watch();
    const options = {
      model: "/made/model.gguf",
      mmproj: `/encoder/${basename(mmproj)}`,
      backend,
      threads: Number(o.threads),
      idleMs: 3000,
    };
    const seen = await page.evaluate((options) => bench.frames?.(options), options);
    const { others } = end();
    await page.close();
    if (!seen) throw new Error("the page has no such bench");
    const spread = (/** @type {number[]} */ all) => {
      const s = all.toSorted((a, b) => a - b);
      return [s[0], s[s.length >> 1], s.at(-1)].map((v) => (v ?? 0).toFixed(0)).join(" / ");
    };
    const long = seen.encoding.filter((gap) => gap > 100).length;
    const cells = [
      `${backend} (${seen.what})`,
      spread(seen.idle),
      spread(seen.encoding),
      `${long} of ${seen.encoding.length}`,
      seen.parts.length,
      spread(seen.parts),
      seen.seconds.toFixed(1),
      others.toFixed(2),
    ];
    console.log(`| ${cells.join(" | ")} |`);
  }
} finally {
  await browser.close();
  await server.close();
  rmSync(made, { recursive: true });
}
