// The package's worker, which breaks when it is told to: its GPU device is lost, its engine traps, or it ends without a word.
/** @type {Set<GPUDevice>} */
const devices = new Set();
if (globalThis.GPUAdapter) {
  const { requestDevice } = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = async function (...given) {
    const device = await requestDevice.apply(this, given);
    devices.add(device);
    return device;
  };
}
new BroadcastChannel("faults").onmessage = ({ data }) => {
  if (data === "destroy") for (const device of devices) device.destroy();
  if (data === "trap") Promise.reject(new WebAssembly.RuntimeError("unreachable"));
  if (data === "close") self.close();
};
// @ts-expect-error: only the server knows this path
await import("/dist/worker.js");
