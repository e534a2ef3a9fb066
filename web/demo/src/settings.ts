// What a person chooses: kept for the next visit. The address may say otherwise, for scripts: `?backend=cpu&temperature=0`.
import { effect, signal } from "@preact/signals";
import type { ChatParams } from "pagelm";

export interface Settings {
  system: string;
  temperature: number | null;
  top_p: number | null;
  top_k: number | null;
  min_p: number | null;
  repeat_penalty: number | null;
  presence_penalty: number | null;
  frequency_penalty: number | null;
  seed: number | null;
  max_tokens: number | null;
  /** Whether models that can think do so. */
  thinking: boolean;
  tools: boolean;
  backend: "auto" | "webgpu" | "cpu";
  threads: number | null;
  contextLength: number | null;
}

/** What is null is as the model's file recommends. */
export const DEFAULTS: Settings = {
  system: "",
  temperature: null,
  top_p: null,
  top_k: null,
  min_p: null,
  repeat_penalty: null,
  presence_penalty: null,
  frequency_penalty: null,
  seed: null,
  max_tokens: null,
  thinking: true,
  tools: false,
  backend: "auto",
  threads: null,
  contextLength: null,
};

/** The numbers of the sampler, as the drawer shows them. */
export const SAMPLER = [
  { key: "temperature", name: "Temperature", min: 0, max: 2, step: 0.1, hint: "0 always takes the likeliest token" },
  { key: "top_p", name: "Top P", min: 0, max: 1, step: 0.05, hint: "the likeliest tokens that make up this share" },
  { key: "top_k", name: "Top K", min: 0, max: 1000, step: 1, hint: "so many of the likeliest tokens; 0 is all" },
  { key: "min_p", name: "Min P", min: 0, max: 1, step: 0.01, hint: "at least this share of the likeliest one" },
  { key: "repeat_penalty", name: "Repeat penalty", min: 0.1, max: 2, step: 0.05, hint: "1 is none" },
  { key: "presence_penalty", name: "Presence penalty", min: -2, max: 2, step: 0.1, hint: "0 is none" },
  { key: "frequency_penalty", name: "Frequency penalty", min: -2, max: 2, step: 0.1, hint: "0 is none" },
  { key: "seed", name: "Seed", min: 0, max: 4294967295, step: 1, hint: "the same seed draws the same answer" },
  { key: "max_tokens", name: "Longest answer", min: 1, max: 32768, step: 1, hint: "in tokens" },
] as const satisfies { key: keyof Settings; name: string; min: number; max: number; step: number; hint: string }[];

const KEY = "pagelm-settings";
export const query = new URLSearchParams(location.search);

function stored(): Partial<Settings> {
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    return kept && typeof kept === "object" ? kept : {};
  } catch {
    return {}; // Storage is forbidden, or holds something else.
  }
}

function asked(): Partial<Settings> {
  const given: Partial<Settings> = {};
  for (const { key } of SAMPLER) if (query.get(key)) given[key] = Number(query.get(key));
  const backend = query.get("backend");
  if (backend === "auto" || backend === "webgpu" || backend === "cpu") given.backend = backend;
  if (query.get("context")) given.contextLength = Number(query.get("context"));
  if (query.get("threads")) given.threads = Number(query.get("threads"));
  return given;
}

export const settings = signal<Settings>({ ...DEFAULTS, ...stored(), ...asked() });

export function set(more: Partial<Settings>): void {
  settings.value = { ...settings.value, ...more };
  try {
    localStorage.setItem(KEY, JSON.stringify(settings.value));
  } catch {
    // It holds for this visit.
  }
}

/** What chat completions get of them. */
export function sampling(): Omit<ChatParams, "messages"> {
  const given: Omit<ChatParams, "messages"> = {};
  for (const { key } of SAMPLER) {
    const value = settings.value[key];
    if (value !== null) given[key] = value;
  }
  if (!settings.value.thinking) given.reasoning_effort = "none";
  return given;
}

export type Theme = "system" | "light" | "dark";
const THEMES: readonly string[] = ["light", "dark"];

/** `theme.js` reads it before the first paint. */
export const theme = signal<Theme>(
  THEMES.includes(document.documentElement.dataset.theme ?? "")
    ? (document.documentElement.dataset.theme as Theme)
    : "system",
);

export function watchTheme(): void {
  effect(() => {
    const root = document.documentElement;
    if (theme.value === "system") delete root.dataset.theme;
    else root.dataset.theme = theme.value;
    try {
      if (theme.value === "system") localStorage.removeItem("pagelm-theme");
      else localStorage.setItem("pagelm-theme", theme.value);
    } catch {
      // It holds for this visit.
    }
  });
}
