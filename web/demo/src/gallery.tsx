// The choice of a model: those to begin with, those of the Hugging Face Hub, an address, a file.
import { batch, signal, useSignal } from "@preact/signals";
import {
  Check,
  CircleAlert,
  Download,
  FolderOpen,
  HardDriveDownload,
  LoaderCircle,
  Search,
  Trash2,
} from "lucide-preact";
import type { TargetedEvent } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { CATALOG, check, device, type Entry, forget, guess, LOCAL, partOf, verdicts } from "./catalog.ts";
import { choiceOf, lastChoice, load, loading, nameOf, paused, problem, state } from "./engine.ts";
import { filesOf, type Repo, search } from "./hub.ts";
import { LoadingCard, PausedCard } from "./progress.tsx";
import { query } from "./settings.ts";
import { ProblemBox } from "./ui.tsx";
import { bytes } from "./words.ts";

export const address = signal(query.get("model") ?? LOCAL);

export function loadAddress(): void {
  const ref = address.value.trim();
  const entry = CATALOG.find((entry) => entry.ref === ref);
  const mmproj = query.get("mmproj");
  if (ref) void load({ ...(entry ?? { ref, name: nameOf(ref) }), ...(mmproj && { mmproj }) });
}

export function loadFiles(files: File[]): void {
  const choice = choiceOf(files);
  if (choice) void load(choice);
  else if (files.length)
    problem.value = {
      code: "page",
      title: "This is not a model",
      remedy: "Choose a file whose name ends in .gguf.",
      detail: files.map(({ name }) => name).join(", "),
    };
}

export function Gallery() {
  const best = recommended().ref;
  if (loading.value)
    return (
      <div class="gallery">
        <LoadingCard />
      </div>
    );
  return (
    <div class="gallery">
      <header class="hero">
        <h1>A language model in this page</h1>
        <p>It runs on this device. What you write stays here.</p>
        <Device />
      </header>
      <ProblemBox
        problem={problem.value}
        onClose={() => {
          problem.value = null;
        }}
      />
      {paused.value && <PausedCard {...paused.value} />}
      <section aria-labelledby="models-title">
        <h2 id="models-title">Models to begin with</h2>
        <ul class="cards">
          {CATALOG.map((entry) => (
            <ModelCard key={entry.ref} entry={entry} best={entry.ref === best} />
          ))}
        </ul>
      </section>
      <section aria-labelledby="other-title">
        <h2 id="other-title">Another model</h2>
        <Hub />
        <div class="own">
          <form
            id="load"
            onSubmit={(event) => {
              event.preventDefault();
              loadAddress();
            }}
          >
            <label for="url">Address of a GGUF file, or hf:OWNER/REPO:Q4_K_M</label>
            <div class="row">
              <input
                id="url"
                name="url"
                type="text"
                inputmode="url"
                autocomplete="off"
                spellcheck={false}
                required
                value={address}
                onInput={(event) => {
                  address.value = event.currentTarget.value;
                }}
              />
              <button id="load-address" type="submit">
                Load
              </button>
            </div>
          </form>
          <div class="drop">
            <label class="button" for="file">
              <FolderOpen aria-hidden="true" />
              Choose a file
              <input id="file" type="file" accept=".gguf" multiple class="unseen" onChange={picked} />
            </label>
            <span class="soft small pointer">or drop a GGUF anywhere, with its mmproj file if it sees pictures</span>
          </div>
        </div>
      </section>
    </div>
  );
}

function picked(event: TargetedEvent<HTMLInputElement>): void {
  const files = [...(event.currentTarget.files ?? [])];
  event.currentTarget.value = "";
  loadFiles(files);
}

/** The one that the page suggests: what is here already, else a first chat that is worth it. */
function recommended(): Entry {
  const here = CATALOG.filter(({ ref }) => verdicts.value[ref]?.fit === "yes");
  return here.findLast(({ ref }) => partOf(ref)?.complete) ?? here[0] ?? CATALOG[2]!;
}

/** Whether a model is chosen for the conversation that is open. */
export const choosing = signal(false);

/** In the place of the composer, where a conversation is open and no model is. */
export function Reopen() {
  const choice = lastChoice.value ?? recommended();
  return (
    <section class="composer" aria-label="Go on with this chat">
      <div class="field reopen">
        <span class="soft">Choose a model to go on with this chat.</span>
        <button id="reopen" type="button" class="primary" onClick={() => void load(choice)}>
          Load {choice.name}
        </button>
        <button
          type="button"
          onClick={() => {
            choosing.value = true;
          }}
        >
          Others
        </button>
      </div>
    </section>
  );
}

function Device() {
  const has = device.value;
  if (!has) return <p class="device soft small">&nbsp;</p>;
  const { adapter, available, reason } = has.webgpu;
  const gpu = available && !adapter?.software;
  const name = adapter && [adapter.vendor, adapter.architecture].filter(Boolean).join(" ");
  const threads = has.wasm.threads ? `${navigator.hardwareConcurrency} threads` : "one thread";
  return (
    <p class="device soft small" title={(gpu ? null : reason) ?? has.wasm.whyOneThread ?? undefined}>
      <span class={`dot ${gpu ? "good" : "fair"}`} aria-hidden="true" />
      {gpu
        ? `WebGPU${name ? ` on ${name}` : ""}, and the CPU with ${threads}`
        : `No GPU here: the CPU, with ${threads}`}
    </p>
  );
}

