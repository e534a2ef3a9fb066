// What is known of a stored file: which of its blocks are there, and what they hash to. A record of its log is a block's number
// and sum, or the `Meta`.
import { readLine } from "../shared/lines.ts";

/** Bytes that are checked, stored and fetched again together. */
export const BLOCK = 1 << 20;

/** What the log says of the whole file. */
export interface Meta {
  url: string;
  /** What the page asks for to get the model, of which this is part `part` of `parts`. */
  model: string;
  part: number;
  parts: number;
  name: string;
  /** ETag or date of change at the server. */
  version: string | null;
  size: number | null;
  sha256: string | null;
  /** Whether all bytes together had that sum. */
  checked: boolean;
}

/** What a log says. */
export interface Log {
  meta: Meta;
  /** The sum of each block that is there. */
  blocks: Map<number, string>;
}

/** The last word of each record that is whole. */
export function readLog(text: string): Log | null {
  let meta: Meta | null = null;
  const blocks = new Map<number, string>();
  for (const line of text.split("\n")) {
    const value = readLine(line) as Meta | [block: number, sum?: string] | undefined;
    if (!value) continue;
    if (!Array.isArray(value)) meta = value;
    else if (value[1]) blocks.set(value[0], value[1]);
    else blocks.delete(value[0]);
  }
  return meta && { meta, blocks };
}

export const lengthOf = (i: number, size: number) => Math.min(BLOCK, size - i * BLOCK);

export const complete = ({ meta, blocks }: Log) => meta.size !== null && blocks.size === Math.ceil(meta.size / BLOCK);
