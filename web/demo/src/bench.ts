// Measures this device with a model: prefill and decode as a page has them, and on a GPU the kernels of a token.
import { createEngine, type Engine, models, type Profile } from "pagelm";
import { save } from "./save.ts";
import { bytes, type Problem, problemOf } from "./words.ts";

const $ = <T extends HTMLElement = HTMLElement>(id: string) => document.getElementById(id) as T;
const number = (id: string) => $<HTMLInputElement>(id).valueAsNumber;
const query = new URLSearchParams(location.search);

/** Tokens per second, in the order of measurement. */
interface Test {
  test: string;
  tokensPerS: number[];
}

interface Result {
  model: string;
  backend: string;
  adapter: Engine["info"]["adapter"];
  userAgent: string;
  loadMs: number;
  tests: Test[];
  perStep: Record<string, number>;
  profile: Profile | null;
}

function show(state: "idle" | "running" | "done" | "failed", problem?: Problem): void {
  document.body.dataset.state = state;
  for (const e of $<HTMLFormElement>("run").elements) (e as HTMLInputElement).disabled = state === "running";
  const box = $("problem");
  box.hidden = !problem;
  if (!problem) return;
  const [title, remedy, detail] = [...box.children] as [HTMLElement, HTMLElement, HTMLElement];
  title.textContent = problem.title;
  remedy.textContent = problem.remedy;
  detail.textContent = problem.detail;
  box.dataset.code = problem.code;
}

const say = (text: string) => {
  $("status").textContent = text;
};

/** Tokens without meaning; another start for each run, so that nothing is in the cache already. */
const ids = (n: number, run: number) => Array.from({ length: n }, (_, i) => 5 + (((i + 1) * 37 + run * 101) % 200));

/** One prompt and its answer. */
async function once(engine: Engine, prompt: number[], maxTokens: number) {
  for await (const piece of engine.generate(prompt, { temperature: 0, maxTokens, ignoreEos: true })) {
    if (piece.kind === "done") return piece.usage;
  }
  throw new Error("the answer did not end");
}

async function measure(model: string): Promise<Result> {
  const [pp, tg, depth, reps] = [number("pp"), number("tg"), number("depth"), number("reps")];
  const startedAt = performance.now();
  say("loading");
  const engine = await createEngine({
    model,
    backend: $<HTMLSelectElement>("backend").value as "auto" | "webgpu" | "cpu",
    contextLength: depth + pp + tg + 1,
    onProgress: (p) => say(`loading · ${bytes(p.loaded)}`),
  });
  try {
    const loadMs = performance.now() - startedAt;
    const tests: Test[] = [`pp${pp}`, `tg${tg}`].map((t) => ({
      test: depth > 0 ? `${t}@${depth}` : t,
      tokensPerS: [],
    }));
    say("warming up");
    await once(engine, ids(pp, 0), 2);
    const before = (await engine.stats()).counters;
    for (let rep = 1; rep <= reps; rep++) {
      say(`run ${rep} of ${reps}`);
      const past = ids(depth, rep);
      if (depth > 0) await once(engine, past, 1);
      const usage = await once(engine, [...past, ...ids(pp, rep + 7)], tg);
      tests[0]?.tokensPerS.push(usage.prefillTokensPerS);
      tests[1]?.tokensPerS.push(usage.decodeTokensPerS);
    }
    const after = (await engine.stats()).counters;
    const per = (key: keyof typeof after) => (after[key] - before[key]) / (after.steps - before.steps);
    const perStep = Object.fromEntries(
      (["dispatches", "passes", "submits", "bytesWritten", "bytesRead", "buffers"] as const).map((k) => [k, per(k)]),
    );
    let profile: Profile | null = null;
    if (engine.backend === "webgpu") {
      say("timing kernels");
      profile = await engine.profile({ depth: depth + pp }).catch(() => null);
    }
    const { backend, adapter } = engine.info;
    return { model, backend, adapter, userAgent: navigator.userAgent, loadMs, tests, perStep, profile };
  } finally {
    engine.dispose();
  }
}

const cell = (text: string) => Object.assign(document.createElement("td"), { textContent: text });

function row(cells: (string | HTMLElement)[]): HTMLElement {
  const tr = document.createElement("tr");
  tr.append(...cells.map((c) => (typeof c === "string" ? cell(c) : c)));
  return tr;
}

