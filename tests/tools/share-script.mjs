// share-script.mjs PLAIN THREADS WASM…: makes the script that wasm-bindgen wrote for builds with threads serve those
// without them too, and renames imports and exports of these modules (WASM…) to the names that it uses. The two scripts
// are nearly the same: as two they would be a fifth of what a page loads as JavaScript.
import { readFileSync, writeFileSync } from "node:fs";

const [plainFile, threadsFile, ...modules] = process.argv.slice(2);
const [plain, threads] = [plainFile, threadsFile].map((file) => {
  const lines = readFileSync(file, "utf8").split("\n").filter((line) => !/^ *\/\//.test(line));
  const start = lines.indexOf("        __proto__: null,") + 1;
  const end = lines.indexOf("    };", start);
  if (!start || end < 0) throw new Error(`${file} has no object of imports`);
  // What the module imports, one entry after the other; and the rest, by its lines.
  const entries = [];
  for (const line of lines.slice(start, end)) {
    const key = /^ {8}"([^"]+)": /.exec(line);
    if (key) entries.push({ key: key[1], text: line.slice(key[0].length) });
    else entries.at(-1).text += `\n${line}`;
  }
  return { lines, start, end, entries, rest: [...lines.slice(0, start), ...lines.slice(end)] };
});

const EXPORT = /\bwasm\["([^"]+)"\]/g;
/** A text without what differs between equal ones: names of exports, numbers of closures, and what threads add. */
const masked = (text) =>
  text.replace(EXPORT, "wasm").replace(/_true_(_\d+)?\b/g, "_true_").replace("(thread_stack_size);", "();");

/** The pairs of a longest common subsequence, by these texts. */
function pairs(a, b) {
  const length = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      length[i][j] = a[i] === b[j] ? length[i + 1][j + 1] + 1 : Math.max(length[i + 1][j], length[i][j + 1]);
    }
  }
  const found = [];
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    if (a[i] === b[j]) found.push([i++, j++]);
    else if (length[i + 1][j] >= length[i][j + 1]) i++;
    else j++;
  }
  return found;
}

/** Names of the plain modules, and those of the modules with threads for the same. */
class Names {
  to = new Map();
  taken = new Set();
  #next = 0;
  constructor(taken) {
    for (const name of taken) this.taken.add(name);
  }
  same(from, to) {
    if ((this.to.get(from) ?? to) !== to) throw new Error(`${from} is both ${this.to.get(from)} and ${to}`);
    this.to.set(from, to);
  }
  /** The name of one that only the plain modules have. */
  of(name) {
    if (!this.to.has(name)) {
      let free;
      do free = `_${(this.#next++).toString(36)}`;
      while (this.taken.has(free));
      this.to.set(name, free);
    }
    return this.to.get(name);
  }
}
const exported = (text) => [...text.matchAll(EXPORT)].map((found) => found[1]);
const imports = new Names(threads.entries.map((entry) => entry.key));
const exports = new Names(exported(threads.lines.join("\n")));
const alike = (a, b) => exported(a).forEach((name, i) => exports.same(name, exported(b)[i]));

/** Entries of the two that do the same. */
const both = [];
for (const [i, j] of pairs(plain.entries.map((e) => masked(e.text)), threads.entries.map((e) => masked(e.text)))) {
  imports.same(plain.entries[i].key, threads.entries[j].key);
  alike(plain.entries[i].text, threads.entries[j].text);
  both.push([plain.entries[i], threads.entries[j]]);
}
for (const [i, j] of pairs(plain.rest.map(masked), threads.rest.map(masked))) alike(plain.rest[i], threads.rest[j]);

// What only the plain modules import, with the functions that this needs.
const renamed = (text) => text.replace(EXPORT, (_, name) => `wasm[${JSON.stringify(exports.of(name))}]`);
const own = plain.entries
  .filter((entry) => !both.some(([mine]) => mine === entry))
  .map((entry) => `        ${JSON.stringify(imports.of(entry.key))}: ${renamed(entry.text)}`);
const functions = (of) =>
  new Map(of.rest.join("\n").match(/^(async )?function [\s\S]*?^}$/gm).map((text) => [/function (\w+)/.exec(text)[1], text]));
const [has, known] = [functions(plain), functions(threads)];
const called = (text) => text.match(/\w+/g).filter((word) => has.has(word) || known.has(word));
// A closure is called by a function with a number, which the two scripts need not share.
for (const [mine, theirs] of both) {
  called(mine.text).forEach((name, i) => {
    const other = called(theirs.text)[i];
    const [from, to] = [exported(renamed(has.get(name))), exported(known.get(other))];
    if (name !== other && `${from}` !== `${to}`) throw new Error(`${name} calls ${from}, ${other} calls ${to}`);
  });
}
const missing = new Map();
for (let text = own.join("\n"); text; ) {
  const more = called(text).filter((name) => !known.has(name) && !missing.has(name));
  for (const name of more) missing.set(name, renamed(has.get(name)));
  text = more.map((name) => missing.get(name)).join("\n");
}
const script = [
  ...threads.lines.slice(0, threads.end),
  ...own,
  ...threads.lines.slice(threads.end),
  ...missing.values(),
  "",
].join("\n");
writeFileSync(threadsFile, script);

for (const file of modules) writeFileSync(file, renamedModule(readFileSync(file)));

/** A module with other names of its imports and exports. */
function renamedModule(wasm) {
  const out = [wasm.subarray(0, 8)];
  for (let at = 8; at < wasm.length; ) {
    const start = at;
    const id = wasm[at++];
    const size = number();
    const end = at + size;
    if (id !== 2 && id !== 7) out.push(wasm.subarray(start, end));
    else {
      const count = number();
      const items = Array.from({ length: count }, id === 2 ? importItem : exportItem);
      const body = Buffer.concat([leb(count), ...items]);
      out.push(Buffer.from([id]), leb(body.length), body);
    }
    at = end;

    function number() {
      let value = 0;
      for (let shift = 0; ; shift += 7) {
        const byte = wasm[at++];
        value += (byte & 127) * 2 ** shift;
        if (byte < 128) return value;
      }
    }
    function name() {
      const length = number();
      at += length;
      return wasm.subarray(at - length, at).toString();
    }
    function importItem() {
      const module = name();
      const field = imports.of(name());
      const from = at;
      const kind = wasm[at++];
      // A function's type; of tables and memories, limits.
      if (kind === 0) number();
      else if (kind === 1 || kind === 2) {
        if (kind === 1) at++;
        const flags = wasm[at++];
        number();
        if (flags & 1) number();
      } else throw new Error(`${module}.${field} is an import of kind ${kind}, which is not expected`);
      return Buffer.concat([text(module), text(field), wasm.subarray(from, at)]);
    }
    function exportItem() {
      const field = exports.of(name());
      const from = at++;
      number();
      return Buffer.concat([text(field), wasm.subarray(from, at)]);
    }
  }
  return Buffer.concat(out);
}

function leb(value) {
  const out = [];
  do {
    out.push((value % 128) + (value > 127 ? 128 : 0));
    value = Math.floor(value / 128);
  } while (value);
  return Buffer.from(out);
}

function text(value) {
  const bytes = Buffer.from(value);
  return Buffer.concat([leb(bytes.length), bytes]);
}
