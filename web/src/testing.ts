// What tests of the engine need and pages do not: `pagelm/testing`, a separate entry point.
import { chooseBuilds } from "./page/builds.ts";
import { connect, type Engine, load } from "./page/engine.ts";
import { assetOptions, testOptions } from "./page/params.ts";
import { PagelmError } from "./shared/errors.ts";
import type { AssetOptions, EngineOptions } from "./shared/types.ts";

export interface TestOptions extends EngineOptions {
  /** Which kernels WebGPU runs; by default chosen by the adapter. */
  kernels?: "hardware" | "software";
}

/** Like that of `pagelm`. */
export function createEngine(given: TestOptions): Promise<Engine> {
  return load(testOptions(given));
}

/** The name and source of every shader of the engine, for tests that compile them. */
export async function shaderSources(given: AssetOptions = {}): Promise<[name: string, text: string][]> {
  const options = assetOptions(given);
  const wasm = chooseBuilds(options);
  const client = await connect(options, wasm);
  try {
    return await client.call("shaders", { wasm });
  } finally {
    client.end(new PagelmError("disposed", "the programs were listed"));
  }
}
