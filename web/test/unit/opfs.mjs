// The browser's private file system and its locks, in memory: with a quota, and files that can be damaged or taken away.

const named = (/** @type {string} */ name, /** @type {string} */ message = name) =>
  Object.assign(new Error(message), { name });

export class FakeStorage {
  /** @type {Map<string, FakeFile>} */
  files = new Map();
  quota = Number.POSITIVE_INFINITY;
  /** What `estimate` says, where that is not the truth. @type {number | undefined} */
  promised;
  /** Called before each write; it may throw. @type {(name: string) => void} */
  onWrite = () => {};
  /** How often the disk was waited for. */
  flushes = 0;
  locks = new FakeLocks();

  get used() {
    return [...this.files.values()].reduce((sum, file) => sum + file.bytes.length, 0);
  }

  /** Puts it in the place of the browser's own, until the test is over. @param {import("node:test").TestContext} t */
  install(t) {
    const before = Object.getOwnPropertyDescriptor(globalThis, "navigator");
    const storage = {
      getDirectory: async () => ({ getDirectoryHandle: async () => this.#folder }),
      estimate: async () => ({ quota: this.promised ?? this.quota, usage: this.used }),
    };
    Object.defineProperty(globalThis, "navigator", { value: { storage, locks: this.locks }, configurable: true });
    t.after(() =>
      before ? Object.defineProperty(globalThis, "navigator", before) : Reflect.deleteProperty(globalThis, "navigator"),
    );
    return this;
  }

  /** A page that was killed releases its locks and files, and does nothing else any more. */
  kill() {
    this.locks.clear();
    for (const file of this.files.values()) file.kill();
  }

  /** The one file whose name ends so. @param {string} end */
  only(end) {
    const found = [...this.files.entries()].filter(([name]) => name.endsWith(end));
    if (found.length !== 1) throw new Error(`${found.length} files end with ${end}`);
    return /** @type {[string, FakeFile]} */ (found[0])[1];
  }

  #folder = {
    keys: async function* (/** @type {FakeStorage} */ of) {
      yield* [...of.files.keys()];
    }.bind(null, this),
    getFileHandle: async (/** @type {string} */ name, { create = false } = {}) => {
      if (!this.files.has(name) && !create) throw named("NotFoundError");
      if (!this.files.has(name)) this.files.set(name, new FakeFile(this, name));
      return this.files.get(name);
    },
    removeEntry: async (/** @type {string} */ name) => {
      if (!this.files.delete(name)) throw named("NotFoundError");
    },
  };
}

class FakeFile {
  bytes = new Uint8Array();
  gone = false;
  #storage;
  /** @type {Set<{ open: boolean, mode: string }>} */
  #open = new Set();

  /** @param {FakeStorage} storage @param {string} name */
  constructor(storage, name) {
    this.#storage = storage;
    this.name = name;
  }

  async getFile() {
    return new File([this.bytes], this.name);
  }

  kill() {
    for (const handle of this.#open) handle.open = false;
    this.#open.clear();
  }

  /** What is written is in the file once it is closed. */
  async createWritable({ keepExistingData = false } = {}) {
    let bytes = keepExistingData ? this.bytes : new Uint8Array();
    const put = (/** @type {Uint8Array} */ from, at = bytes.length) => {
      this.#storage.onWrite(this.name);
      const end = Math.max(bytes.length, at + from.length);
      if (this.#storage.used - this.bytes.length + end > this.#storage.quota) throw named("QuotaExceededError");
      const grown = new Uint8Array(end);
      grown.set(bytes);
      grown.set(from, at);
      bytes = grown;
    };
    const close = async () => {
      this.bytes = bytes;
    };
    const write = async (/** @type {{ position: number, data: string }} */ { position, data }) =>
      put(new TextEncoder().encode(data), position);
    return Object.assign(new WritableStream({ write: (chunk) => put(chunk), close }), { write, close });
  }

  async createSyncAccessHandle({ mode = "readwrite" } = {}) {
    const others = [...this.#open];
    if (others.some((o) => o.mode === "readwrite") || (others.length && mode === "readwrite")) {
      throw named("NoModificationAllowedError");
    }
    const handle = { open: true, mode };
    this.#open.add(handle);
    const check = () => {
      if (!handle.open || this.gone) throw named("InvalidStateError");
    };
    return {
      read: (/** @type {Uint8Array} */ to, /** @type {{ at: number }} */ { at }) => {
        check();
        const part = this.bytes.subarray(at, at + to.length);
        to.set(part);
        return part.length;
      },
      write: (/** @type {Uint8Array} */ from, /** @type {{ at: number }} */ { at }) => {
        check();
        this.#storage.onWrite(this.name);
        const end = Math.max(this.bytes.length, at + from.length);
        if (this.#storage.used - this.bytes.length + end > this.#storage.quota) throw named("QuotaExceededError");
        const grown = new Uint8Array(end);
        grown.set(this.bytes);
        grown.set(from, at);
        this.bytes = grown;
        return from.length;
      },
      getSize: () => this.bytes.length,
      flush: () => {
        check();
        this.#storage.flushes++;
      },
      close: () => {
        handle.open = false;
        this.#open.delete(handle);
      },
    };
  }
}

class FakeLocks {
  /** @type {{ name: string, shared: boolean }[]} */
  #held = [];
  /** @type {(() => void)[]} */
  #waiting = [];

  clear() {
    this.#held = [];
    this.#waiting = [];
  }

  async query() {
    return { held: this.#held };
  }

  /** @param {string} name @param {LockOptions} options @param {(lock: object | null) => unknown} callback */
  async request(name, { mode = "exclusive", ifAvailable = false, signal }, callback) {
    const shared = mode === "shared";
    const free = () => !this.#held.some((h) => h.name === name && !(shared && h.shared));
    if (!free() && ifAvailable) return callback(null);
    while (!free()) {
      await new Promise((resolve, reject) => {
        this.#waiting.push(() => resolve(undefined));
        signal?.addEventListener("abort", () => reject(named("AbortError")));
      });
    }
    const lock = { name, shared };
    this.#held.push(lock);
    try {
      return await callback(lock);
    } finally {
      const at = this.#held.indexOf(lock);
      if (at >= 0) this.#held.splice(at, 1);
      for (const wake of this.#waiting.splice(0)) wake();
    }
  }
}
