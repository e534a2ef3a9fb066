#!/usr/bin/env node
// Writes the engine as one script, with wasm in it, for what takes one file: extensions, user scripts, archives of pages.
//
//   npx pagelm-single [--builds base,threads] OUT.js     then: import { createEngine } from "./OUT.js"
//
// The script is the page's and, under the name `pagelm`, that of its workers. Bundlers must leave it as it is.
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const BUILDS = ["base", "relaxed", "threads", "threads-relaxed"];
const USAGE = `usage: pagelm-single [--builds ${BUILDS.join(",")}] OUT.js; base, the default, runs everywhere`;

/** @param {string[]} args */
function main(args) {
  const at = args.indexOf("--builds");
  const [, list = ""] = at < 0 ? [] : args.splice(at, 2);
  const builds = list ? list.split(",") : ["base"];
  const [out, ...rest] = args;
  if (!out || out.startsWith("-") || rest.length > 0 || builds.some((build) => !BUILDS.includes(build))) {
    console.error(USAGE);
    process.exit(2);
  }
  writeFileSync(out, single(builds));
}

/** @param {string[]} builds */
function single(builds) {
  const read = (/** @type {string} */ name) => readFileSync(fileURLToPath(new URL(name, import.meta.url)));
  /** @param {string} text @param {RegExp} what @param {(...found: string[]) => string} by */
  const replaced = (text, what, by) => {
    const made = text.replace(what, by);
    if (made === text) throw new Error(`pagelm-single: ${what} is not in the package's scripts; is it whole?`);
    return made;
  };
  const started = /new Worker\(new URL\("\.\/worker\.js",\s*import\.meta\.url\s*\),\s*\{\s*type:\s*"module"\s*\}\)/;
  const page = replaced(
    read("index.js").toString(),
    started,
    () => 'new Worker(import.meta.url,{type:"module",name:"pagelm"})',
  );
  const file = /new URL\("\.\/pagelm-([a-z-]+)\.wasm",\s*import\.meta\.url\s*\)/g;
  const worker = replaced(read("worker.js").toString(), file, (_, build) => `pagelmFile("${build}")`);
  const files = Object.fromEntries(builds.map((build) => [build, read(`pagelm-${build}.wasm`).toString("base64")]));
  const { name, version, license } = JSON.parse(read("../package.json").toString());
  return `/*! ${name} ${version} (${license}). THIRD-PARTY.md in its package says what else is in here. */
${page}
if (globalThis.name === "pagelm" && typeof WorkerGlobalScope !== "undefined") {
  const files = ${JSON.stringify(files)};
  const pagelmFile = (build) => {
    if (!(build in files)) throw new Error("the build " + build + " is not in this script");
    const bytes = Uint8Array.from(atob(files[build]), (c) => c.charCodeAt(0));
    return new URL(URL.createObjectURL(new Blob([bytes], { type: "application/wasm" })));
  };
  (() => {
${worker}
  })();
}
`;
}

main(process.argv.slice(2));
