// One engine for all tabs of an origin: `pagelm/share`, a separate entry point.
import { PagelmError, type Share } from "./index.ts";
import type { Port } from "./page/client.ts";
import type { LoadRequest } from "./share-hub.ts";
import { Seat } from "./share-seat.ts";
import { stableUrl } from "./shared/stable-url.ts";

export { PagelmError };

/** Whether the engine is in this tab, or in another one. */
export type Role = "leader" | "follower";

export interface TabsOptions {
  /** Called when the engine comes to be in this tab (`leader`), or in another one that this tab uses (`follower`). */
  onRole?: (role: Role) => void;
}

/** The build of the package: tabs that were opened before an update understand each other. */
declare const PAGELM_BUILD: string | undefined;
const BUILD = typeof PAGELM_BUILD === "undefined" ? "" : PAGELM_BUILD;

/**
 * The value of `share`, an option of `createEngine`: tabs of one origin that ask for the same model with the same options have one
 * engine, in one of them. When that one closes, another goes on.
 */
export function tabs(options: TabsOptions = {}): Share {
  const { onRole, ...unknown } = options;
  const [name] = Object.keys(unknown);
  if (name) throw new PagelmError("invalid-argument", `tabs knows no option ${name}; it takes onRole`, name);
  if (onRole !== undefined && typeof onRole !== "function")
    throw new PagelmError("invalid-argument", `onRole must be a function, is ${onRole}`, "onRole");
  /** Where engines were that were lost: they come back there, even if they are on the CPU then. */
  const lost = new Map<string, string>();
  const group = (load: LoadRequest) => {
    const [bare, full] = names(load);
    return lost.get(bare) ?? full;
  };
  const onLost = (load: LoadRequest) => lost.set(names(load)[0], group(load));
  return (open: () => Promise<Port>) => new Seat({ open, group, onLost, onRole });
}

/** The name of a group, without and with the backend. */
function names({ model, mmproj, source, wasm, backend, options }: LoadRequest): [string, string] {
  if (!globalThis.navigator?.locks || typeof BroadcastChannel === "undefined") {
    const message =
      "this page has no Web Locks, by which tabs share an engine; serve it over https, or leave share out";
    throw new PagelmError("invalid-argument", message, "share");
  }
  const files = [model, mmproj].map((one) => one && [one].flat().map(address));
  const { sha256, hub, cache } = source;
  const what = [BUILD, files, sha256, hub, cache, wasm.builds, wasm.threads, Object.entries(options).sort()];
  const bare = `pagelm share ${JSON.stringify(what)}`;
  return [bare, `${bare} ${backend}`];
}

/** What another tab can load too. */
function address(model: unknown): string {
  if (typeof model === "string" && !model.startsWith("blob:")) return stableUrl(model);
  const message =
    "is a file, which other tabs do not have: store it under a name with models.import(name, file), and share that";
  throw new PagelmError("invalid-argument", `model ${message}`, "model");
}
