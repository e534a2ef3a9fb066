// The page: choose a model, watch it load, talk to it. All of the engine is behind the imports from `pagelm`.
import { createEngine, type Engine, type LoadProgress, models } from "pagelm";
import { Chat } from "./chat.ts";
import { Pictures } from "./pictures.ts";
import { bytes, type Problem, problemOf } from "./words.ts";

const $ = <T extends HTMLElement = HTMLElement>(id: string) => document.getElementById(id) as T;
const query = new URLSearchParams(location.search);

const url = $<HTMLInputElement>("url");
const backend = $<HTMLSelectElement>("backend");
const prompt = $<HTMLTextAreaElement>("prompt");
const temperature = $<HTMLInputElement>("temperature");
let engine: Engine | null = null;
let loading: AbortController | null = null;
const chat = new Chat($("log"), $("announced"));
const pictures = new Pictures($("pictures"));
/** Where the keyboard was before the page began to load. */
let before: Element | null = null;

// A small model knows these, with weights and activations of few bits too; it does not know everything.
const IDEAS = ["Explain what a browser is.", "Write two sentences about the sea.", "What is photosynthesis?"];

type State = "idle" | "loading" | "ready" | "answering" | "failed";

/** What is visible depends on this alone. */
function show(state: State, problem?: Problem): void {
  const had = document.activeElement;
  document.body.dataset.state = state;
  const usable = engine !== null;
  $("loader").hidden = usable;
  $("load").hidden = state === "loading";
  $("progress").hidden = state !== "loading";
  $("ask").hidden = !usable;
  $("see").hidden = !engine?.info.model.images;
  $("send").hidden = state === "answering";
  $("stop").hidden = state !== "answering";
  $("ideas").hidden = state !== "ready" || !chat.empty;
  const box = $("problem");
  box.hidden = !problem;
  if (problem) {
    (box.children[0] as HTMLElement).textContent = problem.title;
    (box.children[1] as HTMLElement).textContent = problem.remedy;
    (box.children[2] as HTMLElement).textContent = problem.detail;
    box.dataset.code = problem.code;
    box.scrollIntoView({ block: "nearest" });
  }
  if (!usable) {
    $("status").textContent = state === "loading" ? "loading" : "";
    $("status").title = "";
    delete $("status").dataset.backend;
  }
  keepFocus(state, had);
}

/** Who uses a keyboard stays where they are; from what is not there any more they go to what is there in its place. */
function keepFocus(state: State, had: Element | null): void {
  if (had && had !== document.body && had.checkVisibility()) return;
  // Nobody was anywhere: only a page that has just loaded its model takes the keyboard to where one writes.
  if ((!had || had === document.body) && !(state === "ready" && loading)) return;
  if (state === "loading") before = had;
  const back = before instanceof HTMLElement && before.checkVisibility() ? before : url;
  const next = { idle: back, failed: back, loading: $("cancel"), ready: prompt, answering: $("stop") }[state];
  next.focus({ preventScroll: state === "answering" });
}

function progress(p: LoadProgress): void {
  const bar = document.querySelector<HTMLElement>(".track")!;
  const share = p.total ? p.loaded / p.total : 0;
  bar.setAttribute("aria-valuenow", String(Math.round(share * 100)));
  (bar.firstElementChild as HTMLElement).style.width = `${share * 100}%`;
  const weights = { network: "Downloading", cache: "Reading what is stored", file: "Reading the file" }[p.from];
  const waiting = "Waiting for another tab, which downloads it";
  const phases = { waiting, header: "Reading what the model is", weights, ready: "Ready" };
  const words = p.stalled ? "Nothing comes, trying again" : phases[p.phase];
  const total = p.total === undefined ? "" : ` of ${bytes(p.total)}`;
  const left = p.secondsLeft === undefined ? "" : ` · ${Math.ceil(p.secondsLeft)} s left`;
  $("progress-text").textContent = `${words} · ${bytes(p.loaded)}${total} · ${bytes(p.bytesPerS)}/s${left}`;
}

