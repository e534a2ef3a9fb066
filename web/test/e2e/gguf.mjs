// GGUF files for tests, made of a small one: longer, or in parts.

/** Reads the lists of a header one after another. @param {Buffer} file */
export function walker(file) {
  const w = { at: 8, u32, u64, skip };
  function u32() {
    w.at += 4;
    return file.readUInt32LE(w.at - 4);
  }
  function u64() {
    w.at += 8;
    return Number(file.readBigUInt64LE(w.at - 8));
  }
  const sizes = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
  /** Passes a value over: 8 is a string, 9 a list. @param {number} kind */
  function skip(kind) {
    const elements = kind === 9 ? u32() : 0;
    const size = kind === 8 || kind === 9 ? u64() : Number(sizes[kind]);
    if (kind === 9) for (let i = 0; i < size; i++) skip(elements);
    else w.at += size;
  }
  return w;
}

/** Where the lists of a file are, and what it says of each tensor. @param {Buffer} file */
function layout(file) {
  const w = walker(file);
  const { u32, u64, skip } = w;
  const [count, pairs] = [u64(), u64()];
  for (let i = 0; i < pairs; i++) {
    skip(8);
    skip(u32());
  }
  const keysEnd = w.at;
  const tensors = Array.from({ length: count }, () => {
    const start = w.at;
    skip(8);
    const dims = u32();
    w.at += 8 * dims + 4;
    const offset = u64();
    return { info: file.subarray(start, w.at - 8), offset };
  });
  const data = file.subarray(Math.ceil(w.at / 32) * 32);
  const starts = [...tensors.map((t) => t.offset), data.length].sort((a, b) => a - b);
  const bytes = (/** @type {number} */ offset) => data.subarray(offset, starts[starts.indexOf(offset) + 1]);
  return {
    keys: file.subarray(24, keysEnd),
    pairs,
    tensors: tensors.map((t) => ({ info: t.info, bytes: bytes(t.offset) })),
  };
}

/** @typedef {{ info: Buffer, bytes: Buffer }} Tensor */

const int = (/** @type {number} */ value, /** @type {number} */ size) => {
  const out = Buffer.alloc(size);
  if (size === 8) out.writeBigUInt64LE(BigInt(value));
  else out.writeUIntLE(value, 0, size);
  return out;
};
const string = (/** @type {string} */ text) => Buffer.concat([int(text.length, 8), Buffer.from(text)]);
/** An entry of metadata: a number. */
const number = (/** @type {string} */ name, /** @type {number} */ value) =>
  Buffer.concat([string(name), int(4, 4), int(value, 4)]);
const aligned = (/** @type {Buffer} */ bytes) => Buffer.concat([bytes, Buffer.alloc((32 - (bytes.length % 32)) % 32)]);

/** The start of a file with these tensors, up to their bytes. @param {Buffer[]} keys @param {number} pairs @param {{ info: Buffer, length: number }[]} tensors */
function head(keys, pairs, tensors) {
  let offset = 0;
  const infos = tensors.map(({ info, length }) => {
    offset += length;
    return Buffer.concat([info, int(offset - length, 8)]);
  });
  const start = [Buffer.from("GGUF"), int(3, 4), int(tensors.length, 8), int(pairs, 8)];
  return aligned(Buffer.concat([...start, ...keys, ...infos]));
}

const laid = (/** @type {Tensor[]} */ tensors) =>
  tensors.map(({ info, bytes }) => ({ info, length: aligned(bytes).length, bytes: aligned(bytes) }));

/**
 * The same model in a longer file, in whose middle are as many bytes more, which it does not need: what is before them,
 * and what is after. @param {Buffer} file @param {number} more a multiple of 32
 */
export function longer(file, more) {
  const { keys, pairs, tensors } = layout(file);
  const own = laid(tensors);
  // Tensors of images are left out.
  const info = Buffer.concat([string("v.more"), int(1, 4), int(more / 4, 8), int(0, 4)]);
  return {
    before: head([keys], pairs, [{ info, length: more }, ...own]),
    after: Buffer.concat(own.map((t) => t.bytes)),
  };
}

/** The same model in so many files. @param {Buffer} file @param {number} count */
export function inParts(file, count) {
  const { keys, pairs, tensors } = layout(file);
  const each = Math.ceil(tensors.length / count);
  return Array.from({ length: count }, (_, i) => {
    const split = [number("split.no", i), number("split.count", count), number("split.tensors.count", tensors.length)];
    const own = laid(tensors.slice(i * each, (i + 1) * each));
    const start = head([...(i ? [] : [keys]), ...split], (i ? 0 : pairs) + 3, own);
    return Buffer.concat([start, ...own.map((t) => t.bytes)]);
  });
}

/** How a token is written by [`spelled`]. */
export const spelling = (/** @type {number} */ id) => `t${id}e`;

/**
 * The same model, whose tokens are written as their numbers, but for control tokens: so a text can ask for any ids, and says which
 * ones come. @param {Buffer} file
 */
export function spelled(file) {
  const { keys, pairs, tensors } = layout(file);
  const w = walker(keys);
  w.at = 0;
  const others = [];
  const lists = /** @type {Record<string, number>} */ ({});
  for (let i = 0; i < pairs; i++) {
    const start = w.at;
    w.skip(8);
    const name = keys.toString("utf8", start + 8, w.at);
    const kind = w.u32();
    const value = w.at;
    w.skip(kind);
    if (/^tokenizer\.ggml\.(tokens|token_type|merges)$/.test(name)) lists[name] = value;
    else others.push(keys.subarray(start, w.at));
  }
  const types = Number(lists["tokenizer.ggml.token_type"]) + 12;
  w.at = Number(lists["tokenizer.ggml.tokens"]) + 4;
  const tokens = Array.from({ length: w.u64() }, (_, id) => {
    const start = w.at;
    w.skip(8);
    // 3 is a control token, 4 one that was defined by a user.
    const control = keys.readInt32LE(types + 4 * id) === 3;
    return { text: control ? keys.subarray(start, w.at) : string(spelling(id)), type: int(control ? 3 : 4, 4) };
  });
  const list = (/** @type {string} */ name, /** @type {number} */ kind, /** @type {Buffer[]} */ all) =>
    Buffer.concat([string(`tokenizer.ggml.${name}`), int(9, 4), int(kind, 4), int(all.length, 8), ...all]);
  const texts = list(
    "tokens",
    8,
    tokens.map(({ text }) => text),
  );
  const own = laid(tensors);
  const kinds = list(
    "token_type",
    5,
    tokens.map(({ type }) => type),
  );
  const start = head([...others, texts, kinds, list("merges", 8, [])], others.length + 3, own);
  return Buffer.concat([start, ...own.map((t) => t.bytes)]);
}
