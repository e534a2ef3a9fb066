// What several sequences gain on the CPU of a page in headless Chromium: generations side by side, the next turn of a
// conversation, a snapshot, and proposals where a text repeats itself.
//   node web/bench/sequences.mjs [--model FILE] [--length 2000] [--tg 64] [--reps 3] [--threads N] [--wait SECONDS]
// One round more is not counted. --wait waits at most so long for a quiet machine before each round.
import { availableParallelism } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { launch } from "../tools/browsers.mjs";
import { cache } from "../tools/cache.mjs";
import { serve } from "../tools/serve.mjs";
import { quiet, watch } from "./load.mjs";

const { values: o } = parseArgs({
  options: {
    model: { type: "string", default: join(cache, "models", "SmolLM2-135M-Instruct.Q4_1.gguf") },
    length: { type: "string", default: "2000" },
    tg: { type: "string", default: "64" },
    reps: { type: "string", default: "3" },
    threads: { type: "string", default: String(Math.min(availableParallelism(), 8)) },
    wait: { type: "string", default: "0" },
  },
});
const at = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));
const file = resolve(o.model);
const server = await serve({ mounts: { "/": at("."), "/dist": at("../dist"), "/models": dirname(file) } });
const browser = await launch("chromium", { timeout: 600_000 });
try {
  const page = await browser.open(`${server.url}/pagelm.html`);
  await page.waitForFunction(() => "bench" in globalThis);
  /** @type {(BenchSequences & { others: number })[]} */
  const rounds = [];
  for (let rep = 0; rep <= Number(o.reps); rep++) {
    await quiet(Number(o.wait));
    const end = watch();
    const options = {
      model: `/models/${basename(file)}`,
      threads: Number(o.threads),
      length: Number(o.length),
      tokens: Number(o.tg),
      seed: rep + 1,
    };
    const seen = await page.evaluate((options) => bench.sequences?.(options), options);
    if (seen && rep > 0) rounds.push({ ...seen, others: end().others });
  }
  const row = (/** @type {string} */ name, /** @type {(r: BenchSequences & { others: number }) => number} */ of) => {
    const s = rounds.map(of).toSorted((a, b) => a - b);
    const shown = [s[0], s[s.length >> 1], s.at(-1)].map((v) => (v ?? 0).toFixed(2));
    console.log(`| ${name} | ${shown[0]} / **${shown[1]}** / ${shown[2]} |`);
  };
  console.log(
    `${basename(file)}, ${o.threads} threads, ${browser.name} ${browser.version}: min / median / max of ${o.reps}`,
  );
  console.log("| what | |\n| --- | --- |");
  row("tokens/s alone", (r) => r.together[0] ?? 0);
  row("two together, over alone", (r) => (r.together[1] ?? 0) / (r.together[0] ?? 1));
  row("four together, over alone", (r) => (r.together[2] ?? 0) / (r.together[0] ?? 1));
  row(`first token after ${o.length} words, s`, (r) => r.firstMs / 1000);
  row("of the next turn, over that", (r) => r.nextMs / r.firstMs);
  row("a restored snapshot, over reading the prompt", (r) => r.restoreMs / r.prefillMs);
  row("with proposals, over without", (r) => r.proposed / r.plain);
  row("cores that others used", (r) => r.others);
} finally {
  await browser.close();
  await server.close();
}
