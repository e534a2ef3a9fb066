// Addresses by which files are known.

/** What may change in the URL of one file: signatures and their dates. */
const VOLATILE =
  /^(x-(amz|goog|oss)-.*|expires|signature|key-pair-id|policy|(google|aws)access(key)?id|s[erpvt]|sig|sk\w+|token|response-.*|download)$/i;

/** A URL by which a file is known, whatever its signature. */
export function stableUrl(url: string): string {
  const stable = new URL(url);
  stable.hash = "";
  for (const name of [...stable.searchParams.keys()]) if (VOLATILE.test(name)) stable.searchParams.delete(name);
  return stable.href;
}
