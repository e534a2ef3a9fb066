// The package's worker in a page that dies while the tenth block is stored: halfway in its bytes, between these and their
// line in the log, or halfway in that line (`?at=bytes|between|line`). The server is told, then the worker hangs until
// the page is killed.
const at = new URL(import.meta.url).searchParams.get("at");
const { write } = FileSystemSyncAccessHandle.prototype;
let blocks = 0;

FileSystemSyncAccessHandle.prototype.write = function (bytes, options) {
  const isBlock = bytes.byteLength >= 1 << 20;
  if (isBlock) blocks++;
  if (blocks < 10 || isBlock !== (at === "bytes")) return write.call(this, bytes, options);
  const half = /** @type {Uint8Array} */ (bytes).subarray(0, bytes.byteLength / 2);
  if (at !== "between") write.call(this, half, options);
  const tell = new XMLHttpRequest();
  tell.open("GET", `/dying-${at}`, false);
  tell.send();
  for (;;);
};
// @ts-expect-error: only the server knows this path
await import("/dist/worker.js");
