/* tslint:disable */
/* eslint-disable */

export class Engine {
    private constructor();
    free(): void;
    [Symbol.dispose](): void;
    /**
     * The tokens of a conversation, for the same.
     */
    chat_ids(messages: string, tools?: string | null, variables?: string | null): Uint32Array;
    /**
     * What the GPU reported by now: browsers tell of a failed allocation after a while only.
     */
    check(): void;
    /**
     * Makes going back to the present position cheap.
     */
    checkpoint(): void;
    decode(id: number): Promise<Float32Array>;
    detokenize(ids: Uint32Array | number[], show_special: boolean): string;
    /**
     * Ends loading. Fails where weights are missing.
     */
    finish(): void;
    /**
     * Starts to generate after a prompt. What another generation left half done is dropped.
     */
    generate(ids: Uint32Array | number[], params: any): void;
    /**
     * What choosing kernels found, to be kept and given to the next `open` with this adapter; undefined where nothing
     * was measured.
     */
    measured(): string | undefined;
    /**
     * The logits of the token after `next`, by the block for multi-token prediction. The cache stays as it is.
     */
    mtp(next: number): Promise<Float32Array>;
    /**
     * One step: a chunk of the prompt or a token. Undefined once the generation is over.
     */
    next(): Promise<any>;
    /**
     * Appends tokens and returns the logits after the last.
     */
    prefill(ids: Uint32Array | number[]): Promise<Float32Array>;
    /**
     * What a decoded token costs after `depth` others, kernel by kernel, the mean of `reps`. On a GPU with a clock.
     */
    profile(depth: number, reps: number): Promise<any>;
    /**
     * Bytes of weights that came, and bytes in all.
     */
    progress(): Float64Array;
    /**
     * The GPU queue for `writeBuffer`, or null on the CPU.
     */
    queue(): any;
    /**
     * The text of a conversation by the template of the model, up to the start of an answer. `messages`, `tools` and
     * `variables` are JSON.
     */
    render(messages: string, tools?: string | null, variables?: string | null): string;
    /**
     * Forgets all tokens after the first `n`.
     */
    rollback(n: number): void;
    /**
     * What the engine is and what it did: counters are deterministic, so tests assert on them.
     */
    stats(): any;
    /**
     * Takes note of `len` bytes at `offset` of the file and says where they go, as
     * `[start, end, buffer, at, weight, offset]`: bytes `start..end` of them go to byte `at` of the GPU buffer, or,
     * where `buffer` is null, through `write(weight, offset, bytes)`.
     */
    targets(offset: number, len: number): Array<any>;
    tokenize(text: string, add_special: boolean, parse_special: boolean): Uint32Array;
    write(weight: number, offset: number, bytes: Uint8Array | number[]): void;
}

/**
 * Takes the start of a file, piece by piece.
 */
export class Header {
    free(): void;
    [Symbol.dispose](): void;
    /**
     * What the model is, and whether the engine can run it.
     */
    info(context_length: number | null | undefined, mtp: boolean): any;
    /**
     * `file_len`: the length of the file, where it is known. `allow_unknown`: whether keys and tensors that the engine does
     * not know are passed over.
     */
    constructor(file_len: number | null | undefined, allow_unknown: boolean);
    /**
     * Makes the engine on `webgpu`, `cpu` or `reference`, ready to take weights. On the CPU it has one thread, and room
     * for others that JavaScript may lend it, `threads` in all. `activations`: `q8` or `f32`.
     * `memory_limit`: bytes that it may take; `kv_type`: how the cache is kept on WebGPU, by default `f16`;
     * `tuning`: the record of an earlier `measured`, or of none, where WebGPU's kernels shall be chosen; `kernels`:
     * those for `hardware` or `software` adapters, whatever this one is.
     */
    open(backend: string, threads: number, activations: string, context_length: number | null | undefined, mtp: boolean, memory_limit?: number | null, kv_type?: string | null, tuning?: string | null, kernels?: string | null): Promise<Engine>;
    /**
     * Takes the bytes that follow; true once the header is complete.
     */
    push(bytes: Uint8Array | number[]): boolean;
    /**
     * The error for a file that ended before its header did.
     */
    truncated(): any;
}

