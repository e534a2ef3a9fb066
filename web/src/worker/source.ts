// What a page names as its model: the files of it, and where they are. Names are the engine's to read (`crate/hub.rs`).

import type { Bindings, HubFile } from "#bindings";
import type { PagelmError } from "../shared/errors.ts";
import type { WireModel, WireSource } from "../shared/protocol.ts";
import { Remote, type RemoteOptions } from "./fetch.ts";
import type { Store } from "./store.ts";

/** The engine's module, which may still be on its way: files are opened and asked for meanwhile. */
export type Starting = Promise<{ wasm: Bindings }>;

/** One file of a model. */
export interface Part {
  /** Null for files that only the user has. */
  url: string | null;
  /** The bytes, if they need not be fetched. */
  blob: Blob | null;
  name: string;
  sha256: string | null;
}

/** The files of a model, in the order of their numbers where their names have some. */
export async function partsOf(
  starting: Starting,
  model: WireModel,
  source: WireSource,
  store: Store | null,
  options: RemoteOptions,
): Promise<Part[]> {
  if (Array.isArray(model)) return model.map((one) => partOf(one, null));
  if (typeof model !== "string") {
    return "kind" in model ? inFolder((await starting).wasm, model) : [partOf(model, source.sha256 ?? null)];
  }
  const stored = model.startsWith("hf:") && (await storedParts(model, store));
  if (stored) return stored;
  const files = model.startsWith("hf:")
    ? await inHub((await starting).wasm, decodeURI(model), source, options)
    : // Only of a part there are others.
      (/-of-\d/.test(model) ? (await starting).wasm.siblings(model) : [model]).map((url) => ({ url, sha256: null }));
  // The sum that the page gives is that of a whole file.
  return files.map(({ url, sha256 }) => partOf(url, (files.length === 1 && source.sha256) || sha256));
}

function partOf(one: string | Blob, sha256: string | null): Part {
  if (typeof one !== "string") return { url: null, blob: one, name: one instanceof File ? one.name : "", sha256 };
  return { url: one, blob: null, name: nameOf(one), sha256 };
}

const nameOf = (url: string) => decodeURIComponent(new URL(url).pathname.split("/").pop() ?? "");

/** The one model of a folder. */
async function inFolder(wasm: Bindings, folder: FileSystemDirectoryHandle): Promise<Part[]> {
  const files = new Map<string, FileSystemFileHandle>();
  for await (const one of folder.values()) {
    if (one.kind === "file") files.set(one.name, one as FileSystemFileHandle);
  }
  const names = wasm.chooseFiles([...files.keys()], `the folder ${folder.name}`);
  return Promise.all(names.map(async (name) => partOf(await files.get(name)!.getFile(), null)));
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

async function inHub(wasm: Bindings, model: string, { hub }: WireSource, options: RemoteOptions): Promise<HubFile[]> {
  try {
    return wasm.hubFiles(model, hub, await textOf(wasm.hubList(model, hub), options))!;
  } catch (e) {
    // A mirror need not have the list, which only adds the sums.
    const files = (e as PagelmError).code === "http-status" && wasm.hubFiles(model, hub);
    if (files) return files;
    throw e;
  }
}

async function textOf(url: string, options: RemoteOptions): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const bytes of await new Remote(url, options).connect(0)) text += decoder.decode(bytes, { stream: true });
  return text;
}
