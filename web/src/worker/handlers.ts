// What the worker does for each request: the engine's calls, in order, with the I/O around them.
import type { Builds, Engine } from "#bindings";
import { PagelmError } from "../shared/errors.ts";
import type { Chat, Operations, Prompt, Request, WasmOptions } from "../shared/protocol.ts";
import type { EngineInfo, FileSampling } from "../shared/types.ts";
import { download } from "./download.ts";
import { modelFiles, removeModel, storedModels } from "./files.ts";
import { inspect, load } from "./load.ts";
import type { Task } from "./task.ts";
import { type Started, startWasm } from "./wasm.ts";

type In<K extends keyof Operations> = Operations[K]["in"];

export class Handlers {
  #builds: Builds;
  #fatal: (message: string) => void;
  #started: Promise<Started> | null = null;
  #engine: Engine | null = null;
  #sampling: FileSampling = {};
  #sessionOpen = false;

  constructor(builds: Builds, fatal: (message: string) => void) {
    this.#builds = builds;
    this.#fatal = fatal;
  }

  /** Answers a request. It returns or throws; a trap of the wasm module also reports itself as fatal. */
  async run(r: Request, task: Task): Promise<unknown> {
    switch (r.op) {
      case "load":
        return this.#load(r, task);
      case "inspect":
        return inspect(await this.#start(r.wasm), r, task);
      case "download":
        return download((await this.#start(r.wasm)).wasm, r, task);
      case "storedModels":
        return storedModels();
      case "removeModel":
        return removeModel(r.model);
      case "modelFiles":
        return modelFiles(r.model);
      case "shaders":
        return (await this.#start(r.wasm)).wasm.shaderSources();
      case "generate":
        return this.#generate(r, task);
      case "openSession":
        if (this.#sessionOpen) throw new PagelmError("invalid-state", "a session is already open; close it first");
        this.#ready.rollback(0);
        this.#sessionOpen = true;
        return null;
      case "closeSession":
        this.#sessionOpen = false;
        return null;
      case "prefill":
        return this.#ready.prefill(r.ids);
      case "decode":
        return this.#ready.decode(r.token);
      case "mtp":
        return this.#ready.mtp(r.next);
      case "profile":
        this.#free();
        return this.#ready.profile({ depth: r.depth, reps: r.reps });
      case "checkpoint":
        this.#ready.checkpoint();
        return null;
      case "rollback":
        this.#ready.rollback(r.length);
        return null;
      case "tokenize":
        return this.#ready.tokenize(r.text, r.options);
      case "detokenize":
        return this.#ready.detokenize(r.ids, r.showSpecial);
      case "render":
        return this.#ready.render(chatOf(r));
      case "stats":
        return this.#ready.stats();
    }
  }

  get #ready(): Engine {
    if (!this.#engine) throw new PagelmError("invalid-state", "no model is loaded");
    return this.#engine;
  }

  #start(options: WasmOptions): Promise<Started> {
    this.#started ??= startWasm(this.#builds, options).then((started) => {
      started.wasm.start(this.#fatal, options.stop);
      return started;
    });
    return this.#started;
  }

  async #load(r: In<"load">, task: Task): Promise<EngineInfo> {
    if (this.#engine) throw new PagelmError("invalid-state", "this engine already has a model");
    const info = await load(await this.#start(r.wasm), r, task, (engine) => {
      this.#engine = engine;
    });
    this.#sampling = info.model.sampling;
    return info;
  }

  /** Frees the engine, so that its threads end. */
  end(): void {
    try {
      this.#engine?.free();
    } catch {
      // A broken engine is not freed; the page ends its threads.
    }
  }

  async #generate(r: In<"generate">, task: Task): Promise<null> {
    const engine = this.#ready;
    this.#free();
    // Parameters that a caller leaves out are as the file recommends.
    const sampler = { ...this.#sampling, ...r.params.sampler };
    engine.generate(this.#promptIds(engine, r.prompt), { ...r.params, sampler });
    for (;;) {
      // Lets messages in: an abort, or more credit.
      await yieldToEventLoop();
      await task.spend();
      const piece = await engine.next();
      if (!piece) return null;
      task.piece(piece);
    }
  }

  /** The cache belongs to a session while one is open. */
  #free(): void {
    if (!this.#sessionOpen) return;
    throw new PagelmError("invalid-state", "a session is open and owns the cache; close it first");
  }

  #promptIds(engine: Engine, prompt: Prompt): Uint32Array {
    if ("ids" in prompt) return prompt.ids;
    if ("text" in prompt) return engine.tokenize(prompt.text, { addSpecial: true, parseSpecial: false });
    return engine.chatIds(chatOf(prompt));
  }
}

const chatOf = ({ messages, tools, variables }: Chat) => ({
  messages,
  ...(tools && { tools }),
  ...(variables && { variables }),
});

const channel = new MessageChannel();

/** Runs the worker's event loop once; timers would wait for milliseconds. */
function yieldToEventLoop(): Promise<void> {
  return new Promise((resolve) => {
    channel.port1.onmessage = () => resolve();
    channel.port2.postMessage(null);
  });
}
