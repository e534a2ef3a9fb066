// The package's worker, which tells how many bytes of buffers its GPU devices have: when it is asked, and when a device is
// destroyed. Those that were dropped and not destroyed count, for a browser may keep them for long.
/** @type {Map<GPUBuffer, GPUDevice>} */
const live = new Map();
const channel = new BroadcastChannel("buffers");
const tell = (destroyed = 0) =>
  channel.postMessage({ bytes: [...live.keys()].reduce((sum, buffer) => sum + buffer.size, 0), destroyed });
channel.onmessage = () => tell();

const { createBuffer, destroy } = GPUDevice.prototype;
GPUDevice.prototype.createBuffer = function (descriptor) {
  const buffer = createBuffer.call(this, descriptor);
  live.set(buffer, this);
  return buffer;
};
const free = GPUBuffer.prototype.destroy;
GPUBuffer.prototype.destroy = function () {
  live.delete(this);
  return free.call(this);
};
GPUDevice.prototype.destroy = function () {
  for (const [buffer, device] of live) if (device === this) live.delete(buffer);
  tell(1);
  return destroy.call(this);
};
// @ts-expect-error: only the server knows this path
await import("/dist/worker.js");
