// How fast answers come and what memory holds, while it happens.
import { signal } from "@preact/signals";
import { X } from "lucide-preact";
import type { EngineMemory, EngineStats } from "pagelm";
import { models } from "pagelm";
import { useEffect, useRef } from "preact/hooks";
import { answering, engine } from "./engine.ts";
import { memory, samples } from "./meter.ts";
import { offlineReady } from "./offline.ts";
import { theme } from "./settings.ts";
import { activity } from "./ui.tsx";
import { bytes } from "./words.ts";

const stats = signal<EngineStats | null>(null);
const storage = signal<{ usage: number; quota: number } | null>(null);
/** How often the engine is asked, in milliseconds. */
const EVERY = 2000;

const PURPOSES: [keyof EngineMemory, string][] = [
  ["weights", "Weights"],
  ["cache", "Keys and values"],
  ["states", "Recurrent states"],
  ["scratch", "Scratch"],
  ["staging", "Staging"],
  ["module", "Module"],
];

export function ActivityPanel() {
  const model = engine.value;
  // biome-ignore lint/correctness/useExhaustiveDependencies: it is the value of a signal
  useEffect(() => {
    let asking = false;
    const look = async () => {
      if (asking) return;
      asking = true;
      try {
        memory.value = model && !model.ended ? await model.memory() : null;
        stats.value = model && !model.ended ? await model.stats() : null;
        storage.value = await models.estimate();
      } catch {
        memory.value = null; // The engine ended meanwhile.
      }
      asking = false;
    };
    void look();
    const timer = setInterval(look, EVERY);
    return () => clearInterval(timer);
  }, [model]);
  const now = memory.value;
  const total = now ? Object.values(now).reduce((sum, n) => sum + n, 0) : 0;
  const speed = samples.value.findLast(({ tokensPerS }) => tokensPerS > 0)?.tokensPerS;
  return (
    <aside class="activity" aria-label="Activity">
      <header class="dialog-bar">
        <h2>Activity</h2>
        <button
          type="button"
          class="icon quiet"
          aria-label="Close"
          onClick={() => {
            activity.value = false;
          }}
        >
          <X aria-hidden="true" />
        </button>
      </header>
      <h3>
        Tokens per second <span class="numbers">{speed ? speed.toFixed(1) : "–"}</span>
      </h3>
      {samples.value.length > 1 ? (
        <Plot />
      ) : (
        <p class="soft small plot none">{answering.value ? "Measuring…" : "Ask something, and it is drawn here."}</p>
      )}
      <h3>
        Memory <span class="numbers">{now ? bytes(total) : "–"}</span>
      </h3>
      {now ? (
        <>
          <div class="stacked" aria-hidden="true">
            {PURPOSES.map(([key], i) => (
              <i key={key} class={`p${i}`} style={{ width: `${(100 * now[key]) / Math.max(total, 1)}%` }} />
            ))}
          </div>
          <dl class="legend">
            {PURPOSES.filter(([key]) => now[key] > 0).map(([key, name]) => (
              <div key={key}>
                <dt>
                  <i class={`p${PURPOSES.findIndex(([k]) => k === key)}`} aria-hidden="true" />
                  {name}
                </dt>
                <dd class="numbers">{bytes(now[key])}</dd>
              </div>
            ))}
          </dl>
        </>
      ) : (
        <p class="soft small">No model is loaded.</p>
      )}
      <h3>Engine</h3>
      <dl class="legend">
        {model && stats.value && (
          <>
            <Row name="Threads" value={String(stats.value.threads)} />
            <Row name="Build" value={model.info.wasm.build} />
            <Row name="Context" value={`${stats.value.contextLength} tokens`} />
            <Row name="Steps" value={stats.value.counters.steps.toLocaleString("en")} />
          </>
        )}
        <Row name="Offline" value={offlineReady.value ? "ready" : "after a model was loaded"} />
        {storage.value && (
          <Row name="Stored" value={`${bytes(storage.value.usage)} of ${bytes(storage.value.quota)}`} />
        )}
      </dl>
      {model?.info.wasm.whyOneThread && model.backend === "cpu" && (
        <p class="soft small">One thread: {model.info.wasm.whyOneThread}.</p>
      )}
    </aside>
  );
}

function Row({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd class="numbers">{value}</dd>
    </div>
  );
}

/** Of the last minute. */
function Plot() {
  const ref = useRef<HTMLDivElement>(null);
  const plot = useRef<{ setData(data: [number[], number[]]): void; destroy(): void } | undefined>(undefined);
  const list = samples.value;
  const newest = list.at(-1)?.at ?? 0;
  const data: [number[], number[]] = [list.map(({ at }) => at - newest), list.map(({ tokensPerS }) => tokensPerS)];
  const latest = useRef(data);
  latest.current = data;
  const chosen = theme.value;
  // biome-ignore lint/correctness/useExhaustiveDependencies: it is drawn anew in the colours of another theme
  useEffect(() => {
    let gone = false;
    void import("./plot.ts").then(({ line }) => {
      if (gone || !ref.current) return;
      plot.current = line(ref.current, latest.current, { unit: "s", height: 140 });
    });
    return () => {
      gone = true;
      plot.current?.destroy();
      plot.current = undefined;
    };
  }, [chosen]);
  useEffect(() => plot.current?.setData(data));
  return <div class="plot" ref={ref} role="img" aria-label="Tokens per second over the last minute" />;
}
