// One server and one page for a whole test file.
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { fileURLToPath } from "node:url";
import { crc32, deflateSync } from "node:zlib";
import { launch } from "../../tools/browsers.mjs";
import { cache } from "../../tools/cache.mjs";
import { serve } from "../../tools/serve.mjs";
import { inParts, longer, spelled } from "./gguf.mjs";
import { mixed, retyped, TYPES } from "./retyped.mjs";

const at = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));

export const reference = JSON.parse(readFileSync(at("../../../tests/reference/smollm2-135m-chat.json"), "utf8"));
/** Tiny models and their numbers. */
const goldens = at("../../../tests/golden");
export const fixture = (/** @type {string} */ name) => JSON.parse(readFileSync(join(goldens, name), "utf8"));
/** A real model and the reference's numbers for it, where it is downloaded. @param {string} file @param {string} numbers */
export function real(file, numbers) {
  if (!existsSync(join(cache, "models", file))) return undefined;
  const path = at(`../../../tests/reference/greedy-${numbers}.json`);
  return { url: `/models/${file}`, prompts: JSON.parse(readFileSync(path, "utf8")).prompts };
}
export const golden = fixture("llama.json");
export const SMOLLM = `/models/${reference.model}`;
export const TINY = "/golden/llama.gguf";
/** Bytes that the tiny model needs not, in `/made/long.gguf`: enough for many blocks. */
const LONG = 24 << 20;
/** What loads have here unless they say otherwise: the tests are about numbers, and each of them fetches its model. */
const EXACT = { activations: "f32", kvType: "f32", cache: false };

/**
 * The package as bundlers change it: the worker is a classic script, where `bundled.js?worker=URL` says, though some start
 * it as a module (`&type=module`). And a folder
 * with one build of the module. @param {string} made
 */
function bundle(made) {
  const dist = at("../../dist");
  const text = (/** @type {string} */ name) => readFileSync(join(dist, name), "utf8");
  const worker = /new URL\("\.\/worker\.js",\s*import\.meta\.url\s*\),\s*\{\s*type:\s*"module"\s*\}/;
  const given = "new URL(given.get('worker'), import.meta.url), { type: given.get('type') ?? 'classic' }";
  const index = text("index.js").replace(worker, given);
  if (!index.includes(given)) throw new Error("bundlers would not find the worker in index.js");
  for (const folder of ["one", "bundle"]) mkdirSync(join(made, folder));
  const search = "const given = new URL(import.meta.url).searchParams;";
  writeFileSync(join(made, "bundle/bundled.js"), `${search}\n${index}`);
  writeFileSync(join(made, "bundle/worker.js"), text("worker.js").replaceAll("import.meta.url", "self.location.href"));
  symlinkSync(join(dist, "pagelm-base.wasm"), join(made, "one/pagelm-base.wasm"));
  for (const name of readdirSync(dist)) {
    if (name.endsWith(".wasm")) symlinkSync(join(dist, name), join(made, "bundle", name));
  }
}

const quants = Object.entries(
  /** @type {Record<string, { gguf: string }>} */ (fixture("quants/models.json").variants),
).map(([type, { gguf }]) => /** @type {[string, Buffer]} */ ([type, readFileSync(join(goldens, "quants", gguf))]));
const RETYPED = Object.entries(TYPES).map(
  ([name, type]) =>
    /** @type {[string, Buffer]} */ ([name, retyped(readFileSync(join(goldens, "quants/qwen3_q8_0.gguf")), type)]),
);
/** Models in `/made` that have a matrix of every type. */
export const MIXED = mixed([...quants, ...RETYPED]).map(({ types, file }, i) => ({
  name: `mixed-${i}.gguf`,
  types,
  file,
}));

/** Messages with images, for a tiny model that sees. `tests/cli/images.rs` has the same. */
const SEES = (/** @type {string} */ place) =>
  "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}" +
  `{% if p.type == 'image' %}[${place}{% else %}{{ p.text }}{% endif %}{% endfor %}` +
  "{% endif %}{% endfor %}";