/**
 * Takes no more threads, and says how many compute: those that joined and the engine's own.
 */
export function close_threads(): number;

/**
 * Makes the calling thread one of the engine's, unless that has all it wants. It is counted from here on.
 */
export function join_engine(): boolean;

/**
 * Works for the engine that was joined; returns once that is gone.
 */
export function lend_thread(): void;

/**
 * All GPU programs, as `[name, text]`: for a test that compiles them.
 */
export function shader_sources(): any;

/**
 * Must be called once. `report` gets the message of a panic, after which nothing in this module may be called: the
 * panic aborts, so promises that wait for Rust code stay open for ever. `stop` is an `Int32Array` in shared memory: once
 * its number is not 0, a step on the CPU ends soon, whatever it was about.
 */
export function start(report: Function, stop?: Int32Array | null): void;

/**
 * Must be called where `lend_thread` ended by a trap: else the engine waits for this thread for ever.
 */
export function thread_failed(): void;

/**
 * How many threads the engine could use beside those that it has.
 */
export function threads_wanted(): number;

export type InitInput = RequestInfo | URL | Response | BufferSource | WebAssembly.Module;

export interface InitOutput {
    readonly memory: WebAssembly.Memory;
    readonly __wbg_engine_free: (a: number, b: number) => void;
    readonly __wbg_header_free: (a: number, b: number) => void;
    readonly close_threads: () => number;
    readonly engine_chat_ids: (a: number, b: number, c: number, d: number, e: number, f: number, g: number) => [number, number, number, number];
    readonly engine_check: (a: number) => [number, number];
    readonly engine_checkpoint: (a: number) => [number, number];
    readonly engine_decode: (a: number, b: number) => any;
    readonly engine_detokenize: (a: number, b: number, c: number, d: number) => [number, number, number, number];
    readonly engine_finish: (a: number) => [number, number];
    readonly engine_generate: (a: number, b: number, c: number, d: any) => [number, number];
    readonly engine_measured: (a: number) => [number, number];
    readonly engine_mtp: (a: number, b: number) => any;
    readonly engine_next: (a: number) => any;
    readonly engine_prefill: (a: number, b: number, c: number) => any;
    readonly engine_profile: (a: number, b: number, c: number) => any;
    readonly engine_progress: (a: number) => [number, number, number, number];
    readonly engine_queue: (a: number) => [number, number, number];
    readonly engine_render: (a: number, b: number, c: number, d: number, e: number, f: number, g: number) => [number, number, number, number];
    readonly engine_rollback: (a: number, b: number) => [number, number];
    readonly engine_stats: (a: number) => [number, number, number];
    readonly engine_targets: (a: number, b: number, c: number) => [number, number, number];
    readonly engine_tokenize: (a: number, b: number, c: number, d: number, e: number) => [number, number, number, number];
    readonly engine_write: (a: number, b: number, c: number, d: number, e: number) => [number, number];
    readonly header_info: (a: number, b: number, c: number) => [number, number, number];
    readonly header_new: (a: number, b: number, c: number) => number;
    readonly header_open: (a: number, b: number, c: number, d: number, e: number, f: number, g: number, h: number, i: number, j: number, k: number, l: number, m: number, n: number, o: number, p: number) => any;
    readonly header_push: (a: number, b: number, c: number) => [number, number, number];
    readonly header_truncated: (a: number) => any;
    readonly join_engine: () => number;
    readonly lend_thread: () => void;
    readonly shader_sources: () => [number, number, number];
    readonly start: (a: any, b: number) => void;
    readonly thread_failed: () => void;
    readonly threads_wanted: () => number;
    readonly wasm_bindgen_30ad92a09eaa822d___convert__closures_____invoke___js_sys_ea7e2694e71eae98___Function_fn_wasm_bindgen_30ad92a09eaa822d___JsValue_____wasm_bindgen_30ad92a09eaa822d___sys__Undefined___js_sys_ea7e2694e71eae98___Function_fn_wasm_bindgen_30ad92a09eaa822d___JsValue_____wasm_bindgen_30ad92a09eaa822d___sys__Undefined_______true_: (a: number, b: number, c: any, d: any) => void;
    readonly wasm_bindgen_30ad92a09eaa822d___convert__closures_____invoke___wasm_bindgen_30ad92a09eaa822d___JsValue__core_a7d911b783b0c300___result__Result_____wasm_bindgen_30ad92a09eaa822d___JsError___true_: (a: number, b: number, c: any) => [number, number];
    readonly wasm_bindgen_30ad92a09eaa822d___convert__closures_____invoke___wasm_bindgen_30ad92a09eaa822d___sys__JsNullable_wgpu_c8f882b05964d736___backend__webgpu__webgpu_sys__gen_GpuError__GpuError___core_a7d911b783b0c300___result__Result_____wasm_bindgen_30ad92a09eaa822d___JsError___true_: (a: number, b: number, c: any) => [number, number];
    readonly wasm_bindgen_30ad92a09eaa822d___convert__closures_____invoke___wasm_bindgen_30ad92a09eaa822d___sys__JsNullable_wgpu_c8f882b05964d736___backend__webgpu__webgpu_sys__gen_GpuError__GpuError___core_a7d911b783b0c300___result__Result_____wasm_bindgen_30ad92a09eaa822d___JsError___true__37: (a: number, b: number, c: any) => [number, number];
    readonly wasm_bindgen_30ad92a09eaa822d___convert__closures_____invoke___wasm_bindgen_30ad92a09eaa822d___sys__JsNullable_wgpu_c8f882b05964d736___backend__webgpu__webgpu_sys__gen_GpuError__GpuError___core_a7d911b783b0c300___result__Result_____wasm_bindgen_30ad92a09eaa822d___JsError___true__38: (a: number, b: number, c: any) => [number, number];
    readonly wasm_bindgen_30ad92a09eaa822d___convert__closures_____invoke___wgpu_c8f882b05964d736___backend__webgpu__webgpu_sys__gen_GpuDeviceLostInfo__GpuDeviceLostInfo______true_: (a: number, b: number, c: any) => void;
    readonly wasm_bindgen_30ad92a09eaa822d___convert__closures_____invoke___wgpu_c8f882b05964d736___backend__webgpu__webgpu_sys__gen_GpuDeviceLostInfo__GpuDeviceLostInfo______true__36: (a: number, b: number, c: any) => void;
    readonly __wbindgen_malloc: (a: number, b: number) => number;
    readonly __wbindgen_realloc: (a: number, b: number, c: number, d: number) => number;
    readonly __wbindgen_free: (a: number, b: number, c: number) => void;
    readonly __wbindgen_exn_store: (a: number) => void;
    readonly __externref_table_alloc: () => number;
    readonly __wbindgen_externrefs: WebAssembly.Table;
    readonly __wbindgen_destroy_closure: (a: number, b: number) => void;
    readonly __externref_table_dealloc: (a: number) => void;
    readonly __wbindgen_start: () => void;
}

export type SyncInitInput = BufferSource | WebAssembly.Module;

/**
 * Instantiates the given `module`, which can either be bytes or
 * a precompiled `WebAssembly.Module`.
 *
 * @param {{ module: SyncInitInput }} module - Passing `SyncInitInput` directly is deprecated.
 *
 * @returns {InitOutput}
 */
export function initSync(module: { module: SyncInitInput } | SyncInitInput): InitOutput;

/**
 * If `module_or_path` is {RequestInfo} or {URL}, makes a request and
 * for everything else, calls `WebAssembly.instantiate` directly.
 *
 * @param {{ module_or_path: InitInput | Promise<InitInput> }} module_or_path - Passing `InitInput` directly is deprecated.
 *
 * @returns {Promise<InitOutput>}
 */
export default function __wbg_init (module_or_path?: { module_or_path: InitInput | Promise<InitInput> } | InitInput | Promise<InitInput>): Promise<InitOutput>;
