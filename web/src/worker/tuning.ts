// The fastest GPU kernels for this adapter: measured once per adapter, and stored by the browser. The engine checks
// whether a record is of its version.

const CACHE = "pagelm-tuning";
const address = (key: string) => `https://pagelm.invalid/tuning?of=${encodeURIComponent(key)}`;

/** The record of an adapter; empty if there is none, or if the browser stores nothing. */
export async function loadTuning(key: string): Promise<string> {
  try {
    const found = await (await caches.open(CACHE)).match(address(key));
    return (await found?.text()) ?? "";
  } catch {
    return "";
  }
}

/** Stores a record. If the browser does not, the next start measures again. */
export async function saveTuning(key: string, record: string): Promise<void> {
  try {
    await (await caches.open(CACHE)).put(address(key), new Response(record));
  } catch {}
}