function ModelCard({ entry, best = false }: { entry: Entry; best?: boolean }) {
  const verdict = verdicts.value[entry.ref] ?? guess(entry);
  const here = verdict.stored || partOf(entry.ref)?.complete;
  const part = here ? undefined : partOf(entry.ref);
  const size = verdict.fileBytes ?? entry.bytes;
  const local = entry.ref === LOCAL && verdict.fit === "yes";
  const start = async () => {
    const { fit } = verdict.fit === "guess" && !here ? await check(entry) : verdict;
    if (fit === "yes" || here || verdict.fit === "no") await load(entry);
  };
  const say = here || local ? "Load" : part ? "Resume" : "Download";
  return (
    <li class="card model" data-fit={verdict.fit}>
      <div class="model-head">
        <h3>{entry.name}</h3>
        <span class="soft small numbers">{size ? bytes(size) : ""}</span>
      </div>
      <p class="soft small about">{entry.about}</p>
      <p class="tags">
        {here && (
          <span class="tag good">
            <HardDriveDownload aria-hidden="true" />
            stored here
          </span>
        )}
        {entry.tags.map((tag) => (
          <span key={tag} class="tag">
            {tag}
          </span>
        ))}
      </p>
      <p class={`verdict small ${verdict.fit}`}>
        {verdict.fit === "yes" && <Check aria-hidden="true" />}
        {verdict.fit === "no" && <CircleAlert aria-hidden="true" />}
        {verdict.fit === "checking" && <LoaderCircle class="turning" aria-hidden="true" />}
        <span>{verdict.why}</span>
      </p>
      <div class="row actions">
        <button
          type="button"
          class={best ? "primary" : ""}
          disabled={verdict.fit === "checking"}
          aria-label={`${verdict.fit === "no" && !here ? "Try anyway" : say}: ${entry.name}`}
          onClick={() => void start()}
        >
          {!here && !local && <Download aria-hidden="true" />}
          {verdict.fit === "no" && !here ? "Try anyway" : say}
        </button>
        {verdict.fit === "guess" && !here && (
          <button
            type="button"
            class="quiet"
            title="Reads the file's header, some megabytes"
            aria-label={`Check fit: ${entry.name}`}
            onClick={() => void check(entry)}
          >
            Check fit
          </button>
        )}
        {(here || part) && (
          <button
            type="button"
            class="icon quiet end"
            title="Remove it from this browser"
            aria-label={`Remove ${entry.name} from this browser`}
            onClick={() => void forget(entry.ref)}
          >
            <Trash2 aria-hidden="true" />
          </button>
        )}
      </div>
    </li>
  );
}

/** So long after the last letter the hub is asked, in milliseconds. */
const PAUSE = 350;

function Hub() {
  const words = useSignal("");
  const repos = useSignal<Repo[] | null>(null);
  const files = useSignal<{ repo: string; entries: Entry[] } | null>(null);
  const note = useSignal("");
  const asking = useRef<AbortController | undefined>(undefined);
  const look = (what: (signal: AbortSignal) => Promise<void>) => {
    asking.current?.abort();
    asking.current = new AbortController();
    const { signal } = asking.current;
    note.value = "Looking…";
    what(signal).catch((e: Error) => {
      if (!signal.aborted) note.value = e.message;
    });
  };
  // biome-ignore lint/correctness/useExhaustiveDependencies: the words alone count, signals stay the same
  useEffect(() => {
    const text = words.value.trim();
    if (text.length < 2) {
      asking.current?.abort();
      batch(() => {
        repos.value = null;
        files.value = null;
        note.value = "";
      });
      return;
    }
    const timer = setTimeout(
      () =>
        look(async (signal) => {
          const found = await search(text, signal);
          batch(() => {
            repos.value = found;
            files.value = null;
            note.value = found.length ? "" : `Nothing there is called “${text}”.`;
          });
        }),
      PAUSE,
    );
    return () => clearTimeout(timer);
  }, [words.value]);
  const expand = (repo: string) =>
    look(async (signal) => {
      const entries = await filesOf(repo, signal);
      batch(() => {
        files.value = { repo, entries };
        note.value = entries.length ? "" : "It has no GGUF files.";
      });
    });
  return (
    <div class="hub">
      <label for="hub">Search Hugging Face</label>
      <div class="search">
        <Search aria-hidden="true" />
        <input
          id="hub"
          type="search"
          placeholder="llama 3.2 1b instruct"
          autocomplete="off"
          spellcheck={false}
          value={words}
          onInput={(event) => {
            words.value = event.currentTarget.value;
          }}
        />
      </div>
      <p class="soft small note" role="status">
        {note.value || (words.value ? "" : "Nothing is asked there before you type.")}
      </p>
      {repos.value && repos.value.length > 0 && (
        <ul class="repos" aria-label="Repositories">
          {repos.value.map((repo) => (
            <li key={repo.id}>
              <button
                type="button"
                class="repo"
                aria-expanded={files.value?.repo === repo.id}
                onClick={() => expand(repo.id)}
              >
                <span>{repo.id}</span>
                <span class="soft small numbers">{repo.downloads.toLocaleString("en")} downloads</span>
              </button>
              {files.value?.repo === repo.id && (
                <ul class="cards" aria-label={`Files of ${repo.id}`}>
                  {files.value.entries.map((entry) => (
                    <ModelCard key={entry.ref} entry={entry} />
                  ))}
                </ul>
              )}
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}

/** Files may be dropped anywhere on the page. */
export function acceptsModels(): boolean {
  return state.value === "idle" || state.value === "failed";
}