function draw(r: Result): void {
  const where = r.backend === "webgpu" ? `WebGPU${r.adapter?.name ? ` · ${r.adapter.name}` : ""}` : "CPU";
  say(`${where} · loaded in ${(r.loadMs / 1000).toFixed(1)} s`);
  $("speeds").hidden = false;
  $("speeds")
    .querySelector("tbody")
    ?.replaceChildren(
      ...r.tests.map(({ test, tokensPerS }) => {
        const sorted = tokensPerS.toSorted((a, b) => a - b);
        const at = (i: number) => (sorted[i] ?? 0).toFixed(1);
        return row([test, at(sorted.length >> 1), at(0), at(sorted.length - 1)]);
      }),
    );
  const counters = Object.entries(r.perStep).map(([k, n]) => `${k} ${n.toFixed(1)}`);
  $("counters").textContent =
    r.backend === "webgpu" ? `Tokens per second. A step: ${counters.join(", ")}.` : "Tokens per second.";
  $("kernels").hidden = r.backend !== "webgpu";
  const { profile } = r;
  $("kernels-text").textContent = profile
    ? `${(profile.usPerToken / 1000).toFixed(2)} ms in kernels, after ${profile.depth} tokens; a kernel that only reads reaches ${(profile.readBytesPerS / 1e9).toFixed(1)} GB/s. Browsers round times.`
    : "This browser does not tell how long kernels take.";
  const slowest = profile?.kernels[0]?.usPerToken || 1;
  $("kernels")
    .querySelector("tbody")
    ?.replaceChildren(
      ...(profile?.kernels ?? []).map((k) => {
        const bar = Object.assign(cell(""), { className: "bar-cell" });
        const i = document.createElement("i");
        i.style.width = `${(100 * k.usPerToken) / slowest}%`;
        bar.append(i);
        const speed = k.bytesPerS === null ? "" : (k.bytesPerS / 1e9).toFixed(1);
        const part = k.fractionOfRead === null ? "" : `${Math.round(100 * k.fractionOfRead)} %`;
        return row([k.kernel, k.usPerToken.toFixed(0), bar, k.dispatchesPerToken.toFixed(0), speed, part]);
      }),
    );
  $("share").hidden = false;
  const json = JSON.stringify(r, null, 2);
  $("copy").onclick = () => void copied("copy", json);
  $("link").onclick = async () => void copied("link", `${location.href.split("#")[0]}#r=${await pack(json)}`);
  $("download").onclick = () => save("pagelm-benchmark.json", "application/json", json);
  void charts(r);
}

async function copied(id: string, text: string): Promise<void> {
  const words = $(id).textContent;
  await navigator.clipboard.writeText(text).then(
    () => {
      $(id).textContent = "Copied";
    },
    () => {
      $(id).textContent = "Not allowed";
    },
  );
  setTimeout(() => {
    $(id).textContent = words;
  }, 1500);
}

/** Each run of each test, one bar beside the other. */
async function charts(r: Result): Promise<void> {
  const { bars } = await import("./plot.ts");
  $("charts").replaceChildren(
    ...r.tests.map(({ test }) => {
      const figure = document.createElement("figure");
      figure.append(Object.assign(document.createElement("figcaption"), { textContent: test }));
      return figure;
    }),
  );
  for (const [i, { test, tokensPerS }] of r.tests.entries()) {
    const figure = $("charts").children[i] as HTMLElement;
    const canvas = document.createElement("div");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${test}: ${tokensPerS.map((n) => n.toFixed(1)).join(", ")} tokens per second`);
    figure.append(canvas);
    bars(
      canvas,
      tokensPerS.map((value, run) => ({ name: `run ${run + 1}`, value })),
      { height: 180 },
    );
  }
}

/** A report in a link: what is behind # is sent to no server. */
async function pack(text: string): Promise<string> {
  const packed = new Blob([text]).stream().pipeThrough(new CompressionStream("deflate-raw"));
  const codes = new Uint8Array(await new Response(packed).arrayBuffer());
  return btoa(String.fromCharCode(...codes))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "");
}

async function unpack(text: string): Promise<Result> {
  const codes = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  const stream = new Blob([codes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  const r = await new Response(stream).json();
  const numbers = (list: unknown) => Array.isArray(list) && list.every((n) => typeof n === "number");
  const tests =
    Array.isArray(r?.tests) && r.tests.every((t: Test) => typeof t?.test === "string" && numbers(t.tokensPerS));
  const perStep = r?.perStep && Object.values(r.perStep).every((n) => typeof n === "number");
  if (!tests || !perStep || typeof r.loadMs !== "number" || typeof r.backend !== "string")
    throw new Error("it has no tests");
  return r;
}

/** What somebody sent. */
async function showShared(packed: string): Promise<void> {
  try {
    const r = await unpack(packed);
    draw(r);
    $("shared").hidden = false;
    $("shared").textContent = `A report of another visit: ${r.model}, ${r.userAgent}`;
    show("done");
  } catch (e) {
    show("failed", {
      code: "page",
      title: "The report in this link cannot be read",
      remedy: "Ask for the link again: it may have been cut.",
      detail: `${e instanceof Error ? e.message : e}`,
    });
  }
}

async function run(): Promise<void> {
  show("running");
  $("shared").hidden = true;
  try {
    const result = await measure(url.value);
    draw(result);
    // For scripts.
    Object.assign(globalThis, { result });
    show("done");
  } catch (e) {
    say("");
    show("failed", problemOf(e));
  }
}

const url = $<HTMLInputElement>("url");
url.value = query.get("model") ?? new URL(`models/${models.tested["smollm2-135m"].file}`, location.href).pathname;
for (const id of ["backend", "pp", "tg", "depth", "reps"]) {
  const given = query.get(id);
  if (given !== null) $<HTMLInputElement>(id).value = given;
}
$("run").addEventListener("submit", (event) => {
  event.preventDefault();
  void run();
});
show("idle");
const shared = /^#r=([\w-]+)$/.exec(location.hash)?.[1];
if (shared) void showShared(shared);
else if (query.has("run")) void run();
