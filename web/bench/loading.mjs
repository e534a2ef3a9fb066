// How long a model takes to load in headless Chromium, from a server on this machine and from what the browser stores,
// beside a loop that fetches the file and throws it away, and beside wllama; and the memory of the page's process.
//   node web/bench/loading.mjs [--model FILE] [--reps 3] [--wait SECONDS]
// Each row is a browser of its own; one round more is not counted. --wait waits at most so long for a quiet machine.
import { existsSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { launch } from "../tools/browsers.mjs";
import { cache } from "../tools/cache.mjs";
import { memory, renderer } from "../tools/memory.mjs";
import { serve } from "../tools/serve.mjs";
import { quiet, watch } from "./load.mjs";

const { values: o } = parseArgs({
  options: {
    model: { type: "string", default: join(cache, "models", "SmolLM2-135M-Instruct.Q4_1.gguf") },
    reps: { type: "string", default: "3" },
    wait: { type: "string", default: "0" },
  },
});
const at = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));
const wllama = at("peers/node_modules/@wllama/wllama/esm");
const file = resolve(o.model);
const model = `/models/${basename(file)}`;

const spread = (/** @type {number[]} */ all) => {
  const s = all.toSorted((a, b) => a - b);
  return `${s[0]?.toFixed(2)} / **${s[s.length >> 1]?.toFixed(2)}** / ${s.at(-1)?.toFixed(2)}`;
};

/** @typedef {{ loadMs: number, firstMs: number }} Times */
/** Rounds of one engine, each from the server and then from what is stored. @param {string} name @param {string} backend */
async function measure(name, backend) {
  const server = await serve({
    mounts: { "/": at("."), "/dist": at("../dist"), "/models": dirname(file), "/wllama": wllama },
  });
  const browser = await launch("chromium", { timeout: 600_000 });
  const rows = {
    cold: /** @type {Times[]} */ ([]),
    warm: /** @type {Times[]} */ ([]),
    plain: /** @type {number[]} */ ([]),
    peak: 0,
    others: 0,
  };
  /** @param {string} method @param {object} options */
  const inPage = async (method, options) => {
    const page = await browser.open(`${server.url}/${name}.html`);
    await page.waitForFunction(() => "bench" in globalThis);
    await quiet(Number(o.wait));
    const end = watch();
    const seen = await page.evaluate(
      ([method, options]) => /** @type {any} */ (globalThis).bench[method](options),
      /** @type {const} */ ([method, options]),
    );
    rows.others = Math.max(rows.others, end().others);
    const peak = memory(renderer(), "VmHWM");
    await page.close();
    return { seen, peak };
  };
  try {
    for (let rep = 0; rep <= Number(o.reps); rep++) {
      const plain = name === "pagelm" ? (await inPage("plain", { model })).seen : 0;
      const cold = await inPage("first", { model, backend, cold: true });
      const warm = await inPage("first", { model, backend, cold: false });
      if (!rep) continue;
      rows.plain.push(plain / 1000);
      rows.cold.push(cold.seen);
      rows.warm.push(warm.seen);
      rows.peak = Math.max(rows.peak, cold.peak, warm.peak);
    }
  } finally {
    await browser.close();
    await server.close();
  }
  return rows;
}

console.log(
  "| engine | plain loop, s | load from the server, s | load from storage, s | first token from storage, s | peak MiB | others |",
);
console.log("| --- | --- | --- | --- | --- | --- | --- |");
for (const [name, backend] of [
  ["pagelm", "cpu"],
  ["pagelm", "webgpu"],
  ...(existsSync(wllama) && process.env.PEERS !== "0" ? [["wllama", "cpu"]] : []),
]) {
  const { cold, warm, plain, peak, others } = await measure(`${name}`, `${backend}`);
  const of = (/** @type {Times[]} */ all, /** @type {keyof Times} */ key) => spread(all.map((t) => t[key] / 1000));
  const loop = name === "pagelm" ? spread(plain) : "";
  console.log(
    `| ${name}, ${backend} | ${loop} | ${of(cold, "loadMs")} | ${of(warm, "loadMs")} | ${of(warm, "firstMs")} | ${Math.round(peak / 2 ** 20)} | ${others.toFixed(2)} |`,
  );
}
