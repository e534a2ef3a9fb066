// Speed of the native command on the CPU beside llama.cpp, in turns, as a table.
//   node web/bench/native.mjs --pagelm FILE [--peer LLAMA_BENCH] --model FILE[,FILE…] [--threads 1,2] [--pp 128] [--tg 64]
//                             [--depth 0,2048] [--reps 3] [--wait SECONDS] [--json]
// --depth measures after so many tokens, in turns too; --peer-args are further arguments of llama-bench, such as "-fa 1".
// --wait waits at most so long for a quiet machine before each run. "others" is how many cores' worth other programs
// used just before: with more than 0.1 on a small machine a row says little.
import { spawnSync } from "node:child_process";
import { availableParallelism } from "node:os";
import { basename } from "node:path";
import { parseArgs } from "node:util";
import { machine, quiet } from "./load.mjs";

const { values: o } = parseArgs({
  options: {
    pagelm: { type: "string", default: "target/release/pagelm" },
    peer: { type: "string" },
    model: { type: "string", default: "" },
    threads: { type: "string", default: [...new Set([1, availableParallelism()])].join(",") },
    pp: { type: "string", default: "128" },
    tg: { type: "string", default: "64" },
    depth: { type: "string", default: "0" },
    "peer-args": { type: "string", default: "" },
    reps: { type: "string", default: "3" },
    wait: { type: "string", default: "0" },
    json: { type: "boolean", default: false },
  },
});

/** What a program prints. @param {string} program @param {string[]} args */
function output(program, args) {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: "utf8", maxBuffer: 1 << 26 });
  if (status !== 0) throw new Error(`${program} ${args.join(" ")}: ${error?.message ?? stderr}`);
  return stdout.trim().split("\n");
}

/** One run of each test. @type {Record<string, (model: string, threads: string, depth: string) => Record<string, number>>} */
const engines = {
  pagelm(model, threads, depth) {
    const args = ["bench", "--backend", "cpu", "--model", model, "--threads", threads, "--reps", "1", "--json"];
    const lengths = ["--pp", o.pp, "--tg", o.tg, "--depth", depth];
    const { tests, weight_read } = JSON.parse(output(o.pagelm, [...args, ...lengths]).at(-1) ?? "");
    const speeds = tests.map((/** @type {{ test: string, tokens_per_s: { median: number } }} */ t) => [
      t.test.split("@")[0],
      t.tokens_per_s.median,
    ]);
    return { ...Object.fromEntries(speeds), read: weight_read.of_streaming_read };
  },
  ...(o.peer && {
    "llama.cpp"(/** @type {string} */ model, /** @type {string} */ threads, /** @type {string} */ depth) {
      const more = o["peer-args"].split(" ").filter(Boolean);
      const args = ["-m", model, "-t", threads, "-p", o.pp, "-n", o.tg, "-d", depth, "-r", "1", "-ngl", "0", ...more];
      const tests = output(/** @type {string} */ (o.peer), [...args, "-o", "jsonl"]).map((line) => JSON.parse(line));
      return Object.fromEntries(tests.map((t) => [t.n_prompt ? `pp${t.n_prompt}` : `tg${t.n_gen}`, t.avg_ts]));
    },
  }),
};

/** @param {number[]} all */
function spread(all) {
  const s = all.toSorted((a, b) => a - b);
  const middle = ((s[(s.length - 1) >> 1] ?? 0) + (s[s.length >> 1] ?? 0)) / 2;
  return { min: s[0] ?? 0, median: middle, max: s.at(-1) ?? 0 };
}

/** Cores that are busy now. */
async function busy() {
  const before = machine();
  await new Promise((done) => setTimeout(done, 500));
  const after = machine();
  return (after.worked - before.worked) / (after.at - before.at);
}

const cell = (/** @type {ReturnType<typeof spread>} */ s) =>
  `${s.min.toFixed(1)} / **${s.median.toFixed(1)}** / ${s.max.toFixed(1)}`;
if (!o.json) {
  const names = Object.keys(engines);
  console.log(`tokens/s, min / median / max of ${o.reps} runs in turns; the ratio is of medians`);
  console.log(`| model | threads | test | depth | ${names.join(" | ")} | ratio | of a streaming read | others |`);
  console.log(`|${" --- |".repeat(names.length + 7)}`);
}
const all = o.model
  .split(",")
  .flatMap((m) => o.threads.split(",").flatMap((t) => o.depth.split(",").map((d) => [m, t, d])));
for (const [model = "", threads = "", depth = ""] of all) {
  /** @type {Record<string, Record<string, number>[]>} */
  const runs = Object.fromEntries(Object.keys(engines).map((name) => [name, []]));
  let others = 0;
  for (let rep = 0; rep < Number(o.reps); rep++) {
    for (const [name, run] of Object.entries(engines)) {
      await quiet(Number(o.wait));
      others = Math.max(others, await busy());
      runs[name]?.push(run(model, threads, depth));
    }
  }
  for (const test of [`pp${o.pp}`, `tg${o.tg}`]) {
    const spreads = Object.values(runs).map((all) => spread(all.map((r) => r[test] ?? 0)));
    const [ours, peer] = spreads;
    if (!ours?.median) continue;
    const ratio = peer ? ours.median / peer.median : undefined;
    const read = test.startsWith("tg") ? spread(runs.pagelm?.map((r) => r.read ?? 0) ?? []).median : undefined;
    const name = basename(model);
    if (o.json) {
      const engines = Object.fromEntries(Object.keys(runs).map((name, i) => [name, spreads[i]]));
      console.log(JSON.stringify({ model: name, threads, test, depth: Number(depth), engines, ratio, read, others }));
    } else {
      const cells = [name, threads, test, depth, ...spreads.map(cell), ratio ? `${ratio.toFixed(2)}x` : ""];
      console.log(`| ${cells.join(" | ")} | ${read ? `${(100 * read).toFixed(0)} %` : ""} | ${others.toFixed(2)} |`);
    }
  }
}
