// The Hugging Face Hub: asked only when somebody looks for a model there.
import type { Entry } from "./catalog.ts";
import { nameOf } from "./engine.ts";

const HUB = "https://huggingface.co";

export interface Repo {
  id: string;
  downloads: number;
  likes: number;
}

async function ask(path: string, signal: AbortSignal): Promise<unknown> {
  const response = await fetch(`${HUB}/api/models${path}`, { signal, credentials: "omit" }).catch((e: unknown) => {
    if (signal.aborted) throw e;
    throw new Error("Hugging Face cannot be reached. What is stored here still loads.");
  });
  if (!response.ok) throw new Error(`Hugging Face answered ${response.status}. Try again in a while.`);
  return response.json();
}

/** Repositories with GGUF files whose names have these words. */
export async function search(words: string, signal: AbortSignal): Promise<Repo[]> {
  const query = new URLSearchParams({ search: words, filter: "gguf", sort: "downloads", limit: "12" });
  const found = await ask(`?${query}`, signal);
  if (!Array.isArray(found)) throw new Error("Hugging Face answered something else than a list.");
  return found
    .filter((repo) => typeof repo?.id === "string")
    .map(({ id, downloads, likes }) => ({ id, downloads: Number(downloads) || 0, likes: Number(likes) || 0 }));
}

const PART = /-(\d{5})-of-\d{5}\.gguf$/i;

/** The files of a repository that are models: of a split one the first part, with the size of all. */
export async function filesOf(repo: string, signal: AbortSignal): Promise<Entry[]> {
  const id = repo.split("/").map(encodeURIComponent).join("/");
  const found = (await ask(`/${id}?blobs=true`, signal)) as { siblings?: { rfilename?: unknown; size?: unknown }[] };
  const files = (found.siblings ?? [])
    .map(({ rfilename, size }) => ({ path: String(rfilename), size: Number(size) || 0 }))
    .filter(({ path }) => /\.gguf$/i.test(path));
  const sees = files.some(({ path }) => /mmproj/i.test(path));
  const whole = files.filter(({ path }) => !/mmproj/i.test(path) && (PART.exec(path)?.[1] ?? "00001") === "00001");
  return whole
    .map(({ path, size }) => {
      const stem = path.replace(PART, "");
      const parts = PART.test(path) ? files.filter((other) => other.path.replace(PART, "") === stem) : [{ size }];
      return {
        ref: `hf:${repo}/${path}`,
        name: nameOf(stem),
        bytes: parts.reduce((sum, part) => sum + part.size, 0) || null,
        about: repo,
        tags: sees ? ["pictures"] : [],
        ...(sees && { mmproj: true as const }),
      };
    })
    .sort((a, b) => (a.bytes ?? 0) - (b.bytes ?? 0));
}
