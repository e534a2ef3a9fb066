// The engine's module comes in several builds; a browser loads the best one that it supports.

import { PagelmError } from "../shared/errors.ts";
import type { WasmOptions } from "../shared/protocol.ts";
import type { AssetOptions, WasmBuild } from "../shared/types.ts";
import { hasRelaxedSimd, hasSimd, whyNoThreads } from "./capabilities.ts";

/** What a worker must know to load the module. */
export function chooseBuilds({ wasmUrl, wasmBuild, threads }: AssetOptions & { threads?: number }): WasmOptions {
  if (!hasSimd()) throw new PagelmError("engine-not-loaded", "this browser has no WASM SIMD; use a newer one");
  const wanted = threads ?? Math.min(globalThis.navigator?.hardwareConcurrency ?? 1, 8);
  const missing = whyNoThreads() ?? (wanted === 1 ? "there is one core, or one thread was asked for" : null);
  const runs = (build: WasmBuild) =>
    (!build.includes("threads") || missing === null) && (!build.includes("relaxed") || hasRelaxedSimd());
  if (wasmBuild && !runs(wasmBuild)) {
    throw new PagelmError(
      "invalid-argument",
      `this page cannot run the build ${wasmBuild}${missing ? `: ${missing}` : ""}`,
    );
  }
  return {
    builds: wasmBuild ? [wasmBuild] : ORDER.filter(runs),
    // A relative URL is relative to the page, not to the worker; a trailing slash is optional.
    folder: wasmUrl && new URL(wasmUrl, globalThis.location?.href).href.replace(/\/*$/, "/"),
    threads: wanted,
    whyOneThread: missing,
    stop: globalThis.crossOriginIsolated ? new Int32Array(new SharedArrayBuffer(4)) : undefined,
  };
}

/** Best first. */
const ORDER: WasmBuild[] = ["threads-relaxed", "threads", "relaxed", "base"];
