// Models with weights of any type: a small GGUF file whose matrices are swapped for random blocks.
import { walker } from "./gguf.mjs";

/**
 * Types that no fixture has: number in the file, values and bytes of a block, and what makes its scales small.
 * @type {Record<string, { id: number, elems: number, bytes: number, scale: (block: Buffer) => void }>}
 */
export const TYPES = {
  IQ2_XXS: { id: 16, elems: 256, bytes: 66, scale: halfAt(0) },
  IQ2_XS: { id: 17, elems: 256, bytes: 74, scale: halfAt(0) },
  IQ3_XXS: { id: 18, elems: 256, bytes: 98, scale: halfAt(0) },
  IQ1_S: { id: 19, elems: 256, bytes: 50, scale: halfAt(0) },
  IQ3_S: { id: 21, elems: 256, bytes: 110, scale: halfAt(0) },
  IQ2_S: { id: 22, elems: 256, bytes: 82, scale: halfAt(0) },
  IQ1_M: { id: 29, elems: 256, bytes: 56, scale: inNibbles },
  TQ1_0: { id: 34, elems: 256, bytes: 54, scale: halfAt(52) },
  TQ2_0: { id: 35, elems: 256, bytes: 66, scale: halfAt(64) },
  NVFP4: { id: 40, elems: 64, bytes: 36, scale: (block) => block.fill(0x18, 0, 4) },
  Q1_0: { id: 41, elems: 128, bytes: 18, scale: halfAt(0) },
  Q2_0: { id: 42, elems: 64, bytes: 18, scale: halfAt(0) },
};

/** 2^-9 as f16. */
const HALF = 0x1800;

function halfAt(/** @type {number} */ at) {
  return (/** @type {Buffer} */ block) => void block.writeUInt16LE(HALF, at);
}

/** The scale of IQ1_M: a nibble of it on top of each of the last four u16. */
function inNibbles(/** @type {Buffer} */ block) {
  for (let i = 0; i < 4; i++) block[49 + i * 2] = (Number(block[49 + i * 2]) & 15) | (((HALF >> (4 * i)) & 15) << 4);
}

/** @typedef {{ dims: number[], info: number, type: number, part: Buffer }} Tensor */

const align = (/** @type {number} */ n) => Math.ceil(n / 32) * 32;

/** Its tensors: shape, where the header has its type and offset, and its bytes. @param {Buffer} file */
function tensorsOf(file) {
  const w = walker(file);
  const { u32, u64, skip } = w;
  const [tensors, pairs] = [u64(), u64()];
  for (let i = 0; i < pairs; i++) {
    skip(8);
    skip(u32());
  }
  const found = Array.from({ length: tensors }, () => {
    skip(8);
    const dims = Array.from({ length: u32() }, u64);
    w.at += 12;
    return { dims: dims.map(Number), info: w.at - 12, start: file.readUInt32LE(w.at - 8) };
  });
  const data = align(w.at);
  const all = found.map(({ dims, info, start }, i) => {
    const end = found[i + 1]?.start ?? file.length - data;
    return { dims, info, type: file.readUInt32LE(info), part: file.subarray(data + start, data + end) };
  });
  return { data, all };
}

/** The file with other tensors of the same shapes. @param {Buffer} file @param {(tensor: Tensor, i: number) => Pick<Tensor, "type" | "part">} swap */
function swapped(file, swap) {
  const { data, all } = tensorsOf(file);
  const head = Buffer.from(file.subarray(0, data));
  let offset = 0;
  const parts = all.map((tensor, i) => {
    const { type, part } = swap(tensor, i);
    head.writeUInt32LE(type, tensor.info);
    head.writeUInt32LE(offset, tensor.info + 4);
    offset += part.length;
    return part;
  });
  return Buffer.concat([head, ...parts]);
}

/**
 * The file with every matrix whose rows are whole blocks in this type.
 * @param {Buffer} file @param {{ id: number, elems: number, bytes: number, scale: (block: Buffer) => void }} type
 */
export function retyped(file, { id, elems, bytes, scale }) {
  let seed = id;
  return swapped(file, (tensor) => {
    const { dims } = tensor;
    if (dims.length < 2 || Number(dims[0]) % elems) return tensor;
    const part = Buffer.alloc(align((dims.reduce((a, b) => a * b) / elems) * bytes));
    for (let b = 0; b + bytes <= part.length; b += bytes) {
      const block = part.subarray(b, b + bytes);
      // Numbers of a linear congruential generator; the high bits are the random ones.
      for (let j = 0; j < bytes; j++) {
        seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
        block[j] = seed >>> 24;
      }
      scale(block);
    }
    return { type: id, part };
  });
}

/**
 * Files of the same model in one type each, mixed: the matrices of each come from one after another. All types are in
 * one of them. @param {[type: string, file: Buffer][]} files
 */
export function mixed(files) {
  const typed = files.map(([name, file]) => ({ name, file, tensors: tensorsOf(file).all }));
  const made = /** @type {{ types: string[], file: Buffer }[]} */ ([]);
  while (typed.length) {
    const types = /** @type {string[]} */ ([]);
    const [first] = typed;
    if (!first) break;
    const file = swapped(first.file, (tensor, i) => {
      if (tensor.dims.length < 2) return tensor;
      const next = typed.shift();
      if (next) types.push(next.name);
      return next?.tensors[i] ?? tensor;
    });
    made.push({ types, file });
  }
  return made;
}
