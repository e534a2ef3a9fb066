// How long a model takes to load in headless Chromium, from a server on this machine and from what the browser stores,
// beside a loop that fetches the file and throws it away, and beside wllama; and the memory that the page's process has for itself.
//   node web/bench/loading.mjs [--model FILE,…] [--reps 3] [--wait SECONDS] [--engines cpu,webgpu,wllama] [--dist FOLDER,…] [--sum]
// Engines take turns, each in a browser of its own; one round more is not counted. --wait waits at most so long for a quiet
// machine. Several builds of the package (--dist) are compared with each other. --sum has the SHA-256 of the file checked, as for
// models of a hub.
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { launch } from "../tools/browsers.mjs";
import { cache } from "../tools/cache.mjs";
import { watchOwnMemory } from "../tools/memory.mjs";
import { serve } from "../tools/serve.mjs";
import { quiet, watch } from "./load.mjs";

const at = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));
const wllama = at("peers/node_modules/@wllama/wllama/esm");
const { values: o } = parseArgs({
  options: {
    model: { type: "string", default: join(cache, "models", "SmolLM2-135M-Instruct.Q4_1.gguf") },
    reps: { type: "string", default: "3" },
    wait: { type: "string", default: "0" },
    engines: {
      type: "string",
      default: existsSync(wllama) && process.env.PEERS !== "0" ? "cpu,webgpu,wllama" : "cpu,webgpu",
    },
    dist: { type: "string", default: at("../dist") },
    sum: { type: "boolean", default: false },
  },
});
const dists = o.dist.split(",").map((folder) => resolve(folder));

/** @typedef {{ loadMs: number, firstMs: number }} Times */
/** One engine's browser, and what was measured in it. @param {string} name @param {string} dist @param {string} file */
async function open(name, dist, file) {
  const server = await serve({
    mounts: { "/": at("."), "/dist": dist, "/models": dirname(file), "/wllama": wllama },
  });
  const browser = await launch("chromium", { timeout: 600_000 });
  const [page, backend] = name === "wllama" ? ["wllama", "cpu"] : ["pagelm", name];
  return {
    what: `${page}${dists.length > 1 && page === "pagelm" ? ` of ${dist}` : ""}, ${backend === "cpu" ? "CPU" : "WebGPU"}`,
    page,
    backend,
    url: `${server.url}/${page}.html`,
    browser,
    close: async () => {
      await browser.close();
      await server.close();
    },
    cold: /** @type {Times[]} */ ([]),
    warm: /** @type {Times[]} */ ([]),
    plain: /** @type {number[]} */ ([]),
    /** Core seconds of the loop, of a load from the server and of one from storage: of the browser and this server together. */
    cores: /** @type {[number[], number[], number[]]} */ ([[], [], []]),
    peak: 0,
    others: 0,
  };
}
/** @typedef {Awaited<ReturnType<typeof open>>} Row */

/** Calls a function of the page. @param {Row} row @param {"plain" | "first"} method @param {object} options */
async function inPage(row, method, options) {
  const page = await row.browser.open(row.url);
  await page.waitForFunction(() => "bench" in globalThis);
  await quiet(Number(o.wait));
  const end = watch();
  const most = watchOwnMemory();
  const seen = await page.evaluate(
    ([method, options]) => /** @type {any} */ (globalThis).bench[method](options),
    /** @type {const} */ ([method, options]),
  );
  const { others, seconds } = end();
  row.others = Math.max(row.others, others);
  const peak = most();
  await page.close();
  return { seen, peak, seconds };
}

/** @param {string} file */
async function measure(file) {
  const model = `/models/${basename(file)}`;
  const sha256 = o.sum ? createHash("sha256").update(readFileSync(file)).digest("hex") : undefined;
  const rows = /** @type {Row[]} */ ([]);
  try {
    for (const name of o.engines.split(","))
      for (const dist of name === "wllama" ? [at("../dist")] : dists) rows.push(await open(name, dist, file));
    for (let rep = 0; rep <= Number(o.reps); rep++) {
      for (const row of rows) {
        const { page, backend } = row;
        const plain = page === "pagelm" ? await inPage(row, "plain", { model }) : null;
        const cold = await inPage(row, "first", { model, backend, cold: true, sha256 });
        const warm = await inPage(row, "first", { model, backend, cold: false, sha256 });
        if (!rep) continue;
        if (plain) row.plain.push(plain.seen / 1000);
        for (const [i, run] of [plain, cold, warm].entries()) if (run) row.cores[i]?.push(run.seconds);
        row.cold.push(cold.seen);
        row.warm.push(warm.seen);
        row.peak = Math.max(row.peak, cold.peak, warm.peak);
      }
    }
  } finally {
    for (const row of rows) await row.close();
  }
  return rows;
}

const sorted = (/** @type {number[]} */ all) => all.toSorted((a, b) => a - b);
const median = (/** @type {number[]} */ all) => sorted(all)[all.length >> 1] ?? Number.NaN;
const spread = (/** @type {number[]} */ all) => {
  const s = sorted(all);
  return s.length ? `${s[0]?.toFixed(2)} / **${median(s).toFixed(2)}** / ${s.at(-1)?.toFixed(2)}` : "";
};
const of = (/** @type {Times[]} */ all, /** @type {keyof Times} */ key) => all.map((t) => t[key] / 1000);
const times = (/** @type {number} */ n) => (Number.isFinite(n) ? `${n.toFixed(2)}x` : "");

console.log(`seconds, min / median / max of ${o.reps}; ratios are of medians`);
console.log(
  "| model | engine | plain loop | from the server | speed of the loop | from storage | first token from storage | as early as wllama's | peak MiB | of wllama's | core seconds of the three | others |",
);
console.log("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
for (const file of o.model.split(",").map((f) => resolve(f))) {
  const rows = await measure(file);
  const peer = rows.find((row) => row.page === "wllama");
  for (const row of rows) {
    const { what, cold, warm, plain, peak, cores, others } = row;
    const first = of(warm, "firstMs");
    const [earlier, less] =
      peer && peer !== row
        ? [median(of(peer.warm, "firstMs")) / median(first), peak / peer.peak]
        : [Number.NaN, Number.NaN];
    const cells = [
      basename(file),
      what,
      spread(plain),
      spread(of(cold, "loadMs")),
      times(median(plain) / median(of(cold, "loadMs"))),
      spread(of(warm, "loadMs")),
      spread(first),
      times(earlier),
      Math.round(peak / 2 ** 20),
      times(less),
      cores.map((all) => (all.length ? median(all).toFixed(2) : "")).join(" / "),
      others.toFixed(2),
    ];
    console.log(`| ${cells.join(" | ")} |`);
  }
}
