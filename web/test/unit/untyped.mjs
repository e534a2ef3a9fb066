/**
 * A value as a caller without a type checker may give it, or a part of what a type asks for.
 * @template T @param {unknown} value @returns {T}
 */
export const untyped = (value) => /** @type {T} */ (value);
