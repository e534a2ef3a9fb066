// Speed in headless browsers, by the page's clock: pagelm beside another engine of the same kind, taken in turns.
//   node web/bench/bench.mjs [--model FILE,FILE…] [--browsers chromium,firefox] [--runs threads,one,webgpu]
//                            [--threads N] [--build NAME] [--pp 128] [--tg 64] [--depth 0,2048] [--reps 3]
//                            [--wait SECONDS] [--json]
// A run is `threads` (page with COOP and COEP, --threads threads, by default one a core), `one` (page without, one
// thread) or `webgpu`. The peer, wllama, runs on the CPU in Chromium; PEERS=0 leaves it out. --build takes a build of
// pagelm that is not the best. --depth measures after so many words that are in the engine's cache. --wait waits at
// most so long for a quiet machine before each measurement.
// "others" is how many cores' worth other programs used: with more than 0.1 on a small machine a row says little.
import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { BROWSERS, launch } from "../tools/browsers.mjs";
import { cache } from "../tools/cache.mjs";
import { serve } from "../tools/serve.mjs";
import { quiet, watch } from "./load.mjs";

const { values: o } = parseArgs({
  options: {
    model: { type: "string", default: join(cache, "models", "SmolLM2-135M-Instruct.Q4_1.gguf") },
    browsers: { type: "string", default: "chromium" },
    runs: { type: "string", default: "threads,one,webgpu" },
    threads: { type: "string", default: String(Math.min(availableParallelism(), 8)) },
    build: { type: "string" },
    pp: { type: "string", default: "128" },
    tg: { type: "string", default: "64" },
    depth: { type: "string", default: "0" },
    reps: { type: "string", default: "3" },
    wait: { type: "string", default: "0" },
    json: { type: "boolean", default: false },
  },
});
const [pp, tg, reps] = [Number(o.pp), Number(o.tg), Number(o.reps)];
const at = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));
const wllama = at("peers/node_modules/@wllama/wllama/esm");

/** Min, median and max. @param {number[]} all */
function spread(all) {
  const s = all.toSorted((a, b) => a - b);
  const middle = ((s[(s.length - 1) >> 1] ?? 0) + (s[s.length >> 1] ?? 0)) / 2;
  return { min: s[0] ?? 0, median: middle, max: s.at(-1) ?? 0 };
}

/** Loads each engine in a page of its own and lets them answer in turns. */
async function measure(
  /** @type {string} */ file,
  /** @type {import("../tools/browsers.mjs").Browser} */ browserName,
  /** @type {string} */ run,
  /** @type {number} */ depth,
) {
  const mounts = { "/": at("."), "/dist": at("../dist"), "/models": dirname(file), "/wllama": wllama };
  const server = await serve({ mounts, isolated: run !== "one" });
  const browser = await launch(browserName, { timeout: 600_000 });
  try {
    const peer = run !== "webgpu" && browserName === "chromium" && process.env.PEERS !== "0" && existsSync(wllama);
    const names = ["pagelm", ...(peer ? ["wllama"] : [])];
    const engines = [];
    for (const name of names) {
      const page = await browser.open(`${server.url}/${name}.html`);
      await page.waitForFunction(() => "bench" in globalThis);
      // Each page has its own `bench`: ours and the peer's.
      const answer = (/** @type {BenchRun} */ options) => page.evaluate((options) => bench.run(options), options);
      /** @type {BenchLoad} */
      const load = {
        model: `/models/${basename(file)}`,
        contextLength: depth + pp + tg + 64,
        threads: run === "one" ? 1 : Number(o.threads),
        backend: run === "webgpu" ? "webgpu" : "cpu",
        ...(o.build && { wasmBuild: /** @type {import("pagelm").WasmBuild} */ (o.build) }),
      };
      const info = await page.evaluate((options) => bench.load(options), load);
      // The first answer warms up, and tells how many tokens so many words are.
      const first = await answer({ depth: 0, length: pp, tokens: 4, seed: 0 });
      if (depth) await answer({ depth, length: 1, tokens: 1, seed: 0 });
      /** @type {(BenchSpeeds & { others: number, seconds: number })[]} */
      const runs = [];
      engines.push({ name, info, page, answer, length: pp + pp - first.prompt, runs });
    }
    for (let rep = 1; rep <= reps; rep++) {
      for (const e of engines) {
        await quiet(Number(o.wait));
        await e.page.bringToFront();
        const end = watch();
        const seen = await e.answer({ depth, length: e.length, tokens: tg, seed: rep });
        if (seen.depth < 0.9 * depth)
          throw new Error(`${e.name} kept ${seen.depth} tokens where ${depth} words came before`);
        e.runs.push({ ...seen, ...end() });
      }
    }
    return engines.map(({ name, info, runs }) => ({
      model: basename(file),
      run,
      engine: name,
      browser: `${browser.name} ${browser.version}`,
      ...info,
      firstMs: spread(runs.map((r) => r.firstMs)),
      prefill: spread(runs.map((r) => r.prefill)),
      decode: spread(runs.map((r) => r.decode)),
      others: spread(runs.map((r) => r.others)).max,
      coreSeconds: spread(runs.map((r) => r.seconds)),
      depth: runs[0]?.depth,
      prompt: runs[0]?.prompt,
      perStep: runs[0]?.perStep,
      memory: runs[0]?.memory,
      wasmBytes: runs[0]?.wasmBytes,
    }));
  } finally {
    await browser.close();
    await server.close();
  }
}

const cell = (/** @type {{ min: number, median: number, max: number }} */ s) =>
  `${s.min.toFixed(1)} / **${s.median.toFixed(1)}** / ${s.max.toFixed(1)}`;
if (!o.json) {
  console.log(`min / median / max of ${reps}; ratios are of medians: pagelm over the row`);
  console.log(
    `| model | run | engine | threads | depth | load s | pp${pp} t/s | ratio | tg${tg} t/s | ratio | MiB wasm | others |`,
  );
  console.log("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
}
for (const file of o.model.split(",").map((f) => resolve(f))) {
  for (const browser of o.browsers.split(",")) {
    const name = BROWSERS.find((b) => b === browser);
    if (!name) throw new Error(`--browsers takes ${BROWSERS.join(", ")}`);
    const runs = o.runs
      .split(",")
      .flatMap((run) => o.depth.split(",").map((d) => /** @type {const} */ ([run, Number(d)])));
    for (const [run, depth] of runs) {
      const rows = await measure(file, name, run, depth);
      for (const [i, r] of rows.entries()) {
        if (o.json) {
          console.log(JSON.stringify(r));
          continue;
        }
        const ours = rows[0];
        const ratio = (/** @type {"prefill" | "decode"} */ what) =>
          i === 0 || !ours ? "" : `${(ours[what].median / r[what].median).toFixed(2)}x`;
        const engine = r.what ? `${r.engine} (${r.what})` : r.engine;
        const mib = r.wasmBytes ? Math.round(r.wasmBytes / 2 ** 20) : "";
        const where = `${browser}, ${run}`;
        console.log(
          `| ${r.model} | ${where} | ${engine} | ${r.threads} | ${depth} | ${(r.loadMs / 1000).toFixed(1)} | ${cell(r.prefill)} | ${ratio("prefill")} | ${cell(r.decode)} | ${ratio("decode")} | ${mib} | ${r.others.toFixed(2)} |`,
        );
      }
    }
  }
}
