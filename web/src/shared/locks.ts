// Locks that all pages of an origin share.

/** Resolves once others may have the lock. */
export type Release = () => Promise<unknown>;

/**
 * Calls `gone` once a worker has ended, of which browsers tell nobody: it holds the lock of this name, and its threads hold
 * those that begin with it.
 */
export async function watchLife(life: string, signal: AbortSignal, gone: () => void): Promise<void> {
  const { locks } = navigator;
  const { held } = await locks.query();
  const name = `pagelm ${life}`;
  for (const { name: other } of [{ name }, ...held!])
    if (other!.startsWith(name)) locks.request(other!, { signal }, gone).catch(() => {});
}

/** Holds a lock until its release is called; null if others have it and `ifAvailable` is set. */
export function lock(id: string, options: LockOptions): Promise<Release | null> {
  return new Promise((resolve, reject) => {
    const held = (got: Lock | null) => {
      if (!got) return resolve(null);
      return new Promise<void>((release) => {
        resolve(() => {
          release();
          return done;
        });
      });
    };
    const done = navigator.locks.request(`pagelm ${id}`, options, held as LockGrantedCallback<void>);
    done.catch(reject);
  });
}
