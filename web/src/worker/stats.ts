import type { Engine } from "../../pkg/base/pagelm.js";
import type { EngineStats } from "../shared/types.ts";

export function stats(engine: Engine): EngineStats {
  return camelCased(engine.stats()) as EngineStats;
}

/** The same data with the names of its fields as JavaScript writes them. */
export function camelCased(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(camelCased);
  if (typeof value !== "object" || value === null) return value;
  const camel = (key: string) => key.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
  return Object.fromEntries(Object.entries(value).map(([key, v]) => [camel(key), camelCased(v)]));
}
