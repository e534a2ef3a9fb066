// What a page names as its model: the files of it, and where they are.

import { PagelmError } from "../shared/errors.ts";
import type { WireModel, WireSource } from "../shared/protocol.ts";
import { Remote, type RemoteOptions } from "./fetch.ts";
import type { Store } from "./store.ts";

/** One file of a model. */
export interface Part {
  /** Null for files that only the user has. */
  url: string | null;
  /** The bytes, if they need not be fetched. */
  blob: Blob | null;
  name: string;
  sha256: string | null;
}

const HUB = "https://huggingface.co";

/** The files of a model, in the order of their numbers where their names have some. */
export async function partsOf(
  model: WireModel,
  source: WireSource,
  store: Store | null,
  options: RemoteOptions,
): Promise<Part[]> {
  if (Array.isArray(model)) return model.map((one) => partOf(one, null));
  if (typeof model !== "string") {
    return "kind" in model ? inFolder(model) : [partOf(model, source.sha256 ?? null)];
  }
  if (!model.startsWith("hf:")) return siblings(model).map((url, _, all) => named(url, all.length, source));
  return (await storedParts(model, store)) ?? inHub(model, source, options);
}

/** The sum that the page gives is that of a whole file. */
const named = (url: string, count: number, source: WireSource) =>
  partOf(url, count === 1 ? (source.sha256 ?? null) : null);

function partOf(one: string | Blob, sha256: string | null): Part {
  if (typeof one !== "string") return { url: null, blob: one, name: one instanceof File ? one.name : "", sha256 };
  return { url: one, blob: null, name: nameOf(one), sha256 };
}

const nameOf = (url: string) => decodeURIComponent(new URL(url).pathname.split("/").pop() ?? "");

/** The URLs of all parts of a split model, whichever of them this is; just this one if it is whole. */
export function siblings(url: string): string[] {
  const found = /^([^?#]*-)(\d{5})-of-(\d{5})(\.gguf(?:[?#].*)?)$/i.exec(url);
  const count = Number(found?.[3]);
  if (!found || count < 1) return [url];
  return Array.from({ length: count }, (_, i) => {
    return `${found[1]}${String(i + 1).padStart(5, "0")}-of-${found[3]}${found[4]}`;
  });
}

/** The one model of a folder. */
async function inFolder(folder: FileSystemDirectoryHandle): Promise<Part[]> {
  const files = new Map<string, FileSystemFileHandle>();
  for await (const one of folder.values()) {
    if (one.kind === "file" && /\.gguf$/i.test(one.name)) files.set(one.name, one as FileSystemFileHandle);
  }
  const [names] = choose([...files.keys()], `the folder ${folder.name}`);
  return Promise.all(names!.map(async (name) => partOf(await files.get(name)!.getFile(), null)));
}

/** The parts of a model by its shorthand, if all of them are stored: then nobody needs to be asked. */
async function storedParts(model: string, store: Store | null): Promise<Part[] | null> {
  const parts: Part[] = [];
  for await (const { meta, complete } of store?.logs() ?? []) {
    const { url, name, sha256 } = meta;
    if (meta.model !== model || !complete) continue;
    parts[meta.part] = { url, blob: null, name, sha256 };
    parts.length = meta.parts;
  }
  // Holes are not visited by `every`.
  return parts.length && Object.keys(parts).length === parts.length ? parts : null;
}

/** `hf:OWNER/REPO[@REVISION]`, then `/FILE` or `:QUANTISATION`. */
const SHORTHAND = /^hf:([^/:@]+\/[^/:@]+)(?:@([^/:]+))?(?:\/([^:]+)|:([^/:]+))?$/;

async function inHub(model: string, source: WireSource, options: RemoteOptions): Promise<Part[]> {
  const [, repo, revision = "main", file, tag] = SHORTHAND.exec(model) ?? [];
  if (!repo) {
    const want = "hf:OWNER/REPO/FILE.gguf or hf:OWNER/REPO:QUANTISATION";
    throw new PagelmError("invalid-argument", `${model} must be ${want}`, "model");
  }
  const hub = (source.hub ?? HUB).replace(/\/+$/, "");
  const listed = `${hub}/api/models/${repo}/tree/${revision}?recursive=true`;
  const url = (path: string) =>
    `${hub}/${repo}/resolve/${revision}/${path.split("/").map(encodeURIComponent).join("/")}`;
  type Listed = { path: string; lfs?: { oid?: string } };
  let files: Listed[];
  try {
    files = JSON.parse(await textOf(listed, options));
  } catch (e) {
    // A mirror need not have the list, which only adds the sums.
    if (!file || (e as PagelmError).code !== "http-status") throw e;
    return siblings(url(file)).map((url, _, all) => named(url, all.length, source));
  }
  const paths = files.map((f) => f.path).filter((path) => /\.gguf$/i.test(path));
  const wanted = file ? siblings(decodeURI(file)) : choose(paths, `${hub}/${repo}`, tag)[0]!;
  return wanted.map((path) => {
    const found = files.find((f) => f.path === path);
    if (!found) {
      throw new PagelmError("http-status", `there is no ${path} in it; it has ${paths}`, repo);
    }
    const { sha256 } = source;
    return partOf(url(path), wanted.length === 1 && sha256 ? sha256 : (found.lfs?.oid ?? null));
  });
}

async function textOf(url: string, options: RemoteOptions): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const bytes of await new Remote(url, options).connect(0)) text += decoder.decode(bytes, { stream: true });
  return text;
}

/** Files beside a model that are none: for images, for drafts, and statistics of quantisation. */
const BESIDE = /(^|[-_./])(mmproj|draft|imatrix)([-_.]|$)/i;
/** The end of a name that says its quantisation. */
const TAG = /(?:^|[-._/])((?:UD-)?(?:I?Q\d\w*|TQ\d_\d|BF16|F16|F32|MXFP4\w*|NVFP4\w*))$/i;

/** The one model among files, each with all its parts; with a tag the one that has exactly this quantisation. */
export function choose(paths: string[], where: string, tag?: string): string[][] {
  const models = new Map<string, string[]>();
  for (const path of paths) {
    if (BESIDE.test(path)) continue;
    const parts = siblings(path);
    models.set(parts[0]!, parts);
  }
  const tagOf = (path: string) => TAG.exec(path.replace(/(-\d{5}-of-\d{5})?\.gguf$/i, ""))?.[1]?.toUpperCase();
  const all = [...models.values()];
  const found = tag ? all.filter(([first]) => tagOf(first!) === tag.toUpperCase()) : all;
  if (found.length === 1) return found;
  const has = new Set(all.map(([first]) => (tag && !found.length && tagOf(first!)) || first));
  const what = tag ? `files of ${tag}` : "models";
  const message = `${where} has ${found.length} ${what}: name one of ${[...has].join(", ") || "its files"}`;
  throw new PagelmError("invalid-argument", message, "model");
}
