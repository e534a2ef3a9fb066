// A model as its files: each with its feed and, where the browser stores it, its entry.
import { PagelmError } from "../shared/errors.ts";
import type { WireModel, WireSource } from "../shared/protocol.ts";
import { stableUrl } from "../shared/stable-url.ts";
import type { LoadSource, StoredModel } from "../shared/types.ts";
import type { Entry } from "./entry.ts";
import { Feed, type FeedOptions } from "./feed.ts";
import type { Meta } from "./log.ts";
import type { Why } from "./reasons.ts";
import { sharedFile } from "./shared.ts";
import { type Part, partsOf, type Starting } from "./source.ts";
import { Store } from "./store.ts";

export interface FilesOptions extends Omit<FeedOptions, "hash" | "headers"> {
  /** The part that sees. */
  mmproj?: WireModel | undefined;
  /** Whether what comes is stored; else only what is stored is used. */
  write: boolean;
  /** Called if another page downloads a file, before that is waited for. */
  onWait?: (() => void) | undefined;
  starting: Starting;
  /** Makes the sum of every file, known or not. */
  verify?: boolean;
  /** Bytes for the URLs of the model. */
  blobs?: Blob[];
}

export class ModelFiles {
  readonly feeds: Feed[] = [];
  /** How many of them are the model's own; the others are those of the part that sees. */
  own = 0;
  /** Why some of it is not stored, if so. */
  #why: string | null = null;

  /** Throws if another page has the files and the signal ends the wait for it. */
  static async open(model: WireModel, source: WireSource, options: FilesOptions): Promise<ModelFiles> {
    const files = new ModelFiles();
    try {
      await files.#open(model, source, options);
      files.own = files.feeds.length;
      // The sum is the model's.
      if (options.mmproj) await files.#open(options.mmproj, { ...source, sha256: "" }, options);
      return files;
    } catch (e) {
      files.close();
      throw e;
    }
  }

  async #open(model: WireModel, source: WireSource, options: FilesOptions): Promise<void> {
    const { starting, verify, blobs, write, ...rest } = options;
    const why: Why = async (...facts) => (await starting).wasm.whyUnreached(...facts);
    const remote = { ...rest, headers: source.headers, why };
    let store: Store | null = null;
    try {
      if (source.cache) store = await Store.open(starting);
      else this.#why = "cache is false";
    } catch (e) {
      this.#why = `the browser gives no storage: ${(e as Error).message}`;
    }
    const parts = await partsOf(starting, model, source, store, remote);
    for (const [i, found] of parts.entries()) {
      const part = blobs ? { ...found, blob: blobs[i] ?? null } : found;
      const asked = typeof model === "string" ? modelKey(model) : (part.url ?? "");
      const entry = store && (await this.#entry(store, part, { model: asked, part: i, parts: parts.length }, options));
      if (entry && !entry.complete && part.sha256) part.blob ??= await sharedFile(part.sha256);
      const { meta } = entry ?? {};
      const checked = entry?.complete && meta?.checked && (!part.sha256 || part.sha256 === meta.sha256);
      const hashed = write && (verify || ((part.sha256 ?? meta?.sha256) && !checked));
      const hash = hashed ? new (await starting).wasm.Sha256() : undefined;
      this.feeds.push(new Feed(part, entry, { ...remote, hash }));
    }
  }

  async #entry(
    store: Store,
    part: Part,
    of: Pick<Meta, "model" | "part" | "parts">,
    { write, onWait, signal }: FilesOptions,
  ): Promise<Entry | null> {
    // Only files of servers are stored.
    if (!part.url?.startsWith("http")) return null;
    const { name, sha256 } = part;
    const meta = { ...of, url: stableUrl(part.url), name, sha256, version: null, size: null, checked: false };
    try {
      for (;;) {
        const entry = await store.entry(meta, { write, onWait, signal });
        // Another file may have had this address before.
        if (!sha256 || (entry?.meta.sha256 ?? sha256) === sha256) return entry;
        await entry!.discard();
      }
    } catch (e) {
      if (signal?.aborted) throw e;
      this.#why = `the browser did not open the file: ${(e as Error).message}`;
      return null;
    }
  }

  get size(): number | undefined {
    return this.feeds.reduce((sum, feed) => sum + (feed.size ?? Number.NaN), 0) || undefined;
  }

  /** Bytes that came up to now. */
  get loaded(): number {
    const { network, cache, file } = this.source;
    return network + cache + file;
  }

  /** What came from where, and whether it is stored. */
  get source(): LoadSource {
    const all: LoadSource = { network: 0, cache: 0, file: 0, stored: true, whyNotStored: this.#why };
    for (const { taken, entry } of this.feeds) {
      all.network += taken.network;
      all.cache += taken.cache;
      all.file += taken.file;
      all.stored &&= entry?.complete === true;
      all.whyNotStored ??= entry?.problem ?? null;
    }
    if (all.stored) all.whyNotStored = null;
    return all;
  }

  /** Removes what is stored: it is no model. */
  async discard(): Promise<void> {
    for (const { entry } of this.feeds) await entry?.discard();
  }

  close(): void {
    for (const feed of this.feeds) feed.close();
  }
}

/** How a stored model is named. */
export const modelKey = (model: string) => (model.startsWith("hf:") ? model : stableUrl(model));

/** The models of the store, each with its files. */
export async function storedModels(): Promise<StoredModel[]> {
  const models = new Map<string, StoredModel>();
  for await (const { meta, bytes, complete } of (await Store.open()).logs()) {
    const { model, url, name, size, sha256, part, parts } = meta;
    const of = models.get(model) ?? { model, files: [], bytes: 0, size: 0, complete: false };
    models.set(model, of);
    of.files[part] = { url, name, bytes, size, sha256, complete };
    of.bytes += bytes;
    of.size = of.size === null || size === null ? null : of.size + size;
    const there = Object.values(of.files);
    of.complete = there.length === parts && there.every((file) => file.complete);
  }
  for (const of of models.values()) {
    of.files = Object.values(of.files);
    if (!of.complete) of.size = of.files.length === 1 ? of.size : null;
  }
  return [...models.values()];
}

/** Whether a file is one of the model that is named, or the one file that is. */
const isOf = ({ model, url }: Meta, name: string) => [model, url].includes(modelKey(name));

/** Removes a model; returns the bytes that it had. */
export async function removeModel(model: string): Promise<number> {
  const store = await Store.open();
  let freed = 0;
  for await (const { id, meta, bytes } of store.logs()) {
    if (!isOf(meta, model)) continue;
    if (!(await store.remove(id))) {
      throw new PagelmError("invalid-state", "it is being loaded", meta.url);
    }
    freed += bytes;
  }
  return freed;
}

/** The files of a stored model, for the user to keep. */
export async function modelFiles(model: string): Promise<File[]> {
  const store = await Store.open();
  const files: File[] = [];
  for await (const { id, meta, complete } of store.logs()) {
    if (!isOf(meta, model)) continue;
    if (!complete) throw new PagelmError("invalid-state", "it is not complete", meta.url);
    files[meta.part] = new File([await store.file(id, "gguf")], meta.name);
  }
  if (!files.length) throw new PagelmError("invalid-argument", `${model} is not stored`, "model");
  return files;
}
