// Which GPU kernels are the fastest here: measured once for each adapter, and kept by the browser. The engine knows whether
// a record is one of its version.

const CACHE = "pagelm-tuning";
const address = (key: string) => `https://pagelm.invalid/tuning?of=${encodeURIComponent(key)}`;

/** The record of an adapter; empty where there is none, or where the browser keeps nothing. */
export async function loadTuning(key: string): Promise<string> {
  try {
    const found = await (await caches.open(CACHE)).match(address(key));
    return (await found?.text()) ?? "";
  } catch {
    return "";
  }
}

/** Keeps a record. Where the browser does not, the next start measures again. */
export async function saveTuning(key: string, record: string): Promise<void> {
  try {
    await (await caches.open(CACHE)).put(address(key), new Response(record));
  } catch {}
}
