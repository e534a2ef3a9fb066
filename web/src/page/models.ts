// The models that the browser stores.
import { PagelmError } from "../shared/errors.ts";
import type { Op, Operations, WasmOptions } from "../shared/protocol.ts";
import type { DownloadOptions, LoadSource, StoredModel } from "../shared/types.ts";
import { chooseBuilds } from "./builds.ts";
import { list, must, refuse } from "./check.ts";
import type { CallOptions } from "./client.ts";
import { connect, sourceOf, wireModel } from "./engine.ts";
import { checkModel, downloadOptions, isBlob } from "./params.ts";

/** Models that are tested with each release. They are not hosted here: serve the files from anywhere. */
const tested = {
  "smollm2-135m": {
    name: "SmolLM2 135M Instruct",
    file: "SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    license: "Apache-2.0",
  },
} as const;

/** What `download`, `verify` and `import` did. */
export interface Downloaded extends LoadSource {
  /** Of each file, where it is known. */
  sha256: (string | null)[];
}

/** One call to a worker of its own. */
async function call<K extends Op>(
  op: K,
  options: DownloadOptions,
  input: (wasm: WasmOptions, options: DownloadOptions) => Operations[K]["in"],
): Promise<Operations[K]["out"]> {
  const given = downloadOptions(options);
  const wasm = chooseBuilds(given);
  const message = input(wasm, given);
  const client = await connect(given, wasm);
  try {
    const { signal, onProgress, fetch } = given;
    return await client.call(op, message, { signal, onPiece: onProgress as CallOptions<K>["onPiece"], fetch });
  } finally {
    client.end(new PagelmError("disposed", "it is done"));
  }
}

async function fetched(
  model: string | URL,
  options: DownloadOptions,
  more: { verify: boolean; files?: Blob[] },
): Promise<Downloaded> {
  const name = nameOf(model);
  const input = (wasm: WasmOptions, given: DownloadOptions) => ({
    model: name,
    source: sourceOf(given),
    wasm,
    ...more,
  });
  const { source, sha256 } = await call("download", options, input);
  return { ...source, sha256 };
}

/** A stored model is named by its URL or shorthand. */
function nameOf(model: string | URL): string {
  checkModel(model);
  const wire = wireModel(model);
  if (typeof wire !== "string") refuse("model", "must be a URL or hf:…, as only these are stored");
  return wire;
}

export const models = {
  tested,

  /** What is stored, also of downloads that are not complete. */
  list: (options: DownloadOptions = {}): Promise<StoredModel[]> => call("storedModels", options, () => ({})),

  /**
   * Fetches what is missing of a model and stores it. Its signal pauses it: what came is kept, and the next call goes on
   * from there. Rejects with `not-stored` where the browser has no room.
   */
  download: (model: string | URL, options: DownloadOptions = {}): Promise<Downloaded> =>
    fetched(model, options, { verify: false }),

  /** Reads all that is stored of a model, makes the sums, and fetches what is damaged or missing. */
  verify: (model: string | URL, options: DownloadOptions = {}): Promise<Downloaded> =>
    fetched(model, options, { verify: true }),

  /** Removes a model, or one file of it; returns the bytes that it had. */
  delete: async (model: string | URL, options: DownloadOptions = {}): Promise<number> =>
    call("removeModel", options, () => ({ model: nameOf(model) })),

  /** Stores a file, or all parts in their order, as what comes from this URL. */
  import: async (model: string | URL, files: Blob | Blob[], options: DownloadOptions = {}): Promise<Downloaded> => {
    const given = Array.isArray(files) ? files : [files];
    list("a File or Blob, or a list of them", must("a File or Blob", isBlob))(given, "files");
    return fetched(model, options, { verify: false, files: given });
  },

  /** The files of a stored model, to be saved elsewhere. They are read from storage when they are used. */
  export: async (model: string | URL, options: DownloadOptions = {}): Promise<File[]> =>
    call("modelFiles", options, () => ({ model: nameOf(model) })),

  /** Asks the browser not to remove what it stores when space is short; whether it agrees. */
  persist: async (): Promise<boolean> => (await navigator.storage?.persist?.()) ?? false,

  /** Bytes that this site has and may have, and whether the browser may remove them. */
  estimate: async (): Promise<{ usage: number; quota: number; persisted: boolean }> => {
    const { usage = 0, quota = 0 } = (await navigator.storage?.estimate?.()) ?? {};
    return { usage, quota, persisted: (await navigator.storage?.persisted?.()) ?? false };
  },
};
