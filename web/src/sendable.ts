// Images that only the page has, as JSON.
import { PagelmError } from "./index.ts";

/** A value whose images are URLs with their bytes; what JSON would leave out or change is refused. */
export async function sendable(value: unknown, place: string): Promise<unknown> {
  if (Array.isArray(value)) return Promise.all(value.map((v, i) => sendable(v, `${place}[${i}]`)));
  if (value instanceof Blob) return dataUrl(value);
  const plain = typeof value !== "object" || value === null || Object.getPrototypeOf(value) === Object.prototype;
  const lost = ["bigint", "function", "symbol"].includes(typeof value);
  if (!plain || lost || (typeof value === "number" && !Number.isFinite(value))) {
    const what = "cannot be sent or kept: give JSON, and images as URLs, Files or Blobs";
    throw new PagelmError("invalid-argument", what, place);
  }
  if (typeof value !== "object" || value === null) return value;
  const entry = async ([name, v]: [string, unknown]) => [name, await sendable(v, place ? `${place}.${name}` : name)];
  return Object.fromEntries(await Promise.all(Object.entries(value).map(entry)));
}

async function dataUrl(file: Blob): Promise<string> {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text = "";
  // A call takes only so many arguments.
  for (let i = 0; i < bytes.length; i += 4096) text += String.fromCharCode(...bytes.subarray(i, i + 4096));
  return `data:${file.type};base64,${btoa(text)}`;
}
