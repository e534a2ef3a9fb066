// The page's API: an engine with one model, and sessions on it.

import { PagelmError } from "../shared/errors.ts";
import type { Op, Operations, WasmOptions, WireModel, WireOptions, WireSource } from "../shared/protocol.ts";
import type {
  AssetOptions,
  Embeddings,
  EmbedInput,
  EmbedOptions,
  EngineInfo,
  EngineMemory,
  EngineOptions,
  EngineStats,
  GenerateParams,
  Memory,
  Message,
  ModelRef,
  Piece,
  Profile,
  Share,
  SourceOptions,
} from "../shared/types.ts";
import { type Endpoints, endpoints, fetchFrom } from "./api.ts";
import { chooseBuilds } from "./builds.ts";
import { address, boolean, given, ids, integer, isObject, list, must, string } from "./check.ts";
import { Client, type Port } from "./client.ts";
import {
  checkMessages,
  embedOptions,
  engineOptions,
  generateParams,
  isBlob,
  isFolder,
  modelOptions,
  type SessionOptions,
  sessionOptions,
} from "./params.ts";
import { Script } from "./script.ts";
import { pieces, wireParams } from "./stream.ts";
import { Workers } from "./workers.ts";

/** Loads a model. Rejects with a `PagelmError`, and then frees everything. */
export function createEngine(given: EngineOptions): Promise<Engine> {
  return load(engineOptions(given));
}

/**
 * The same with checked options, some of which only tests use.
 * @internal
 */
export async function load(given: EngineOptions & WireOptions): Promise<Engine> {
  const client = await start(given);
  const { backend = "auto", recover = true, onRecover } = given;
  client.onRecover = onRecover;
  if (recover)
    client.revive = (signal, onCpu) =>
      start({ ...given, signal, backend: onCpu && backend === "auto" ? "cpu" : backend });
  client.watch(client.life);
  return Engine.open(client);
}

/** A worker with a model. */
async function start(given: EngineOptions & WireOptions): Promise<Client> {
  const { model, mmproj, backend = "auto", tune = true, share, signal, onProgress, fetch } = given;
  const wasm = chooseBuilds(given);
  const client = await connect(given, wasm);
  try {
    const options = { ...modelOptions(given), name: label(model) };
    const life = `${Date.now()} ${Math.random()}`;
    const input = { ...wireModels(model, mmproj), source: sourceOf(given), wasm, backend, tune, options, life };
    client.info = await client.call("load", input, { signal, onPiece: onProgress, fetch });
    // Another tab's worker is that tab's to watch.
    if (!share) client.life = life;
    return client;
  } catch (e) {
    client.end(new PagelmError("disposed", "the model did not load"));
    throw hinted(e, model);
  }
}

/** One model in one worker. Its generations and sessions share the cache and run side by side. */
export class Engine {
  /** OpenAI's API, as functions. Requests run side by side. */
  readonly chat: Endpoints["chat"];
  readonly completions: Endpoints["completions"];
  readonly responses: Endpoints["responses"];
  readonly embeddings: Endpoints["embeddings"];
  /**
   * OpenAI's API over HTTP: give it to a client as its `fetch`. Requests never leave the page, whatever host they name;
   * the path counts, from `/v1/` on.
   */
  readonly fetch: typeof fetch;
  #client: Client;

  private constructor(client: Client) {
    this.#client = client;
    const { chat, completions, responses, embeddings } = endpoints(client);
    this.chat = chat;
    this.completions = completions;
    this.responses = responses;
    this.embeddings = embeddings;
    this.fetch = (input, init) => fetchFrom(client, input, init);
  }

  /** @internal */
  static open(client: Client): Engine {
    return new Engine(client);
  }

  /** As it was loaded: after a recovery perhaps on another backend. */
  get info(): EngineInfo {
    return this.#client.info;
  }

  get backend(): EngineInfo["backend"] {
    return this.info.backend;
  }

  /** Why the engine cannot be used any more; null while it can. */
  get ended(): PagelmError | null {
    return this.#client.ended;
  }

