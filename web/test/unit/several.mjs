// Tabs for tests: what the browser gives them to find each other, with locks and channels that end with their tab.
import { AsyncLocalStorage } from "node:async_hooks";

/** The tab in which code runs, through all that it awaits. @type {AsyncLocalStorage<Tab>} */
const here = new AsyncLocalStorage();

class Tab extends EventTarget {
  gone = false;

  /** Runs something as code of this tab. @template T @param {() => T} what @returns {T} */
  run(what) {
    return here.run(this, what);
  }

  /** @param {string} type @param {object} more */
  fire(type, more = {}) {
    this.run(() => this.dispatchEvent(Object.assign(new Event(type), more)));
  }

  /** As when its process dies. */
  crash() {
    this.gone = true;
    for (const channel of channels) if (channel.tab === this) channel.close();
    for (const request of [...requests]) if (request.tab === this) request.leave();
  }
}

/** @type {Set<Channel>} */
const channels = new Set();

class Channel {
  tab = /** @type {Tab} */ (here.getStore());
  /** @type {((event: { data: unknown }) => void) | null} */
  onmessage = null;
  onmessageerror = null;

  /** @param {string} name */
  constructor(name) {
    this.name = name;
    channels.add(this);
  }

  /** @param {unknown} message */
  postMessage(message) {
    const data = structuredClone(message);
    if (!channels.has(this)) return;
    for (const other of channels)
      if (other !== this && other.name === this.name)
        setImmediate(() => channels.has(other) && other.tab.run(() => other.onmessage?.({ data })));
  }

  close() {
    channels.delete(this);
  }
}

/** @typedef {{ tab: Tab, name: string, held: boolean, take: () => void, leave: () => void }} Request */
/** In the order in which they came. @type {Request[]} */
let requests = [];

function grant() {
  for (const request of requests)
    if (!request.held && requests.find(({ name }) => name === request.name) === request) request.take();
}

const locks = {
  query: async () => ({ held: requests.filter((request) => request.held) }),
  /** @param {string} name @param {any} given */
  request(name, ...given) {
    const [{ signal }, callback] = given.length > 1 ? given : [{}, given[0]];
    const tab = /** @type {Tab} */ (here.getStore());
    return new Promise((resolve, reject) => {
      const leave = () => {
        requests = requests.filter((other) => other !== request);
        setImmediate(grant);
      };
      /** @type {Request} */
      const request = {
        tab,
        name,
        held: false,
        leave,
        take() {
          request.held = true;
          Promise.resolve(tab.run(callback)).then(resolve, reject).finally(leave);
        },
      };
      if (tab.gone) return;
      if (signal?.aborted) return reject(signal.reason);
      signal?.addEventListener("abort", () => {
        if (request.held) return;
        leave();
        reject(signal.reason);
      });
      requests.push(request);
      setImmediate(grant);
    });
  },
};

/** The names of the locks that are held. */
export const held = () => requests.filter((request) => request.held).map(({ name }) => name);

/** Puts the browser's part in place, and gives what opens a tab. @param {import("node:test").TestContext} t */
export function browser(t) {
  const listen = (/** @type {any[]} */ ...given) => /** @type {any} */ (here.getStore())?.addEventListener(...given);
  const values = {
    BroadcastChannel: Channel,
    navigator: { locks },
    document: { addEventListener: listen },
    addEventListener: listen,
  };
  const before = Object.keys(values).map(
    (name) => /** @type {const} */ ([name, Object.getOwnPropertyDescriptor(globalThis, name)]),
  );
  for (const [name, value] of Object.entries(values))
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  t.after(() => {
    for (const channel of channels) channel.close();
    requests = [];
    for (const [name, old] of before) {
      if (old) Object.defineProperty(globalThis, name, old);
      else Reflect.deleteProperty(globalThis, name);
    }
  });
  return () => new Tab();
}
