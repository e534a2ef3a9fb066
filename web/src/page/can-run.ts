// Whether a model can run in this browser, and with which options it fits, before its weights are fetched.
import { type ErrorCode, PagelmError } from "../shared/errors.ts";
import type { BackendFit, BackendName, CanRunOptions, KvType, ModelInfo, ModelRef } from "../shared/types.ts";
import { chooseBuilds } from "./builds.ts";
import { connect, hinted, sourceOf, totalOf, wireModels } from "./engine.ts";
import { canRunOptions, checkModel, modelOptions } from "./params.ts";

export interface CanRun {
  /** Whether the engine can run it with these options and it is likely to fit. */
  ok: boolean;
  /** The reason, if not, and its code: that of the error that `createEngine` would throw. */
  reason: string | null;
  code: ErrorCode | null;
  model: ModelInfo;
  /** Each backend that this browser has, the one that would run first: what fits there. */
  backends: BackendFit[];
  /** Options for `createEngine` that fit, with `ok` those that were asked for; null if none do. */
  best: { backend: BackendName; contextLength: number; kvType: KvType } | null;
  /** Bytes to download, if known. */
  fileBytes: number | null;
  /** About how many bytes of memory it will need. */
  memoryBytes: number | null;
  /** Whether the browser has stored it: it then loads without a download. */
  stored: boolean;
  /** Whether the browser has room to store it, if it says how much it has. */
  storable: boolean | null;
}

/** Reads only the header of a model. */
export async function canRun(model: ModelRef, given: CanRunOptions = {}): Promise<CanRun> {
  checkModel(model);
  const checked = canRunOptions(given);
  const { mmproj, signal, fetch, backend = "auto" } = checked;
  const wasm = chooseBuilds(checked);
  const client = await connect(checked, wasm);
  try {
    const { memoryLimit = deviceRoom(), ...rest } = modelOptions(checked);
    const options = { ...rest, ...(memoryLimit !== undefined && { memoryLimit }) };
    const input = { ...wireModels(model, mmproj), source: sourceOf(checked), wasm, backend, options };
    const { info, size, stored, backends } = await client.call("inspect", input, { signal, fetch });
    const here = backends[0]?.fit ?? null;
    let problem = info.problem ?? backends[0]?.problem ?? null;
    if (!problem && size !== null && size < info.fileBytes) {
      const message = `the file has ${size} bytes, its header promises ${info.fileBytes}; is the download complete?`;
      problem = { code: "gguf-truncated", place: "", message };
    } else if (!problem && here?.changes.length) {
      const room = memoryLimit ? `${memoryLimit} bytes of memory` : "the memory";
      const message = `it does not fit into ${room}: ${here.changes.map((c) => c.message).join(", ")}`;
      problem = { code: "out-of-memory", place: "", message };
    }
    const fitting = backends.find(({ fit }) => fit);
    const { contextLength, kvType } = fitting?.fit ?? {};
    const memory = here?.memory;
    const { quota, usage = 0 } = (await globalThis.navigator?.storage?.estimate?.().catch(() => null)) ?? {};
    return {
      ok: problem === null,
      reason: problem?.message ?? null,
      code: problem?.code ?? null,
      model: info,
      backends,
      best: fitting ? { backend: fitting.backend, contextLength: contextLength!, kvType: kvType! } : null,
      fileBytes: size,
      memoryBytes: memory ? totalOf(memory) : null,
      stored,
      storable: quota && size ? stored || quota - usage > size : null,
    };
  } catch (e) {
    throw hinted(e, model);
  } finally {
    client.end(new PagelmError("disposed", "it is done"));
  }
}

/** What a page may expect to get, as far as the browser says it: half of the memory, which is rounded to at most 8 GiB. */
function deviceRoom(): number | undefined {
  const { deviceMemory } = globalThis.navigator as { deviceMemory?: number };
  return deviceMemory && deviceMemory < 8 ? deviceMemory * 2 ** 29 : undefined;
}