  /**
   * Continues a text or token ids. The model's start token is added to a text; ids are used without changes. Throws
   * immediately if an argument is wrong; the generation starts when it is first iterated.
   */
  generate(prompt: string | ArrayLike<number>, params: GenerateParams = {}): AsyncGenerator<Piece, void, void> {
    if (typeof prompt !== "string") ids(prompt, "prompt");
    const { signal, ...rest } = generateParams(params);
    if (this.ended) throw this.ended;
    const wire = typeof prompt === "string" ? { text: prompt } : { ids: Uint32Array.from(prompt) };
    return pieces(this.#client, "generate", { prompt: wire, params: wireParams(rest) }, signal);
  }

  /**
   * Texts as vectors, whose dot products say how alike the texts are. The model must be one that makes embeddings, or the
   * engine must have been made with `embeddings: true`. A text may be given as token ids, which are used without changes.
   */
  async embed(input: EmbedInput | EmbedInput[], options: EmbedOptions = {}): Promise<Embeddings> {
    const { signal, ...params } = embedOptions(options);
    const one = typeof input === "string" || ArrayBuffer.isView(input) || typeof input?.[0] === "number";
    const texts = one ? [input as EmbedInput] : (input as EmbedInput[]);
    list("a list of texts", (v, at) => (typeof v === "string" ? undefined : ids(v, at)))(texts, "input");
    const wire = texts.map((text) => (typeof text === "string" ? text : Uint32Array.from(text)));
    return this.#client.call("embed", { texts: wire, params }, { signal });
  }

  /** Token ids of a text. `parseSpecial` recognises control tokens in it: never use it for text of a user. */
  async tokenize(text: string, options: { addSpecial?: boolean; parseSpecial?: boolean } = {}): Promise<Uint32Array> {
    string(text, "text");
    const wanted = given({ addSpecial: boolean, parseSpecial: boolean }, options);
    return this.#client.call("tokenize", { text, options: { addSpecial: false, parseSpecial: false, ...wanted } });
  }

  async detokenize(tokens: ArrayLike<number>, options: { showSpecial?: boolean } = {}): Promise<string> {
    ids(tokens, "tokens");
    const input = { ids: Uint32Array.from(tokens), showSpecial: false };
    return this.#client.call("detokenize", { ...input, ...given({ showSpecial: boolean }, options) });
  }

  /**
   * The text that the model's chat template makes of messages, for display. Do not use it as a prompt: names of control
   * tokens that a user wrote look like those of the template in it.
   */
  async render(messages: Message[], tools?: unknown[], chatTemplateKwargs?: Record<string, unknown>): Promise<string> {
    if (tools) must("a list", Array.isArray)(tools, "tools");
    if (chatTemplateKwargs) must("an object", isObject)(chatTemplateKwargs, "chatTemplateKwargs");
    const chat = { messages: checkMessages(messages), tools, variables: chatTemplateKwargs };
    return this.#client.call("render", { chat });
  }

  /** Opens step-level work on tokens of its own, beside generations and other sessions. */
  async session(options: SessionOptions = {}): Promise<Session> {
    const { restore, last } = sessionOptions(options);
    const opened = restore
      ? this.#client.call("restore", {
          snapshot: isBlob(restore) ? restore : await new Response(restore as BodyInit).blob(),
        })
      : this.#client.call("openSession", { fork: last ? 0 : undefined });
    return Session.over(this.#client, await opened);
  }

  /**
   * How long each kernel of a decoded token takes after `depth` others, the mean of `reps`: on WebGPU, if the browser
   * has timestamps. Browsers round them; more repetitions compensate for that. The cache is empty afterwards, so
   * it is refused while generations run or sessions are open.
   */
  async profile(options: { depth?: number; reps?: number } = {}): Promise<Profile> {
    return this.#client.call("profile", {
      depth: 0,
      reps: 10,
      ...given({ depth: integer(0), reps: integer(1) }, options),
    });
  }

  stats(): Promise<EngineStats> {
    return this.#client.call("stats", {});
  }

  /** What it holds, by purpose: all 0 once it is disposed of. */
  async memory(): Promise<EngineMemory> {
    if (this.ended) return { weights: 0, cache: 0, states: 0, scratch: 0, staging: 0, module: 0 };
    const { memory, wasmBytes, backend } = await this.stats();
    const { kv: cache, ...rest } = memory;
    // On the CPU all of it lies in the module.
    const inside = backend === "webgpu" ? 0 : totalOf(memory);
    return { cache, ...rest, module: Math.max(wasmBytes - inside, 0) };
  }

  /** Frees everything immediately. Pending calls reject with `disposed`. */
  dispose(): void {
    this.#client.end(new PagelmError("disposed", "the engine was disposed of"));
  }

  [Symbol.dispose ?? Symbol.for("Symbol.dispose")](): void {
    this.dispose();
  }
}

/** Step-level work on tokens whose part of the cache it holds until it is closed. */
export class Session {
  #client: Client;
  #id: number;
  #closed = false;
  /** Another one once its worker is lost. */
  #lost: PagelmError | undefined;

  private constructor(client: Client, id: number) {
    this.#client = client;
    this.#id = id;
    this.#lost = client.lost;
  }

  /** @internal */
  static over(client: Client, id: number): Session {
    return new Session(client, id);
  }