async function load(model: string | File, mmproj?: string | File | null): Promise<void> {
  if (loading) return;
  loading = new AbortController();
  show("loading");
  $("progress-text").textContent = "";
  try {
    engine = await createEngine({
      model,
      ...(mmproj && { mmproj }),
      backend: backend.value as "auto" | "webgpu" | "cpu",
      ...number("context", "contextLength"),
      signal: loading.signal,
      onProgress: progress,
    });
    describe(engine, typeof model === "string" ? (model.split(/[?#]/)[0]?.split("/").pop() ?? model) : model.name);
    show("ready");
  } catch (e) {
    const problem = problemOf(e);
    if (problem.code === "aborted") show("idle");
    else show("failed", problem);
  } finally {
    loading = null;
  }
}

function describe({ info }: Engine, file: string): void {
  const where = info.backend === "webgpu" ? "WebGPU" : "CPU";
  const adapter = info.adapter ? ` · ${info.adapter.name || "unnamed adapter"}` : "";
  $("status").textContent = `${where}${adapter}`;
  $("status").title = info.backendReason;
  $("status").dataset.backend = info.backend;
  const name = file.replace(/\.gguf$/i, "");
  $("model").textContent = `${name} · ${bytes(info.model.weightBytes ?? 0)}`;
  $("model").title = `${info.model.name ?? info.model.architecture}, ${info.contextLength} tokens of context`;
}

async function ask(text: string): Promise<void> {
  if (!engine || document.body.dataset.state === "answering") return;
  prompt.value = "";
  grow();
  show("answering");
  // The empty conversation's ideas go with the first message.
  $("ideas").hidden = true;
  try {
    await chat.ask(engine, text, pictures.take(), {
      temperature: temperature.valueAsNumber || 0,
      ...number("max_tokens"),
      ...number("seed"),
    });
    show("ready");
  } catch (e) {
    const problem = problemOf(e);
    // An engine that broke cannot be used again: back to the choice of a model.
    if (engine?.ended || problem.code === "device-lost" || problem.code === "gpu-error") unload();
    if (problem.code !== "disposed") show(engine ? "ready" : "failed", problem);
  }
}

/** A model, and, by its name, the part of it that sees. */
function loadFiles(files: File[]): void {
  const mmproj = files.length > 1 ? files.find(({ name }) => /mmproj/i.test(name)) : undefined;
  const model = files.find((file) => file !== mmproj);
  if (model) void load(model, mmproj);
}

/** For scripts: `?max_tokens=32&seed=1&context=512`. */
function number(key: string, name = key): Record<string, number> {
  return query.has(key) ? { [name]: Number(query.get(key)) } : {};
}

function unload(): void {
  chat.stop();
  engine?.dispose();
  engine = null;
  pictures.take();
}

function grow(): void {
  prompt.style.height = "auto";
  prompt.style.height = `${prompt.scrollHeight}px`;
}

$("load").addEventListener("submit", (event) => {
  event.preventDefault();
  void load(url.value, query.get("mmproj"));
});
$<HTMLInputElement>("file").addEventListener("change", (event) => {
  const input = event.currentTarget as HTMLInputElement;
  const files = [...(input.files ?? [])];
  input.value = "";
  loadFiles(files);
});
$<HTMLInputElement>("picture").addEventListener("change", (event) => {
  const input = event.currentTarget as HTMLInputElement;
  pictures.add(input.files ?? undefined);
  input.value = "";
  prompt.focus();
});
document.addEventListener("paste", (event) => {
  if (engine?.info.model.images && pictures.add(event.clipboardData?.files)) event.preventDefault();
});
$("cancel").addEventListener("click", () => loading?.abort());
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = prompt.value.trim();
  if (text) void ask(text);
});
prompt.addEventListener("input", grow);
prompt.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $<HTMLFormElement>("ask").requestSubmit();
});
$("stop").addEventListener("click", () => chat.stop());
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.isComposing) return;
  chat.stop();
  loading?.abort();
});
$("clear").addEventListener("click", () => {
  chat.clear();
  if (engine) show("ready");
});
$("unload").addEventListener("click", () => {
  unload();
  chat.clear();
  show("idle");
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  const files = event.dataTransfer?.files;
  if (engine?.info.model.images) pictures.add(files);
  else if (!engine) loadFiles([...(files ?? [])]);
});
for (const idea of IDEAS) {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: idea });
  button.addEventListener("click", () => void ask(idea));
  $("ideas").append(button);
}

url.value = query.get("model") ?? new URL(`models/${models.tested["smollm2-135m"].file}`, location.href).pathname;
if (query.has("backend")) backend.value = query.get("backend")!;
if (query.has("temperature")) temperature.value = query.get("temperature")!;
show("idle");
if (query.has("load")) void load(url.value, query.get("mmproj"));
