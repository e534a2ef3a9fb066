// Runs in a worker: one small dispatch that uses workgroup memory and a barrier, checked value by value.
const n = 4096;
const code = `
@group(0) @binding(0) var<storage, read_write> x: array<u32>;
var<workgroup> tile: array<u32, 64>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
  tile[lane] = x[id.x];
  workgroupBarrier();
  x[id.x] = tile[63u - lane] * 3u + 1u;
}`;

async function run() {
  const adapter = await navigator.gpu?.requestAdapter();
  if (!adapter) throw new Error("no WebGPU adapter");
  const device = await adapter.requestDevice();
  const module = device.createShaderModule({ code });
  const pipeline = await device.createComputePipelineAsync({ layout: "auto", compute: { module } });
  const data = device.createBuffer({
    size: n * 4,
    usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
  });
  const read = device.createBuffer({ size: n * 4, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  device.queue.writeBuffer(
    data,
    0,
    Uint32Array.from({ length: n }, (_, i) => i),
  );
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  const entries = [{ binding: 0, resource: { buffer: data } }];
  pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
  pass.dispatchWorkgroups(n / 64);
  pass.end();
  encoder.copyBufferToBuffer(data, 0, read, 0, n * 4);
  device.queue.submit([encoder.finish()]);
  await read.mapAsync(GPUMapMode.READ);
  const got = new Uint32Array(read.getMappedRange());
  const wrong = got.filter((value, i) => value !== ((i & ~63) + 63 - (i & 63)) * 3 + 1).length;
  const { vendor, architecture } = adapter.info;
  const { maxStorageBufferBindingSize, maxStorageBuffersPerShaderStage, maxComputeWorkgroupStorageSize } =
    adapter.limits;
  return {
    wrong,
    isolated: crossOriginIsolated,
    adapter: {
      vendor,
      architecture,
      f16: adapter.features.has("shader-f16"),
      subgroups: adapter.features.has("subgroups"),
    },
    limits: { maxStorageBufferBindingSize, maxStorageBuffersPerShaderStage, maxComputeWorkgroupStorageSize },
  };
}

postMessage(await run().catch((e) => ({ error: String(e?.stack ?? e) })));
