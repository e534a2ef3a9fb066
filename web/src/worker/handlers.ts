// What the worker does for each request: the engine's calls, in order, with the I/O around them.
import type { Builds, Engine, Picture } from "#bindings";
import { errorData, PagelmError } from "../shared/errors.ts";
import { lock, type Release } from "../shared/locks.ts";
import type { Attached, Operations, Request, WasmOptions } from "../shared/protocol.ts";
import type { Embeddings, EngineInfo } from "../shared/types.ts";
import { download } from "./download.ts";
import { modelFiles, removeModel, storedModels } from "./files.ts";
import { Lanes, yieldToEventLoop } from "./lanes.ts";
import { inspect, load } from "./load.ts";
import { decode } from "./pictures.ts";
import type { Task } from "./task.ts";
import { type Started, startWasm } from "./wasm.ts";

/** As many as a step has room for. */
const TEXTS_AT_ONCE = 16;

type In<K extends keyof Operations> = Operations[K]["in"];

export class Handlers {
  #builds: Builds;
  #fatal: (e: unknown) => void;
  #started: Promise<Started> | null = null;
  #engine: Engine | null = null;
  /** Of the model, once it is loaded. */
  #info: EngineInfo | null = null;
  #release: Release | null = null;
  #last: Promise<unknown> = Promise.resolve();
  #lanes = new Lanes((work) => this.#turn(work));

  constructor(builds: Builds, fatal: (e: unknown) => void) {
    this.#builds = builds;
    this.#fatal = fatal;
  }

  /**
   * Answers a request: those before it come first, but for what generates, which runs beside others. It returns or throws;
   * a trap of the wasm module also reports itself as fatal.
   */
  async run(r: Request, task: Task): Promise<unknown> {
    const answer = await this.#turn(() => {
      task.signal.throwIfAborted();
      return this.#answer(r, task);
    });
    const runs = r.op === "generate" || r.op === "request";
    return runs && answer != null ? this.#lanes.run(this.#ready, answer as number, task) : answer;
  }

  #turn<T>(work: () => T | Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => {});
    return result;
  }

  async #answer(r: Request, task: Task): Promise<unknown> {
    switch (r.op) {
      case "load":
        return this.#load(r, task);
      case "life":
        return this.#hold(r.life);
      case "inspect":
        return inspect(this.#start(r.wasm), r, task);
      case "download":
        return download(this.#start(r.wasm), r, task);
      case "storedModels":
        return storedModels();
      case "removeModel":
        return removeModel(r.model);
      case "modelFiles":
        return modelFiles(r.model);
      case "shaders":
        return (await this.#start(r.wasm)).wasm.shaderSources();
      case "generate":
        return this.#generate(r);
      case "request":
        return this.#request(r, task);
      case "openSession":
        return this.#ready.openSession(r.fork);
      case "restore":
        return this.#ready.restoreSession(reader(r.snapshot));
      case "snapshot":
        return this.#snapshot(r.session);
      case "closeSession":
        return this.#ready.closeSession(r.session);
      case "prefill":
        return this.#ready.prefill(r.session, r.ids, () => yieldToEventLoop(() => task.signal.aborted));
      case "mtp":
        return this.#ready.mtp(r.session, r.next);
      case "checkpoint":
        return this.#ready.checkpoint(r.session);
      case "rollback":
        return this.#ready.rollback(r.session, r.length);
      case "profile":
        return this.#ready.profile({ depth: r.depth, reps: r.reps });
      case "embed":
        return this.#embed(r, task);
      case "tokenize":
        return this.#ready.tokenize(r.text, r.options);
      case "detokenize":
        return this.#ready.detokenize(r.ids, r.showSpecial);
      case "render":
        return this.#ready.render(r.chat);
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
    // Who needs it is told.
    this.#started.catch(() => {});
    return this.#started;
  }

  async #load(r: In<"load">, task: Task): Promise<EngineInfo> {
    if (this.#engine) throw new PagelmError("invalid-state", "this engine already has a model");
    await this.#hold(r.life);
    this.#info = await load(this.#start(r.wasm), r, task, (engine) => {
      this.#engine = engine;
    });
    return this.#info;
  }

  /** Holds the lock of this name, and no other. */
  async #hold(life: string): Promise<void> {
    this.#release?.();
    // Not everywhere: pages over http have none.
    this.#release = life && navigator.locks ? await lock(life, {}) : null;
  }

  /** Frees the engine, so that its threads end. What runs now computes nothing more, but has the engine until it returns. */
  async end(): Promise<void> {
    if (this.#info) await this.#turn(() => {});
    try {
      this.#engine?.free();
    } catch {
      // A broken engine is not freed; the page ends its threads.
    }
    // Firefox takes a lock that a worker had to its end for one that the page still has.
    this.#release?.();
  }

  /** Some texts at a time, so that an abort comes in. */
  async #embed({ texts, params }: In<"embed">, task: Task): Promise<Embeddings> {
    const all: Embeddings = { embeddings: [], tokens: 0 };
    for (let i = 0; i < texts.length; i += TEXTS_AT_ONCE) {
      await yieldToEventLoop();
      task.signal.throwIfAborted();
      const ids = texts.slice(i, i + TEXTS_AT_ONCE).map((text) => this.#textIds(text));
      const { embeddings, tokens } = await this.#ready.embed(ids, params);
      all.embeddings.push(...embeddings);
      all.tokens += tokens;
    }
    return all;
  }

  /** Starts a generation: its number, unless it is over. */
  #generate({ prompt, params, replay }: In<"generate">): number | undefined {
    // Parameters that a caller leaves out are as the file recommends.
    const sampler = { ...this.#info?.model.sampling, ...params.sampler };
    const ids = "ids" in prompt ? prompt.ids : this.#textIds(prompt.text);
    return this.#ready.generate(ids, { ...params, sampler }, replay);
  }

  /** Starts a request of the API: its number, null if it is answered. */
  #request({ method, path, body, attached, given, replay }: In<"request">, task: Task): number | null {
    const { run, pieces, journal, pictures } = this.#ready.request(method, path, body, given, replay);
    task.pieces(pieces, journal);
    // Traps report themselves.
    this.#see(run!, pictures, attached, task).catch(() => {});
    return run;
  }

  /** Gives a request its images, while others go on. */
  async #see(run: number, pictures: Picture[], attached: Attached[], task: Task): Promise<void> {
    for (const picture of pictures) {
      const found = await decode(picture, attached, task.signal).catch((e) => errorData(e).message);
      await this.#turn(() =>
        typeof found === "string"
          ? this.#ready.noPicture(run, found)
          : this.#ready.picture(run, found.width, found.height, found.data),
      );
      task.wake();
    }
  }

  /** The browser keeps each piece, so that none of it stays in memory. */
  async #snapshot(session: number): Promise<Blob> {
    const pieces: Blob[] = [];
    await this.#ready.saveSession(session, (bytes) => pieces.push(new Blob([bytes])));
    return new Blob(pieces);
  }

  #textIds(text: string | Uint32Array): Uint32Array {
    return typeof text === "string" ? this.#ready.tokenize(text, { addSpecial: true, parseSpecial: false }) : text;
  }
}

/** Reads bytes of a blob when the engine asks for them. */
const reader = (blob: Blob) => (start: number, end: number) =>
  new Uint8Array(new FileReaderSync().readAsArrayBuffer(blob.slice(start, end)));
