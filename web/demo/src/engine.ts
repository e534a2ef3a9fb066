// The one engine of the page: what it is, how it is loaded, paused and let go.
import { computed, effect, signal } from "@preact/signals";
import { createEngine, type Engine, type LoadProgress, type ModelRef, models } from "pagelm";
import { settings } from "./settings.ts";
import { type Problem, problemOf } from "./words.ts";

/** A model to load. */
export interface Choice {
  ref: ModelRef;
  /** As the page calls it. */
  name: string;
  mmproj?: ModelRef | true;
  sha256?: string;
}

export interface Loading {
  choice: Choice;
  progress: LoadProgress | null;
  /** When bytes came last, by `performance.now()`. */
  movedAt: number;
}

export interface Paused {
  choice: Choice;
  loaded: number;
  total: number | undefined;
}

export const engine = signal<Engine | null>(null);
/** The model that `engine` has. */
export const current = signal<Choice | null>(null);
export const loading = signal<Loading | null>(null);
export const paused = signal<Paused | null>(null);
export const problem = signal<Problem | null>(null);
export const answering = signal(false);
/** Set while an engine that was lost is made again. */
export const recovering = signal(false);

const LAST = "pagelm-last-model";

function lastStored(): Choice | null {
  try {
    const { ref, name, mmproj } = JSON.parse(localStorage.getItem(LAST) ?? "{}");
    return typeof ref === "string" && typeof name === "string" ? { ref, name, ...(mmproj && { mmproj }) } : null;
  } catch {
    return null; // Storage is forbidden, or holds something else.
  }
}

/** The model that ran last, in a visit before perhaps. Files that were picked are not at hand any more. */
export const lastChoice = signal(lastStored());

function remember(choice: Choice): void {
  if (typeof choice.ref !== "string") return;
  lastChoice.value = choice;
  try {
    localStorage.setItem(LAST, JSON.stringify(choice));
  } catch {
    // It is known for this visit.
  }
}

let stop: AbortController | null = null;

/** What is visible depends on this. */
export const state = computed(() => {
  if (loading.value) return "loading";
  if (answering.value) return "answering";
  if (engine.value) return "ready";
  return problem.value ? "failed" : "idle";
});

/** For scripts and tests. */
export const watchState = () =>
  effect(() => {
    document.body.dataset.state = state.value;
  });

export const isRemote = (ref: ModelRef) => typeof ref === "string" || ref instanceof URL;

export function engineOptions() {
  const { backend, threads, contextLength } = settings.value;
  return { backend, ...(threads !== null && { threads }), ...(contextLength !== null && { contextLength }) };
}

export async function load(choice: Choice): Promise<void> {
  if (loading.value) return;
  release();
  stop = new AbortController();
  problem.value = null;
  paused.value = null;
  loading.value = { choice, progress: null, movedAt: performance.now() };
  try {
    const made = await createEngine({
      model: choice.ref,
      ...(choice.mmproj && { mmproj: choice.mmproj }),
      ...(choice.sha256 && { sha256: choice.sha256 }),
      ...engineOptions(),
      signal: stop.signal,
      onProgress: (progress) => {
        const last = loading.value;
        if (!last) return;
        const moved = progress.loaded !== last.progress?.loaded || progress.phase !== last.progress.phase;
        loading.value = { choice, progress, movedAt: moved ? performance.now() : last.movedAt };
      },
      onRecover: ({ phase }) => {
        recovering.value = phase === "recovering";
      },
    });
    current.value = choice;
    remember(choice);
    engine.value = made;
  } catch (e) {
    const why = problemOf(e);
    const { progress } = loading.value;
    // What came is stored, and the next load goes on from there.
    if (isRemote(choice.ref) && progress && progress.loaded > 0)
      paused.value = { choice, loaded: progress.loaded, total: progress.total };
    if (why.code !== "aborted") problem.value = why;
  } finally {
    loading.value = null;
    stop = null;
  }
}

/** Ends the load. What came of a download stays. */
export const pause = () => stop?.abort();

/** Lets go of a download that was paused, and of what came of it. */
export async function discard(): Promise<void> {
  const ref = paused.value?.choice.ref;
  paused.value = null;
  problem.value = null;
  if (typeof ref === "string" || ref instanceof URL)
    await models.delete(ref).catch((e: unknown) => {
      problem.value = problemOf(e);
    });
}

export function release(): void {
  engine.value?.dispose();
  engine.value = null;
  current.value = null;
  recovering.value = false;
}

/** After an error of an answer: an engine that ended cannot be used again. */
export function failed(e: unknown): void {
  const why = problemOf(e);
  if (engine.value?.ended) release();
  if (why.code !== "disposed" && why.code !== "aborted") problem.value = why;
}

const FILE = /([^/]+?)(\.gguf)?([?#].*)?$/i;

/** The name of a file, as people call the model. */
export const nameOf = (file: string) => FILE.exec(file)?.[1] ?? file;

/** A model that was dropped or picked, and, by its name, the part of it that sees. */
export function choiceOf(files: File[]): Choice | null {
  const mmproj = files.length > 1 ? files.find(({ name }) => /mmproj/i.test(name)) : undefined;
  const parts = files.filter((file) => file !== mmproj && /\.gguf$/i.test(file.name));
  const [model] = parts;
  if (!model) return null;
  const ref = parts.length > 1 ? parts.toSorted((a, b) => a.name.localeCompare(b.name)) : model;
  return { ref, name: nameOf(model.name), ...(mmproj && { mmproj }) };
}
