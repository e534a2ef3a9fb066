// A load while it runs, and one that was paused.
import { Pause, Play, Trash2, X } from "lucide-preact";
import { useEffect, useState } from "preact/hooks";
import { discard, isRemote, type Loading, load, loading, type Paused, pause, paused } from "./engine.ts";
import { bytes, duration } from "./words.ts";

/** So long nothing may arrive before the page says so, in milliseconds. */
const QUIET = 2500;

export function wordsFor({ progress: p, movedAt }: Loading, now: number): string {
  if (!p) return "Starting the engine";
  const total = p.total === undefined ? "" : ` of ${bytes(p.total)}`;
  const loaded = `${bytes(p.loaded)}${total}`;
  if (p.phase === "waiting") return `Waiting for another tab, which downloads it · ${loaded}`;
  if (p.phase === "ready" || (p.total !== undefined && p.loaded >= p.total)) return "Getting ready";
  const quiet = p.stalled || now - movedAt > QUIET;
  // A rate of before says nothing about now.
  if (quiet && p.from === "network") return `Waiting for the server · ${loaded}`;
  if (p.phase === "header") return `Reading what the model is · ${loaded}`;
  const doing = { network: "Downloading", cache: "Reading what is stored", file: "Reading the file" }[p.from];
  const rate = p.bytesPerS > 0 ? ` · ${bytes(p.bytesPerS)}/s` : "";
  const left = p.secondsLeft === undefined || p.bytesPerS <= 0 ? "" : ` · ${duration(p.secondsLeft)} left`;
  return `${doing} · ${loaded}${rate}${left}`;
}

export function LoadingCard() {
  const now = loading.value!;
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => tick((n) => n + 1), 500);
    return () => clearInterval(timer);
  }, []);
  const { progress, choice } = now;
  const share = progress?.total ? progress.loaded / progress.total : 0;
  const pausable = isRemote(choice.ref) && progress?.from !== "cache";
  return (
    <section class="card loading" aria-labelledby="loading-title">
      <h2 id="loading-title">{choice.name}</h2>
      <Bar share={share} busy={!progress || progress.phase === "ready"} />
      <div class="row spread">
        <span id="progress-text" class="soft numbers">
          {wordsFor(now, performance.now())}
        </span>
        <button id="cancel" type="button" onClick={pause}>
          {pausable ? <Pause aria-hidden="true" /> : <X aria-hidden="true" />}
          {pausable ? "Pause" : "Cancel"}
        </button>
      </div>
      <p class="soft small">
        {isRemote(choice.ref)
          ? "What arrives is stored in this browser. Next time it loads from there, offline too."
          : "The file stays on this device."}
      </p>
    </section>
  );
}

export function PausedCard({ choice, loaded, total }: Paused) {
  return (
    <section class="card loading" aria-labelledby="paused-title">
      <h2 id="paused-title">{choice.name}</h2>
      <Bar share={total ? loaded / total : 0} />
      <div class="row spread">
        <span id="paused-text" class="soft numbers">
          Paused at {bytes(loaded)}
          {total !== undefined && ` of ${bytes(total)}`}
        </span>
        <span class="row">
          <button id="resume" type="button" class="primary" onClick={() => void load(paused.value?.choice ?? choice)}>
            <Play aria-hidden="true" />
            Resume
          </button>
          <button id="discard" type="button" onClick={() => void discard()}>
            <Trash2 aria-hidden="true" />
            Discard
          </button>
        </span>
      </div>
    </section>
  );
}

function Bar({ share, busy = false }: { share: number; busy?: boolean }) {
  const percent = Math.round(share * 100);
  return (
    <div
      class="track"
      role="progressbar"
      aria-label="Loading"
      aria-valuemin={0}
      aria-valuemax={100}
      {...(!busy && { "aria-valuenow": percent })}
      data-busy={busy || undefined}
    >
      <i style={{ width: `${share * 100}%` }} />
    </div>
  );
}