  /** Appends tokens and returns the logits after the last. */
  async prefill(tokens: ArrayLike<number>): Promise<Float32Array> {
    ids(tokens, "tokens");
    return this.#call("prefill", { ids: Uint32Array.from(tokens) });
  }

  /** Appends one token and returns the logits after it. */
  async decode(token: number): Promise<Float32Array> {
    integer(0)(token, "token");
    return this.prefill([token]);
  }

  /**
   * Predicts, with the model's block for multi-token prediction, the token after `next`: returns its logits. Nothing is
   * appended. The engine must have been made with `mtp: true`, and the model must have the block.
   */
  async mtp(next: number): Promise<Float32Array> {
    integer(0)(next, "next");
    return this.#call("mtp", { next });
  }

  /**
   * Makes it cheap to roll back to the present length, until the next checkpoint. Only models with recurrent states
   * need it: without one they run all their tokens again.
   */
  checkpoint(): Promise<void> {
    return this.#call("checkpoint", {});
  }

  /** Forgets all tokens after the first `length`. */
  async rollback(length: number): Promise<void> {
    integer(0)(length, "length");
    return this.#call("rollback", { length });
  }

  /** Another session with the same tokens. They share the cache until one of them changes it. */
  async fork(): Promise<Session> {
    return Session.over(this.#client, await this.#call("openSession", { fork: this.#id }));
  }

  /** All that `engine.session({ restore })` needs to go on from here, also after the page was closed. */
  snapshot(): Promise<Blob> {
    return this.#call("snapshot", {});
  }

  [Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")](): Promise<void> {
    return this.close();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    if (!this.#client.ended && this.#lost === this.#client.lost)
      await this.#client.call("closeSession", { session: this.#id });
  }

  #call<K extends Op>(op: K, input: Omit<Operations[K]["in"], "session">): Promise<Operations[K]["out"]> {
    if (this.#closed) return Promise.reject(new PagelmError("invalid-state", "the session is closed"));
    if (this.#lost !== this.#client.lost) return Promise.reject(this.#client.lost);
    return this.#client.call(op, { session: this.#id, ...input } as Operations[K]["in"]);
  }
}

/** @internal */
export async function connect(
  { workerUrl, signal, share }: AssetOptions & { signal?: AbortSignal; share?: Share },
  { stop }: WasmOptions,
): Promise<Client> {
  const script = new Script(workerUrl);
  const open = async (signal?: AbortSignal) => new Workers(script, await script.start(signal), stop);
  return new Client(share ? (share(open as never) as Port) : await open(signal));
}

/** @internal */
export const totalOf = (memory: Memory): number => Object.values(memory).reduce((sum, bytes) => sum + bytes, 0);

/** @internal */
export function wireModel(model: ModelRef): WireModel {
  const one = (ref: string | URL | Blob) => (isBlob(ref) ? ref : address(ref)!.href);
  if (Array.isArray(model)) return model.map(one);
  return isFolder(model) ? model : one(model);
}

/**
 * The model, and the part of it that sees.
 * @internal
 */
export function wireModels(model: ModelRef, mmproj?: ModelRef | true) {
  const wire = wireModel(model);
  const beside = mmproj === true && String(wire).replace(/^(hf:[^/]+\/[^/:@]+(@[^/:]+)?).*/, "$1:mmproj");
  return { model: wire, mmproj: beside || (mmproj && wireModel(mmproj as ModelRef)) };
}

/** @internal */
export const sourceOf = ({ cache = true, sha256, headers, hub, fetch }: SourceOptions): WireSource => ({
  cache,
  ...(sha256 && { sha256: sha256.toLowerCase() }),
  ...(headers && { headers }),
  ...(hub && { hub: address(hub)!.href }),
  ...(fetch && { fetch: true }),
});

/**
 * Adds to an error that a model name was taken for a path, if no model was found there.
 * @internal
 */
export function hinted(e: unknown, model: ModelRef): unknown {
  if (!(e instanceof PagelmError) || (e.code !== "http-status" && e.code !== "not-gguf")) return e;
  // Not a scheme before a colon, and not clearly a path.
  if (typeof model !== "string" || !/^\w[\w.-]*\//.test(model)) return e;
  const hint = `${model} was taken for a path beside this page; files of Hugging Face are hf:OWNER/NAME/FILE.gguf`;
  return new PagelmError(e.code, `${e.message}; ${hint}`, e.place, { cause: e });
}

function label(model: ModelRef): string {
  const [named] = Array.isArray(model) ? model : [model];
  if (typeof named === "object" && "name" in named) return String(named.name);
  if (isBlob(named)) return "file";
  return String(named).split(/[?#]/)[0]?.split("/").pop() || "model";
}
