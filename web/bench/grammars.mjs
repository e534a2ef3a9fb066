// What JSON schemas cost on the CPU of a page in headless Chromium: before an answer can begin, and for each of its tokens.
//   node web/bench/grammars.mjs --schemas FILE [--model FILE] [--tg 64] [--reps 3] [--threads N] [--wait SECONDS]
// FILE is a JSON list of schemas. One round more is not counted. --wait waits at most so long for a quiet machine.
import { readFileSync } from "node:fs";
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
    schemas: { type: "string" },
    model: { type: "string", default: join(cache, "models", "SmolLM2-135M-Instruct.Q4_1.gguf") },
    tg: { type: "string", default: "64" },
    reps: { type: "string", default: "3" },
    threads: { type: "string", default: String(Math.min(availableParallelism(), 8)) },
    wait: { type: "string", default: "0" },
  },
});
if (!o.schemas) throw new Error("which schemas? give --schemas FILE, a JSON list of them");
/** @type {object[]} */
const schemas = JSON.parse(readFileSync(o.schemas, "utf8"));
const at = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));
const file = resolve(o.model);
const server = await serve({ mounts: { "/": at("."), "/dist": at("../dist"), "/models": dirname(file) } });
const browser = await launch("chromium", { timeout: 600_000 });
const line = (/** @type {string} */ name, /** @type {number[]} */ values, /** @type {number[]} */ parts) => {
  const s = values.toSorted((a, b) => a - b);
  const shown = parts.map((part) => s[Math.min(s.length - 1, Math.floor(s.length * part))]?.toFixed(2));
  console.log(`| ${name} | ${shown.join(" / ")} |`);
};
try {
  /** @type {BenchGrammars[]} */
  const rounds = [];
  const others = [];
  for (let rep = 0; rep <= Number(o.reps); rep++) {
    // Another page each time: an engine keeps the grammars that it has compiled.
    const page = await browser.open(`${server.url}/pagelm.html`);
    await page.waitForFunction(() => "bench" in globalThis);
    await quiet(Number(o.wait));
    const end = watch();
    const options = {
      model: `/models/${basename(file)}`,
      threads: Number(o.threads),
      schemas: rep === 0 ? [] : schemas,
      tokens: Number(o.tg),
    };
    const seen = await page.evaluate((options) => bench.grammars?.(options), options);
    if (seen && rep > 0) rounds.push(seen);
    if (rep > 0) others.push(end().others);
    await page.close();
  }
  const refused = rounds[0]?.refused;
  console.log(`${basename(file)}, ${o.threads} threads, ${browser.name} ${browser.version}, ${o.reps} rounds`);
  const begins = rounds.flatMap((r) => r.begins);
  console.log(`${schemas.length} schemas, ${refused} refused; ms, 50 %, 95 % and the slowest:`);
  for (const [name, values] of /** @type {const} */ ([
    ["until an answer can begin without a schema", begins.map((b) => b.plain)],
    ["with one", begins.map((b) => b.held)],
    ["what it adds, over the request before it", begins.map((b) => b.held - b.plain)],
  ]))
    line(name, values, [0.5, 0.95, 1]);
  console.log("lowest, 50 % and highest of the rounds:");
  for (const [name, values] of /** @type {const} */ ([
    ["tokens/s without a schema", rounds.map((r) => r.plain)],
    ["with, over without", rounds.map((r) => r.held / r.plain)],
    ["cores that others used", others],
  ]))
    line(name, values, [0, 0.5, 1]);
} finally {
  await browser.close();
  await server.close();
}
