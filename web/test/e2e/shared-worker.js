// Says what the worker that runs it lacks of what an engine needs: to its page, or to each page that connects to a `SharedWorker`.
const needs = {
  "threads' memory": "SharedArrayBuffer" in globalThis && globalThis.crossOriginIsolated,
  workers: "Worker" in globalThis,
  "synchronous handles of files": "createSyncAccessHandle" in FileSystemFileHandle.prototype,
};
const lacks = Object.entries(needs).flatMap(([need, has]) => (has ? [] : [need]));
const born = Math.random();

addEventListener("connect", (event) => /** @type {MessageEvent} */ (event).ports[0]?.postMessage({ lacks, born }));
if (!("SharedWorkerGlobalScope" in globalThis)) globalThis.postMessage({ lacks, born });
