// What this browser offers. Nothing here downloads anything.

export interface Capabilities {
  webgpu: {
    available: boolean;
    /** The reason, if not. */
    reason: string | null;
    /** As far as the browser reports it. */
    adapter: { vendor: string; architecture: string; description: string; software: boolean } | null;
    features: string[];
    limits: {
      maxBufferSize: number;
      maxStorageBufferBindingSize: number;
      maxStorageBuffersPerShaderStage: number;
      maxComputeWorkgroupStorageSize: number;
    } | null;
  };
  wasm: {
    simd: boolean;
    relaxedSimd: boolean;
    /** Whether the engine can use several threads. */
    threads: boolean;
    /** The reason, if it cannot. */
    whyOneThread: string | null;
  };
  /** Whether the page sent COOP and COEP headers: only then can threads share memory. */
  crossOriginIsolated: boolean;
}

export async function capabilities(): Promise<Capabilities> {
  return {
    webgpu: await webgpu(),
    wasm: {
      simd: hasSimd(),
      relaxedSimd: hasRelaxedSimd(),
      threads: whyNoThreads() === null,
      whyOneThread: whyNoThreads(),
    },
    crossOriginIsolated: globalThis.crossOriginIsolated === true,
  };
}

async function webgpu(): Promise<Capabilities["webgpu"]> {
  const none = (reason: string) => ({ available: false, reason, adapter: null, features: [], limits: null });
  const gpu = (globalThis.navigator as Navigator | undefined)?.gpu;
  if (!gpu)
    return none(
      globalThis.isSecureContext === false ? "WebGPU needs https or localhost" : "this browser has no WebGPU",
    );
  const adapter = await gpu.requestAdapter().catch(() => null);
  if (!adapter) return none("WebGPU found no GPU adapter");
  const { vendor, architecture, description } = adapter.info;
  const l = adapter.limits;
  return {
    available: true,
    reason: null,
    adapter: { vendor, architecture, description, software: isSoftware(adapter.info) },
    features: [...adapter.features].sort(),
    limits: {
      maxBufferSize: l.maxBufferSize,
      maxStorageBufferBindingSize: l.maxStorageBufferBindingSize,
      maxStorageBuffersPerShaderStage: l.maxStorageBuffersPerShaderStage,
      maxComputeWorkgroupStorageSize: l.maxComputeWorkgroupStorageSize,
    },
  };
}

/** The same as the engine's `AdapterFacts::is_software`, before there is an engine. */
function isSoftware({ isFallbackAdapter, architecture, description }: GPUAdapterInfo): boolean {
  return isFallbackAdapter || SOFTWARE.test(`${architecture} ${description}`);
}

/** The engine's list `SOFTWARE_ADAPTERS`; a test compares them. */
const SOFTWARE = /swiftshader|llvmpipe|basic render/i;

// The smallest modules that need each feature: one function without parameters, or a shared memory.
const FUNCTION = (type: number[], body: number[]) => [
  ...[1, 4 + type.length, 1, 0x60, 0, type.length, ...type],
  ...[3, 2, 1, 0],
  ...[10, body.length + 4, 1, body.length + 2, 0, ...body, 0x0b],
];
const V128 = 0x7b;
/** `i32.const 0; i8x16.splat` */
const ZERO = [0x41, 0, 0xfd, 0x0f];
const SIMD = FUNCTION([V128], ZERO);
/** The last instruction is `i8x16.relaxed_swizzle`. */
const RELAXED_SIMD = FUNCTION([V128], [...ZERO, ...ZERO, 0xfd, 0x80, 0x02]);
const THREADS = [5, 4, 1, 3, 1, 1];

export const hasSimd = (): boolean => validates(SIMD);
export const hasRelaxedSimd = (): boolean => validates(RELAXED_SIMD);

/** Why threads cannot share memory here; null if they can. */
export function whyNoThreads(): string | null {
  if (!validates(THREADS)) return "this browser has no shared WASM memory";
  if (globalThis.crossOriginIsolated !== true || typeof SharedArrayBuffer === "undefined") {
    return "the page is not cross-origin isolated: its server must send COOP and COEP";
  }
  return null;
}

function validates(sections: number[]): boolean {
  if (typeof WebAssembly === "undefined") return false;
  return WebAssembly.validate(Uint8Array.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, ...sections]));
}
