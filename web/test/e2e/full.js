// The package's worker in a browser whose disk is full after 12 MiB.
const { write } = FileSystemSyncAccessHandle.prototype;
let room = 12 << 20;
FileSystemSyncAccessHandle.prototype.write = function (bytes, options) {
  room -= bytes.byteLength;
  if (room < 0) throw new DOMException("the disk is full", "QuotaExceededError");
  return write.call(this, bytes, options);
};
// @ts-expect-error: only the server knows this path
await import("/dist/worker.js");