const PLACE = "<|vision_start|><|image_pad|><|vision_end|>";
const PLACES = { qwen3vl: PLACE, qwen35vl: PLACE, gemma3vl: "<start_of_image>" };

/** A model with a chat template. @param {Buffer} file @param {string} template */
export function withTemplate(file, template) {
  const key = "tokenizer.chat_template";
  // Tensors stay aligned. Comments of a template write nothing.
  const length = 8 + key.length + 4 + 8 + template.length;
  const text = `${template}{#${" ".repeat(32 + ((-length - 4) & 31))}#}`;
  const entry = Buffer.alloc(8 + key.length + 4 + 8);
  entry.writeBigUInt64LE(BigInt(key.length));
  entry.write(key, 8);
  entry.writeUInt32LE(8, 8 + key.length);
  entry.writeBigUInt64LE(BigInt(text.length), 12 + key.length);
  const more = Buffer.concat([file.subarray(0, 24), entry, Buffer.from(text), file.subarray(24)]);
  more.writeUInt32LE(more.readUInt32LE(16) + 1, 16);
  return more;
}

/** A model of these whose text is its ids, as `spelled` has it. @param {keyof typeof PLACES} name */
export function seeingIds(name) {
  return withTemplate(spelled(readFileSync(join(goldens, `${name}.gguf`))), SEES(PLACES[name]).replace("[", ""));
}

/** A tiny model that sees, with a chat template, and the part of it that does. */
export function seeing(/** @type {keyof typeof PLACES} */ name = "qwen3vl") {
  const [model, mmproj] = [`${name}.gguf`, `mmproj-${name}.gguf`].map((file) => readFileSync(join(goldens, file)));
  const template = SEES(PLACES[name]);
  return { model: withTemplate(/** @type {Buffer} */ (model), template), mmproj: /** @type {Buffer} */ (mmproj) };
}

/** The fixture's image of a case, as a `data:` URL. @param {{ image: { width: number, height: number, rgb_u8_hex: string } }} of */
export function dataUrl({ image: { width, height, rgb_u8_hex: hex } }) {
  const row = (/** @type {number} */ y) => Buffer.from(hex.slice(6 * width * y, 6 * width * (y + 1)), "hex");
  const rows = Array.from({ length: height }, (_, y) => Buffer.concat([Buffer.of(0), row(y)]));
  const chunk = (/** @type {string} */ type, /** @type {Buffer} */ data) => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const ends = Buffer.alloc(8);
    ends.writeUInt32BE(data.length);
    ends.writeUInt32BE(crc32(body), 4);
    return Buffer.concat([ends.subarray(0, 4), body, ends.subarray(4)]);
  };
  const head = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 8, 2, 0, 0, 0]);
  head.writeUInt32BE(width);
  head.writeUInt32BE(height, 4);
  const parts = [chunk("IHDR", head), chunk("IDAT", deflateSync(Buffer.concat(rows))), chunk("IEND", Buffer.alloc(0))];
  const start = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return `data:image/png;base64,${Buffer.concat([start, ...parts]).toString("base64")}`;
}

/** @typedef {import("./page.js").E2E} E2E */

/**
 * Serves the package, models and broken models, and opens the page. Loads are exact unless they say otherwise: figures of another implementation are about these.
 * @param {import("../../tools/browsers.mjs").Browser} name
 * @param {{ isolated?: boolean, load?: object, headers?: Record<string, string> }} options
 *   isolated: with COOP and COEP; load: for every load; headers: more for every answer
 */
