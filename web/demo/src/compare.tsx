// Two models, or one on two backends, with the same prompt: one after the other, so that each has the device to itself.
import { signal, useSignal } from "@preact/signals";
import { Play, Square } from "lucide-preact";
import type { ChatUsage } from "pagelm";
import { createEngine } from "pagelm";
import { useRef } from "preact/hooks";
import { CATALOG, LOCAL, stored } from "./catalog.ts";
import { answering, engine, engineOptions, loading } from "./engine.ts";
import { address } from "./gallery.tsx";
import { Markdown } from "./markdown-view.tsx";
import { sampling, settings } from "./settings.ts";
import { unload } from "./topbar.tsx";
import { ProblemBox } from "./ui.tsx";
import { bytes, type Problem, problemOf, seconds } from "./words.ts";

interface Side {
  model: string;
  backend: "auto" | "webgpu" | "cpu";
  doing: string;
  text: string;
  numbers: [string, string][];
}

const side = (backend: Side["backend"]): Side => ({
  model: address.value || LOCAL,
  backend,
  doing: "",
  text: "",
  numbers: [],
});
const sides = signal<[Side, Side]>([side("cpu"), side("webgpu")]);
const running = signal(false);

const change = (i: number, more: Partial<Side>) => {
  sides.value = sides.value.map((side, at) => (at === i ? { ...side, ...more } : side)) as [Side, Side];
};

function choices(): { ref: string; name: string }[] {
  const known = CATALOG.map(({ ref, name }) => ({ ref, name }));
  const kept = stored.value
    .filter(({ model }) => !known.some(({ ref }) => ref === model || new URL(ref, location.href).href === model))
    .map(({ model }) => ({ ref: model, name: model.split("/").pop() ?? model }));
  const given = address.value;
  const all = [...known, ...kept];
  return all.some(({ ref }) => ref === given) ? all : [{ ref: given, name: given }, ...all];
}

async function one(i: number, prompt: string, signal: AbortSignal): Promise<void> {
  const { model, backend } = sides.value[i]!;
  change(i, { doing: "Starting", text: "", numbers: [] });
  const startedAt = performance.now();
  const made = await createEngine({
    ...engineOptions(),
    model,
    backend,
    signal,
    onProgress: ({ loaded, total }) =>
      change(i, { doing: `Loading · ${bytes(loaded)}${total ? ` of ${bytes(total)}` : ""}` }),
  });
  try {
    const loadMs = performance.now() - startedAt;
    change(i, { doing: "Reading the prompt" });
    const { system } = settings.value;
    let usage: ChatUsage | null = null;
    let text = "";
    const stream = await made.chat.completions.create({
      ...sampling(),
      messages: [
        ...(system.trim() ? [{ role: "system" as const, content: system }] : []),
        { role: "user", content: prompt },
      ],
      max_tokens: settings.value.max_tokens ?? 128,
      stream: true,
      stream_options: { include_usage: true },
      signal,
    });
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage ?? usage;
      change(i, { text, doing: "Answering" });
    }
    const memory = await made.memory();
    const { info } = made;
    const where =
      info.backend === "webgpu"
        ? `WebGPU · ${info.adapter?.name || "unnamed adapter"}`
        : `CPU · ${info.wasm.threads} thread${info.wasm.threads === 1 ? "" : "s"}`;
    change(i, {
      numbers: [
        ["Tokens per second", (usage?.extra.decode_tokens_per_s ?? 0).toFixed(1)],
        ["Prompt tokens per second", (usage?.extra.prefill_tokens_per_s ?? 0).toFixed(1)],
        ["First token after", seconds((usage?.extra.time_to_first_token_s ?? 0) * 1000)],
        ["Loaded in", seconds(loadMs)],
        ["Memory", bytes(Object.values(memory).reduce((sum, n) => sum + n, 0))],
        ["Ran on", where],
      ],
    });
  } finally {
    made.dispose();
    change(i, { doing: "" });
  }
}

export function Compare() {
  const prompt = useSignal("Explain what a browser is.");
  const wrong = useSignal<Problem | null>(null);
  const stopping = useRef<AbortController | undefined>(undefined);
  const busy = running.value;
  const free = !busy && !answering.value && !loading.value;
  const run = async () => {
    stopping.current = new AbortController();
    const { signal } = stopping.current;
    running.value = true;
    wrong.value = null;
    // Both get the memory that a loaded model has.
    unload();
    for (const i of [0, 1]) change(i, { text: "", numbers: [], doing: i ? "Waiting for its turn" : "" });
    try {
      for (const i of [0, 1]) await one(i, prompt.value, signal);
    } catch (e) {
      if (!signal.aborted) wrong.value = problemOf(e);
    } finally {
      for (const i of [0, 1]) change(i, { doing: "" });
      running.value = false;
    }
  };
  const all = choices();
  return (
    <div class="view">
      <header class="hero">
        <h1>Compare</h1>
        <p>The same question to two models, or to one on two backends, one after the other.</p>
      </header>
      <label for="compare-prompt">Question</label>
      <textarea
        id="compare-prompt"
        rows={2}
        value={prompt}
        onInput={(event) => {
          prompt.value = event.currentTarget.value;
        }}
      />
      <div class="row">
        {busy ? (
          <button id="compare-stop" type="button" class="stop" onClick={() => stopping.current?.abort()}>
            <Square aria-hidden="true" />
            Stop
          </button>
        ) : (
          <button id="compare-run" type="button" class="primary" disabled={!free} onClick={() => void run()}>
            <Play aria-hidden="true" />
            Ask both
          </button>
        )}
        {engine.value && <span class="soft small">The model of the chat is taken out of memory first.</span>}
      </div>
      <ProblemBox problem={wrong.value} />
      <div class="halves">
        {sides.value.map((side, i) => (
          <section key={i} class="card side" aria-label={i === 0 ? "First" : "Second"}>
            <div class="row">
              <select
                aria-label="Model"
                class="grow"
                disabled={busy}
                value={side.model}
                onChange={(event) => change(i, { model: event.currentTarget.value })}
              >
                {all.map(({ ref, name }) => (
                  <option key={ref} value={ref}>
                    {name}
                  </option>
                ))}
              </select>
              <select
                aria-label="Backend"
                disabled={busy}
                value={side.backend}
                onChange={(event) => change(i, { backend: event.currentTarget.value as Side["backend"] })}
              >
                <option value="auto">automatic</option>
                <option value="webgpu">WebGPU</option>
                <option value="cpu">CPU</option>
              </select>
            </div>
            {side.text ? (
              <Markdown text={side.text} live={busy} />
            ) : (
              <p class="soft none">{side.doing || "The answer comes here."}</p>
            )}
            <dl class="legend">
              {side.numbers.map(([name, value]) => (
                <div key={name}>
                  <dt>{name}</dt>
                  <dd class="numbers">{value}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
      </div>
    </div>
  );
}
