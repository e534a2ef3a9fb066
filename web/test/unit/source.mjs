// The TypeScript of src/ as modules that Node can run.
import { runnerImport } from "vite";

/**
 * What tests run by itself.
 * @typedef {{
 *   "page/api.ts": typeof import("../../src/page/api.ts"),
 *   "page/fetch.ts": typeof import("../../src/page/fetch.ts"),
 *   "page/client.ts": typeof import("../../src/page/client.ts"),
 *   "page/engine.ts": typeof import("../../src/page/engine.ts"),
 *   "page/params.ts": typeof import("../../src/page/params.ts"),
 *   "page/script.ts": typeof import("../../src/page/script.ts"),
 *   "page/stream.ts": typeof import("../../src/page/stream.ts"),
 *   "page/workers.ts": typeof import("../../src/page/workers.ts"),
 *   "ai-sdk.ts": typeof import("../../src/ai-sdk.ts"),
 *   "conversations.ts": typeof import("../../src/conversations.ts"),
 *   "lazy.ts": typeof import("../../src/lazy.ts"),
 *   "prompt-api.ts": typeof import("../../src/prompt-api.ts"),
 *   "react.ts": typeof import("../../src/react.ts"),
 *   "remote.ts": typeof import("../../src/remote.ts"),
 *   "shared/stable-url.ts": typeof import("../../src/shared/stable-url.ts"),
 *   "tools.ts": typeof import("../../src/tools.ts"),
 *   "share.ts": typeof import("../../src/share.ts"),
 *   "share-hub.ts": typeof import("../../src/share-hub.ts"),
 *   "share-seat.ts": typeof import("../../src/share-seat.ts"),
 *   "shared/lines.ts": typeof import("../../src/shared/lines.ts"),
 *   "shared/errors.ts": typeof import("../../src/shared/errors.ts"),
 *   "worker/download.ts": typeof import("../../src/worker/download.ts"),
 *   "worker/feed.ts": typeof import("../../src/worker/feed.ts"),
 *   "worker/fetch.ts": typeof import("../../src/worker/fetch.ts"),
 *   "worker/files.ts": typeof import("../../src/worker/files.ts"),
 *   "worker/lanes.ts": typeof import("../../src/worker/lanes.ts"),
 *   "worker/log.ts": typeof import("../../src/worker/log.ts"),
 *   "worker/reasons.ts": typeof import("../../src/worker/reasons.ts"),
 *   "worker/source.ts": typeof import("../../src/worker/source.ts"),
 *   "worker/store.ts": typeof import("../../src/worker/store.ts"),
 *   "worker/task.ts": typeof import("../../src/worker/task.ts"),
 *   "worker/tuning.ts": typeof import("../../src/worker/tuning.ts"),
 *   "worker/wasm.ts": typeof import("../../src/worker/wasm.ts"),
 * }} Sources
 */

/** @template {keyof Sources} P @param {P} path from web/src */
export async function source(path) {
  const file = new URL(`../../src/${path}`, import.meta.url).pathname;
  const { module } = await runnerImport(file, { configFile: false, logLevel: "error" });
  return /** @type {Sources[P]} */ (module);
}