export async function start(name, { isolated = true, load = {}, headers = {} } = {}) {
  const made = mkdtempSync(join(tmpdir(), "pagelm-e2e-"));
  const tiny = readFileSync(at("../../../tests/golden/llama.gguf"));
  writeFileSync(join(made, "cut.gguf"), tiny.subarray(0, tiny.length - 5000));
  writeFileSync(join(made, "cut-header.gguf"), tiny.subarray(0, 2000));
  // Whole ones, one each for tests that need a path of their own.
  for (const backend of ["webgpu", "cpu"]) writeFileSync(join(made, `${backend}.gguf`), tiny);
  writeFileSync(join(made, "page.html"), "<!doctype html><title>Sign in</title>");
  // The first `llama` of a file is the value of `general.architecture`.
  const other = Buffer.from(tiny);
  const where = other.indexOf("general.architecture");
  other.write("mamba", other.indexOf("llama", where));
  writeFileSync(join(made, "other.gguf"), other);
  writeFileSync(join(made, "sees.gguf"), seeing().model);
  writeFileSync(join(made, "gemma-sees.gguf"), seeing("gemma3vl").model);
  writeFileSync(join(made, "ids-see.gguf"), seeingIds("qwen35vl"));
  // One key more, of 32 bytes, so that the tensors stay aligned: its name, its type (u32) and its value.
  const entry = Buffer.alloc(32);
  entry.writeBigUInt64LE(16n);
  entry.write("prism.hadamard.x", 8);
  entry.writeUInt32LE(4, 24);
  const unknown = Buffer.concat([tiny.subarray(0, 24), entry, tiny.subarray(24)]);
  unknown.writeUInt32LE(unknown.readUInt32LE(16) + 1, 16);
  writeFileSync(join(made, "unknown.gguf"), unknown);
  const { before, after: rest } = longer(tiny, LONG);
  const more = Buffer.from(Uint32Array.from({ length: LONG / 4 }, (_, i) => Math.imul(i + 1, 2654435761)).buffer);
  writeFileSync(join(made, "long.gguf"), Buffer.concat([before, more, rest]));
  for (const folder of ["split", "lost", "short"]) {
    mkdirSync(join(made, folder));
    for (const [i, part] of inParts(tiny, 3).entries()) {
      const [lost, short] = [folder === "lost", folder === "short"].map((bad) => bad && i === 1);
      if (!lost)
        writeFileSync(join(made, folder, `m-0000${i + 1}-of-00003.gguf`), short ? part.subarray(0, -1000) : part);
    }
  }
  for (const [name, file] of RETYPED) writeFileSync(join(made, `${name}.gguf`), file);
  for (const { name, file } of MIXED) writeFileSync(join(made, name), file);

  bundle(made);

  const mounts = { "/": at("."), "/dist": at("../../dist"), "/golden": goldens };
  const server = await serve({
    isolated,
    headers,
    mounts: {
      ...mounts,
      "/models": join(cache, "models"),
      "/made": made,
    },
  });
  const browser = await launch(name);
  after(async () => {
    await browser.close();
    await server.close();
    rmSync(made, { recursive: true });
  });
  /** Opens a page that has `e2e`. @param {string} url */
  async function open(url, within = browser) {
    const page = await within.open(new URL(url, server.url).href);
    await page.waitForFunction(() => "e2e" in globalThis);
    /**
     * Calls a function of page.js there. An error comes back as data, so that its code is not lost on the way.
     * @template {keyof E2E} K @param {K} method @param {Parameters<E2E[K]>} args
     * @returns {Promise<Awaited<ReturnType<E2E[K]>>>}
     */
    async function call(method, ...args) {
      const given = method === "load" ? [{ ...EXACT, ...load, .../** @type {object} */ (args[0]) }] : args;
      const answer = await page.evaluate(
        ([method, args]) => {
          const run = /** @type {(...args: unknown[]) => Promise<unknown>} */ (e2e[method]);
          return e2e.failure(() => run(...args));
        },
        /** @type {const} */ ([method, given]),
      );
      if ("message" in answer) {
        const { code, message, name } = answer;
        throw code ? Object.assign(new Error(message), answer) : new Error(`${name}: ${message}`);
      }
      return /** @type {Awaited<ReturnType<E2E[K]>>} */ (answer.value);
    }
    return { page, call };
  }
  return { server, browser, mounts, made, open, ...(await open("/page.html")) };
}
