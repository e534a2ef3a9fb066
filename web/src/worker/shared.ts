// Files that sites share by their sums, where the browser has Cross-Origin Storage (wicg.github.io/cross-origin-storage).
import type { Entry } from "./entry.ts";

type Options = { create: true; origins?: "*" };
type Shared = {
  crossOriginStorage?: {
    requestFileHandle(hash: { algorithm: string; value: string }, options?: Options): Promise<FileSystemFileHandle>;
  };
};

const handle = (value: string, options?: Options) =>
  (navigator as Shared).crossOriginStorage?.requestFileHandle({ algorithm: "SHA-256", value }, options);

/** The file, if some site stored it and the browser tells this one of it. */
export async function sharedFile(sha256: string): Promise<File | null> {
  // It says no with an error.
  const found = await handle(sha256)?.catch(() => null);
  return (await found?.getFile().catch(() => null)) ?? null;
}

/** Shares a file whose sum was checked: with everyone, or with pages of this site. */
export async function share(sha256: string, everyone: boolean, entry: Entry): Promise<void> {
  try {
    const file = await handle(sha256, { create: true, ...(everyone && { origins: "*" }) });
    const to = await file?.createWritable();
    if (!to) return;
    for await (const bytes of entry.read(0)) await to.write(bytes);
    await to.close();
  } catch {
    // It is stored here all the same.
  }
}
