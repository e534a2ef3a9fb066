// Models to begin with, by size, and what is known of each before anything is fetched.
import { signal } from "@preact/signals";
import { type Capabilities, canRun, capabilities, models, type StoredModel } from "pagelm";
import { type Choice, engineOptions } from "./engine.ts";
import { bytes, problemOf } from "./words.ts";

export interface Entry extends Choice {
  ref: string;
  /** About how long the download is. */
  bytes: number | null;
  about: string;
  tags: string[];
}

const { file, sha256, bytes: size } = models.tested["smollm2-135m"];
/** Served beside the page by `make demo`. */
export const LOCAL = new URL(`models/${file}`, location.href).pathname;

const hub = (repo: string, name: string, megabytes: number, about: string, ...tags: string[]): Entry => ({
  ref: `hf:${repo}`,
  name,
  bytes: megabytes * 1e6,
  about,
  tags,
  ...(tags.includes("pictures") && { mmproj: true as const }),
});

export const CATALOG: Entry[] = [
  {
    ref: LOCAL,
    name: "SmolLM2 135M",
    bytes: size,
    sha256,
    about: "Tiny and quick. It shows how the page works, and is often wrong.",
    tags: ["starts in seconds"],
  },
  hub("ggml-org/gemma-3-270m-it-GGUF:Q8_0", "Gemma 3 270M", 292, "Small, for short texts and simple tasks."),
  hub("Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q4_K_M", "Qwen2.5 0.5B", 491, "A good first chat on most devices.", "tools"),
  hub("Qwen/Qwen3-0.6B-GGUF:Q8_0", "Qwen3 0.6B", 639, "Thinks before it answers.", "thinks", "tools"),
  hub("ggml-org/gemma-3-1b-it-GGUF:Q4_K_M", "Gemma 3 1B", 806, "Writes well in many languages."),
  hub("Qwen/Qwen3-VL-2B-Instruct-GGUF:Q4_K_M", "Qwen3-VL 2B", 1110, "Looks at pictures.", "pictures", "tools"),
  hub("Qwen/Qwen3-1.7B-GGUF:Q8_0", "Qwen3 1.7B", 1830, "Reasons and calls tools.", "thinks", "tools"),
  hub("Qwen/Qwen3-4B-GGUF:Q4_K_M", "Qwen3 4B", 2500, "The best of these, for a good GPU.", "thinks", "tools"),
];

/** What is known of a model: `guess` by its size alone, the others by its header. */
export interface Verdict {
  fit: "guess" | "checking" | "yes" | "no";
  why: string;
  stored: boolean;
  fileBytes: number | null;
}

export const device = signal<Capabilities | null>(null);
export const verdicts = signal<Record<string, Verdict>>({});
export const stored = signal<StoredModel[]>([]);

const know = (ref: string, verdict: Verdict) => {
  verdicts.value = { ...verdicts.value, [ref]: verdict };
};

/** Reads the header of a model: up to some megabytes of it. */
export async function check(entry: Entry): Promise<Verdict> {
  know(entry.ref, { fit: "checking", why: "Reading its header…", stored: false, fileBytes: entry.bytes });
  let verdict: Verdict;
  try {
    const { threads: _, ...options } = engineOptions();
    const found = await canRun(entry.ref, { ...options, ...(entry.mmproj && { mmproj: entry.mmproj }) });
    const memory = found.memoryBytes === null ? "" : ` in ${bytes(found.memoryBytes)} of memory`;
    const where = found.best?.backend === "webgpu" ? "the GPU" : "the CPU";
    const room = found.storable === false ? " There is no room to store it: it will be downloaded each time." : "";
    verdict = {
      fit: found.ok ? "yes" : "no",
      why: found.ok ? `Runs on ${where}${memory}.${room}` : sentence(found.reason ?? "it cannot run here"),
      stored: found.stored,
      fileBytes: found.fileBytes,
    };
  } catch (e) {
    const { title, remedy } = problemOf(e);
    verdict = { fit: "no", why: `${title}. ${remedy}`.trim(), stored: false, fileBytes: entry.bytes };
  }
  know(entry.ref, verdict);
  return verdict;
}

const sentence = (reason: string) => `${reason.charAt(0).toUpperCase()}${reason.slice(1)}.`;

/** Before its header is read: what a download of this size would need. */
export function guess(entry: Entry): Verdict {
  const here = stored.value.find(({ model }) => same(model, entry.ref));
  const whole = { stored: here?.complete ?? false, fileBytes: entry.bytes };
  const { webgpu } = device.value ?? {};
  if (!device.value || entry.bytes === null) return { fit: "guess", why: "", ...whole };
  const gpu = webgpu?.available && !webgpu.adapter?.software;
  const memory = (navigator as { deviceMemory?: number }).deviceMemory ?? 8;
  if (!gpu && entry.bytes > 3.4e9)
    return { fit: "no", why: "Too large for the CPU of a page, which has 4 GB, and there is no GPU.", ...whole };
  if (memory < 8 && entry.bytes > memory * 2 ** 29)
    return { fit: "no", why: `Too large for a device with ${memory} GB of memory.`, ...whole };
  if (!gpu && entry.bytes > 7e8) return { fit: "guess", why: "Will be slow on the CPU.", ...whole };
  return { fit: "guess", why: "Should fit.", ...whole };
}

/** Addresses may be relative in one place and whole in another. */
function same(a: string, b: string): boolean {
  const whole = (ref: string) => (ref.startsWith("hf:") ? ref : new URL(ref, location.href).href);
  return whole(a) === whole(b);
}

export const partOf = (ref: string) => stored.value.find(({ model }) => same(model, ref));

/** What is stored and what this browser can do. Nothing leaves the page but a look at the file beside it. */
export async function survey(): Promise<void> {
  const [has, list] = await Promise.all([capabilities(), models.list().catch(() => [])]);
  device.value = has;
  stored.value = list;
  const [local] = CATALOG;
  const there = await fetch(LOCAL, { method: "HEAD" }).then(
    ({ ok }) => ok,
    () => false,
  );
  const mine = CATALOG.filter(({ ref }) => partOf(ref)?.complete || (ref === local?.ref && there));
  for (const entry of mine) if (!verdicts.value[entry.ref]) await check(entry);
}

export async function forget(ref: string): Promise<void> {
  const kept = partOf(ref);
  if (kept) await models.delete(kept.model);
  const { [ref]: _, ...rest } = verdicts.value;
  verdicts.value = rest;
  stored.value = await models.list().catch(() => []);
}
