// How the worker's script starts, whatever the page allows: it may be on another origin, or need a trusted URL.
import { allow, watchPolicy } from "../shared/csp.ts";
import { abortError, PagelmError } from "../shared/errors.ts";
import type { ScriptUrl } from "../shared/types.ts";

/** How many seconds a worker may take until its first message: its script comes over the network. */
const START_TIMEOUT_S = 60;

/** Bundlers look for exactly this expression, and insert the URL of the bundled script. */
const bundled = () => new Worker(new URL("./worker.js", import.meta.url), { type: "module" });

export class Script {
  /** The way that the page allows, once it is known. */
  #make: () => Worker;

  constructor(url?: ScriptUrl) {
    this.#make = url === undefined ? bundled : () => new Worker(url as string, { type: "module" });
  }

  /** A worker whose script runs. */
  async start(signal?: AbortSignal): Promise<Worker> {
    if (typeof Worker === "undefined") {
      throw new PagelmError("engine-not-loaded", "web workers are not available; models run in browsers only");
    }
    const watched = watchPolicy();
    const attempts = [this.#make];
    let first: unknown;
    try {
      for (const make of attempts) {
        try {
          const worker = await started(make, signal);
          this.#make = make;
          return worker;
        } catch (e) {
          if (e instanceof PagelmError || signal?.aborted) throw e;
          if (first === undefined) attempts.push(...fallbacks(make, e));
          first ??= e;
        }
      }
      const { url = "" } = asked(this.#make) ?? {};
      const what = `the worker did not start: ${first instanceof Error ? first.message : first}`;
      throw new PagelmError("engine-not-loaded", `${what}; ${await remedy(url, watched)}`, url, { cause: first });
    } finally {
      watched.end();
    }
  }
}

/** Waits for the first message of a new worker. */
function started(make: () => Worker, signal: AbortSignal | undefined): Promise<Worker> {
  if (signal?.aborted) throw abortError(signal);
  const worker = make();
  return new Promise((resolve, reject) => {
    const fail = (e: unknown) => {
      settle();
      worker.terminate();
      reject(e);
    };
    const expire = () => fail(new PagelmError("engine-not-loaded", `${NO_MESSAGE}; is workerUrl right?`));
    const abort = () => fail(abortError(signal));
    let left = START_TIMEOUT_S;
    // Time in which the page was frozen does not count.
    const timer = setInterval(() => --left || expire(), 1000);
    const settle = () => {
      clearInterval(timer);
      signal?.removeEventListener("abort", abort);
      worker.onmessage = worker.onerror = null;
    };
    signal?.addEventListener("abort", abort);
    worker.onmessage = ({ data }) => {
      if (data?.op !== "hello")
        return fail(new PagelmError("engine-not-loaded", "workerUrl is not the package's worker.js"));
      settle();
      resolve(worker);
    };
    worker.onerror = (event) => {
      event.preventDefault();
      fail(new Error(event.message || "its script did not load"));
    };
  });
}

const NO_MESSAGE = `the worker's script said nothing in ${START_TIMEOUT_S} s`;

/** Other attempts to load the same script, after the plain one failed. */
function fallbacks(make: () => Worker, e: unknown): (() => Worker)[] {
  const found = asked(make);
  if (!found) return [];
  const trust = e instanceof TypeError ? policy() : undefined;
  const trusted = (url: string) => (trust ? trust.createScriptURL(url) : url) as string;
  // A worker's script must be of the page's own origin and have its embedder policy. What a blob imports need not.
  const blob = () => new Worker(trusted(importer(found.url, found.options)), found.options);
  return trust ? [() => new Worker(trusted(found.url), found.options), blob] : [blob];
}

/** The arguments of the worker's constructor. Only the global constructor sees what a bundler made of them. */
function asked(make: () => Worker): { url: string; options: WorkerOptions } | undefined {
  const { Worker } = globalThis;
  let found: { url: string; options: WorkerOptions } | undefined;
  try {
    globalThis.Worker = class {
      constructor(url: ScriptUrl, options: WorkerOptions = {}) {
        found = { url: new URL(String(url), location.href).href, options };
      }
    } as unknown as typeof Worker;
    make();
  } catch {
    // The URL is unknown if a bundler has no `import.meta.url`, or if the page's globals are frozen.
  } finally {
    if (globalThis.Worker !== Worker) globalThis.Worker = Worker;
  }
  return found;
}

/** Blobs that import a script, by its URL: a page has one or two. */
const importers = new Map<string, string>();

function importer(url: string, { type }: WorkerOptions): string {
  const script = JSON.stringify(url);
  const load =
    type === "module" ? `import(${script}).catch((e) => setTimeout(() => { throw e; }))` : `importScripts(${script})`;
  // Bundled code may look for its other files relative to the worker's URL.
  const text = `URL = class extends URL {
    constructor(url, base) { super(url, base === location.href ? ${script} : base); }
  };
  ${load};`;
  const address = importers.get(text) ?? URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  importers.set(text, address);
  return address;
}

interface Policy {
  createScriptURL(url: string): unknown;
}
let made: Policy | undefined;

/** The policy for script URLs that a page with Trusted Types must allow; undefined in other pages. */
function policy(): Policy | undefined {
  const { trustedTypes } = globalThis as unknown as {
    trustedTypes?: { createPolicy(name: string, rules: Policy): Policy };
  };
  try {
    made ??= trustedTypes?.createPolicy("pagelm", { createScriptURL: (url) => url });
    return made;
  } catch (e) {
    throw new PagelmError(
      "engine-not-loaded",
      `Trusted Types of this page refuse the worker's policy (${(e as Error).message}): ` +
        "allow the name `pagelm` in its directive trusted-types, or give a TrustedScriptURL as workerUrl",
    );
  }
}

/** The last way tried was a blob if the script is of another origin. */
async function remedy(url: string, watched: ReturnType<typeof watchPolicy>): Promise<string> {
  const { origin } = new URL(url || location.href);
  const other = origin !== location.origin;
  const forbidden = await watched.violation(["worker-src"], (v) => v.blockedURI.startsWith("blob") === other);
  if (forbidden) return allow(other ? "blob:" : "'self'", "worker-src");
  if (!other) return "is the package's worker.js served there? If it is elsewhere, say so with workerUrl";
  return (
    "the script is of another origin: its server must allow this page with Access-Control-Allow-Origin, and the page's " +
    `content security policy, if it has one, ${origin} in script-src and blob: in worker-src`
  );
}
