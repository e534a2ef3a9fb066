// The compiler compares src/worker/bindings.d.ts with what wasm-bindgen made. It runs when the package is built; other
// checks of the TypeScript need no wasm.
import * as made from "../pkg/base/pagelm.js";
import type { Bindings, Engine, Header } from "../src/worker/bindings.d.ts";

/** Every function that the worker calls is there, and takes what it is given. */
export const bindings: Omit<Bindings, "default"> = made;
export const start: Parameters<typeof made.default>[0] = {} as Parameters<Bindings["default"]>[0];

type Instance<C extends { prototype: unknown }> = Exclude<keyof C["prototype"], symbol>;
/** What wasm-bindgen always makes, and the worker does not need. */
type Unused = "initSync";
type Extra =
  | Exclude<keyof typeof made, keyof Bindings | "Engine" | Unused>
  | Exclude<Instance<typeof made.Engine>, keyof Engine>
  | Exclude<Instance<typeof made.Header>, keyof Header>;
/** And no function that the worker does not know. */
export const extra: Extra[] = [] satisfies never[];
export const none: never[] = extra;

/** Functions that take fewer arguments than the worker gives, by name. */
type Short<Made, Known> = {
  [K in keyof Made & keyof Known]: [Made[K], Known[K]] extends [
    (...made: infer M) => unknown,
    (...known: infer N) => unknown,
  ]
    ? Required<M>["length"] extends Required<N>["length"]
      ? never
      : K
    : never;
}[keyof Made & keyof Known];
export const short: (Short<made.Engine, Engine> | Short<made.Header, Header> | Short<typeof made, Bindings>)[] = [];
export const noneShort: never[] = short;
