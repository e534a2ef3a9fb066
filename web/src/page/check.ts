// Checks of arguments. Each error says where a value is wrong, what it must be, and what it is.
import { PagelmError } from "../shared/errors.ts";

/** Throws if a value is not valid; `at` is its place, such as `messages[2].content`. */
export type Check = (value: unknown, at: string) => void;
/** A check per name. */
export type Fields<T = Record<string, unknown>> = { [K in keyof Required<T>]: Check };

export function refuse(at: string, what: string): never {
  throw new PagelmError("invalid-argument", `${at} ${what}`, at);
}

/** `why` adds to what is allowed, where needed. */
export function must(want: string, ok: (value: unknown) => boolean, why = ""): Check {
  return (value, at) => {
    if (!ok(value)) refuse(at, `must be ${want}, is ${shown(value)}${why && `; ${why}`}`);
  };
}

/** Exactly one of these values. */
export const oneOf = (values: readonly unknown[], why = ""): Check =>
  must(values.map(shown).join(" or "), (v) => values.includes(v), why);
export const string = must("a string", (v) => typeof v === "string");
export const boolean = must("true or false", (v) => typeof v === "boolean");
export const callback = must("a function", (v) => typeof v === "function");
/** Finite also in f32, in which the engine computes. */
export const number = (want: string, ok: (n: number) => boolean = () => true): Check =>
  must(want, (v) => typeof v === "number" && Number.isFinite(Math.fround(v)) && ok(v));
export const range = (min: number, max = Number.POSITIVE_INFINITY): Check =>
  number(max < Number.POSITIVE_INFINITY ? `a number from ${min} to ${max}` : `a number of at least ${min}`, (n) => {
    return n >= min && n <= max;
  });
export const integer = (min: number, max = 2 ** 32 - 1, why = ""): Check =>
  must(`an integer from ${min} to ${max}`, (v) => isInteger(v, min, max), why);

export const isInteger = (v: unknown, min = 0, max = 2 ** 32 - 1): boolean =>
  Number.isSafeInteger(v) && (v as number) >= min && (v as number) <= max;
export const isObject = (v: unknown): v is Record<string, unknown> =>
  typeof v === "object" && v !== null && !Array.isArray(v);
/** `Blob`, `AbortSignal` and the like, from any window. */
export const isA = (name: string, v: unknown): boolean => Object.prototype.toString.call(v) === `[object ${name}]`;

export const signal = must("an AbortSignal", (v) => isA("AbortSignal", v));
export const url = must("a URL", (v) => address(v) !== undefined);

/** A URL as the page resolves it; undefined if it is not one. */
export function address(v: unknown): URL | undefined {
  if ((typeof v !== "string" && !isA("URL", v)) || String(v).trim() === "") return undefined;
  try {
    return new URL(String(v), globalThis.location?.href);
  } catch {
    return undefined;
  }
}

/** A non-empty list, each value of which passes. */
export const list =
  (want: string, check: Check): Check =>
  (value, at) => {
    if (!Array.isArray(value) || value.length === 0) refuse(at, `must be ${want}, at least one, is ${shown(value)}`);
    for (let i = 0; i < value.length; i++) check(value[i], `${at}[${i}]`);
  };

/** Token ids in anything that has a length. */
export const ids: Check = (value, at) => {
  const given = value as ArrayLike<unknown> | null | undefined;
  if (typeof given !== "object" || !isInteger(given?.length)) refuse(at, `must be token ids, is ${shown(value)}`);
  const { length } = given!;
  for (let i = 0; i < length; i++) if (!isInteger(given![i])) integer(0)(given![i], `${at}[${i}]`);
};

/** An object with these fields. Those that are not `required` may be left out or null. */
export const object =
  (fields: Fields, required: readonly string[] = []): Check =>
  (value, at) =>
    void given(fields, value, at, required);

/** The given fields, checked; null fields are left out. `at` is empty for the parameters themselves. */
export function given(fields: Fields, value: unknown, at = "", required: readonly string[] = []) {
  if (!isObject(value)) refuse(at || "the argument", `must be an object, is ${shown(value)}`);
  const names = Object.keys(fields);
  const place = (name: string) => (at ? `${at}.${name}` : name);
  for (const name in value) {
    if (Object.hasOwn(fields, name)) continue;
    const meant = nearest(name, names);
    refuse(
      place(name),
      `is not a known parameter; ${meant ? `did you mean ${meant}?` : `expected ${names.join(", ")}`}`,
    );
  }
  const taken: Record<string, unknown> = {};
  for (const name of names) {
    if (value[name] == null && !required.includes(name)) continue;
    fields[name]!(value[name], place(name));
    taken[name] = value[name];
  }
  return taken;
}

/** A short description of a value. */
export function shown(value: unknown): string {
  if (typeof value === "function") return "a function";
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value !== "object" && typeof value !== "string") return String(value);
  const name = Object.prototype.toString.call(value).slice(8, -1);
  if (value !== null && typeof value === "object" && name !== "Object" && name !== "Array")
    return `${/^[AEIO]|^U(?!RL|int)/.test(name) ? "an" : "a"} ${name}`;
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch {
    // For example a cycle.
  }
  text ??= name === "Array" ? "a list" : "an object";
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

/** Names that share fewer of their pairs of letters are unrelated. */
const ALIKE = 0.4;

/** The name that was probably meant. */
function nearest(name: string, names: string[]): string | undefined {
  const wanted = pairs(name.slice(0, 64));
  const alike = names.map((n) => {
    const other = pairs(n);
    const both = [...other].filter((pair) => wanted.has(pair));
    return (2 * both.length) / (wanted.size + other.size);
  });
  const most = Math.max(...alike);
  return most >= ALIKE ? names[alike.indexOf(most)] : undefined;
}

/** The pairs of letters that follow each other, whatever their case and what is between them. */
function pairs(name: string): Set<string> {
  const letters = name.toLowerCase().replaceAll(/[^a-z0-9]/g, "");
  return new Set(Array.from(letters, (_, i) => letters.slice(i, i + 2)));
}
