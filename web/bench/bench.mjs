// Speed of the built package in headless browsers, on each backend.
//   node web/bench/bench.mjs [--model FILE] [--browsers chromium,firefox] [--backends webgpu,cpu]
//                            [--pp 128] [--tg 64] [--reps 3] [--json]
// Without --json it prints a table. With it, one JSON object a line.
import { homedir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { BROWSERS, launch } from "../test/browsers.mjs";
import { serve } from "../test/serve.mjs";

const { PAGELM_CACHE, XDG_CACHE_HOME } = process.env;
const cache = PAGELM_CACHE ?? join(XDG_CACHE_HOME ?? join(homedir(), ".cache"), "pagelm");
const { values: o } = parseArgs({
  options: {
    model: { type: "string", default: join(cache, "models", "SmolLM2-135M-Instruct.Q4_1.gguf") },
    browsers: { type: "string", default: "chromium" },
    backends: { type: "string", default: "webgpu,cpu" },
    pp: { type: "string", default: "128" },
    tg: { type: "string", default: "64" },
    reps: { type: "string", default: "3" },
    json: { type: "boolean", default: false },
  },
});
const [pp, tg, reps] = [Number(o.pp), Number(o.tg), Number(o.reps)];
const model = resolve(o.model);
const at = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));

/** Min, median and max. @param {number[]} all */
function spread(all) {
  const s = all.toSorted((a, b) => a - b);
  return { min: s[0] ?? 0, median: s[s.length >> 1] ?? 0, max: s.at(-1) ?? 0 };
}

/** @param {string} browserName @param {string} backend */
async function measure(browserName, backend) {
  const name = BROWSERS.find((b) => b === browserName);
  if (!name) throw new Error(`--browsers takes ${BROWSERS.join(", ")}`);
  const server = await serve({ mounts: { "/": at("."), "/dist": at("../dist"), "/models": dirname(model) } });
  const browser = await launch(name);
  try {
    const page = await browser.open(`${server.url}/index.html`);
    await page.waitForFunction(() => "bench" in globalThis);
    const seen = await page.evaluate(
      (/** @type {any} */ options) => /** @type {any} */ (globalThis).bench.run(options),
      { model: `/models/${basename(model)}`, backend, pp, tg, reps },
    );
    /** @type {any[]} */
    const runs = seen.runs;
    // Prefill steps are few; what is counted below is nearly all decoding.
    const steps = seen.after.counters.steps - seen.before.counters.steps;
    const per = (/** @type {string} */ key) => (seen.after.counters[key] - seen.before.counters[key]) / steps;
    return {
      browser: `${browser.name} ${browser.version}`,
      backend: seen.info.backend,
      adapter: seen.info.adapter?.name ?? null,
      load_ms: Math.round(seen.load_ms),
      time_to_first_token_ms: spread(runs.map((r) => r.time_to_first_token_ms)),
      [`pp${pp}`]: spread(runs.map((r) => r.prefill_tokens_per_s)),
      [`tg${tg}`]: spread(runs.map((r) => r.decode_tokens_per_s)),
      per_step: Object.fromEntries(
        ["dispatches", "passes", "submits", "bytesWritten", "bytesRead", "buffers"].map((k) => [k, per(k)]),
      ),
      memory: seen.after.memory,
      wasm_bytes: seen.after.wasmBytes,
    };
  } finally {
    await browser.close();
    await server.close();
  }
}

if (!o.json) {
  console.log(`${basename(model)}, min / median / max of ${reps}`);
  console.log(
    `| browser | backend | load ms | first token ms | pp${pp} t/s | tg${tg} t/s | calls per step | MiB wasm |`,
  );
  console.log("| --- | --- | --- | --- | --- | --- | --- | --- |");
}
for (const browser of o.browsers.split(",")) {
  for (const backend of o.backends.split(",")) {
    const r = /** @type {any} */ (await measure(browser, backend));
    const cell = (/** @type {any} */ s, digits = 1) =>
      [s.min, s.median, s.max].map((v) => v.toFixed(digits)).join(" / ");
    const { dispatches, passes, submits } = r.per_step;
    console.log(
      o.json
        ? JSON.stringify(r)
        : `| ${r.browser} | ${r.backend} | ${r.load_ms} | ${cell(r.time_to_first_token_ms, 0)} | ${cell(r[`pp${pp}`])} | ${cell(r[`tg${tg}`])} | ${dispatches.toFixed(0)} dispatches, ${passes.toFixed(0)} passes, ${submits.toFixed(0)} submits | ${Math.round(r.wasm_bytes / 2 ** 20)} |`,
    );
  }
}
