// The package as users get it: what is in it, how large it is, and that importing it needs no browser.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { SHORT_NAMES } from "../tools/internal-names.mjs";

const web = fileURLToPath(new URL("..", import.meta.url));
const gz = (/** @type {string} */ file) => gzipSync(readFileSync(`${web}/dist/${file}`), { level: 9 }).length;

const licenses = ["LICENSE-APACHE", "LICENSE-MIT"];
const builds = ["base", "relaxed", "threads", "threads-relaxed"];

test("the package holds its parts and the notice, and nothing of the sources", () => {
  const [{ files }] = JSON.parse(execFileSync("npm", ["pack", "--dry-run", "--json"], { cwd: web, encoding: "utf8" }));
  const names = files.map((/** @type {{ path: string }} */ f) => f.path);
  const doors = [
    "index",
    "ai-sdk",
    "conversations",
    "prompt-api",
    "react",
    "remote",
    "share",
    "testing",
    "tools",
    "worker",
  ];
  const parts = [...doors.flatMap((name) => [`${name}.js`, `${name}.d.ts`]), "THIRD-PARTY.md", "single.mjs"];
  for (const name of [...parts, ...builds.map((b) => `pagelm-${b}.wasm`)])
    assert.ok(names.includes(`dist/${name}`), name);
  const odd = names.filter((/** @type {string} */ n) => !/^(dist\/|package\.json$|README|LICENSE)/.test(n));
  assert.deepEqual(odd, []);
  assert.deepEqual(names.filter((/** @type {string} */ n) => n.startsWith("LICENSE")).sort(), licenses);
});

test("the tarball has the licences word for word, and every file that its entries name", () => {
  const dir = mkdtempSync(`${tmpdir()}/pagelm-pack-`);
  try {
    const pack = ["pack", "--json", "--pack-destination", dir];
    const [{ filename }] = JSON.parse(execFileSync("npm", pack, { cwd: web, encoding: "utf8" }));
    execFileSync("tar", ["xzf", `${dir}/${filename}`, "-C", dir]);
    for (const name of licenses) {
      assert.equal(readFileSync(`${dir}/package/${name}`, "utf8"), readFileSync(`${web}/../${name}`, "utf8"));
    }
    const { exports } = JSON.parse(readFileSync(`${dir}/package/package.json`, "utf8"));
    const entries = Object.values(exports).flatMap((e) => (typeof e === "string" ? [e] : Object.values(e)));
    for (const entry of entries.filter((e) => !e.includes("*")))
      assert.ok(existsSync(`${dir}/package/${entry}`), entry);
    const scripts = Object.entries(exports).filter(([, e]) => JSON.stringify(e).includes('.js"'));
    for (const [name, entry] of scripts) assert.ok(entry.types, `${name} has no types`);
    // What people check packages with: its files and fields, and its types as each way of resolving them finds them.
    const tarball = `${dir}/${filename}`;
    for (const [tool, ...args] of [
      ["publint", "run", "--strict", tarball],
      ["attw", "--profile", "esm-only", tarball],
    ]) {
      const { status, stdout, stderr } = spawnSync(`${web}/node_modules/.bin/${tool}`, args, {
        cwd: web,
        encoding: "utf8",
      });
      assert.equal(status, 0, `${tool}: ${stdout}\n${stderr}`);
    }
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test("what a page loads stays below 2 MB of wasm and 30 KB of scripts, compressed", (t) => {
  // What stands beside the engine, and what only tests import, counts for itself.
  const beside = [
    "ai-sdk.js",
    "conversations.js",
    "prompt-api.js",
    "react.js",
    "remote.js",
    "share.js",
    "testing.js",
    "tools.js",
  ];
  const scripts = readdirSync(`${web}/dist`).filter((f) => f.endsWith(".js") && !beside.includes(f));
  for (const [name, most] of /** @type {const} */ ([
    ["ai-sdk.js", 5_000],
    ["conversations.js", 6_500],
    ["prompt-api.js", 7_500],
    ["react.js", 4_500],
    ["remote.js", 4_000],
    ["share.js", 4_000],
    ["tools.js", 1_500],
  ]))
    assert.ok(gz(name) < most, `${name} has ${gz(name)} bytes`);
  const sizes = Object.fromEntries([...scripts, ...builds.map((b) => `pagelm-${b}.wasm`)].map((f) => [f, gz(f)]));
  t.diagnostic(JSON.stringify(sizes));
  // The size that the README gives is that of the largest build, to a tenth.
  const said = Number(/about ([\d.]+) MB\s+compressed/.exec(readFileSync(`${web}/README.md`, "utf8"))?.[1]);
  const largest = Math.max(...builds.map((b) => gz(`pagelm-${b}.wasm`)));
  assert.ok(Math.abs(said - largest / 1e6) <= 0.1, `README.md says ${said} MB, the largest build has ${largest} bytes`);
  for (const build of builds) assert.ok(gz(`pagelm-${build}.wasm`) < 2e6, build);
  // All of them: the page's script and the workers', with the glue of modules with and without threads.
  assert.ok(scripts.reduce((sum, f) => sum + gz(f), 0) < 30_000);
});

test("the hook says that it is for clients, to who builds pages on a server, and takes the page's React", () => {
  const react = readFileSync(`${web}/dist/react.js`, "utf8");
  assert.match(react, /^["'`]use client["'`];/);
  assert.match(react, /from\s*["'`]react["'`]/);
});

test("names that the build shortens are those of the package alone", () => {
  const modules = `${web}/node_modules`;
  const types = readdirSync(`${web}/dist`, { recursive: true, encoding: "utf8" }).filter((f) => f.endsWith(".d.ts"));
  const compiler = readdirSync(`${modules}/@typescript`).find((name) => name.startsWith("typescript-"));
  const libs = ["dom", "webworker", "es5"].map((name) => `${modules}/@typescript/${compiler}/lib/lib.${name}.d.ts`);
  const files = [
    ...types.map((f) => `${web}/dist/${f}`),
    ...libs,
    `${modules}/@webgpu/types/dist/index.d.ts`,
    `${web}/src/worker/bindings.d.ts`,
  ];
  const declared = new Set();
  for (const file of files) {
    const text = readFileSync(file, "utf8").replace(/\/\*[\s\S]*?\*\//g, "");
    for (const [, name] of text.matchAll(/([A-Za-z_$][\w$]*)\??\s*[:(<]/g)) declared.add(name);
  }
  assert.ok(declared.has("createEngine") && declared.has("onmessage") && declared.has("hubFiles"));
  // What a log of the store has in its lines.
  for (const name of ["url", "model", "part", "parts", "name", "version", "size", "sha256", "checked"])
    declared.add(name);
  const names = Object.keys(SHORT_NAMES);
  assert.deepEqual(
    names.filter((name) => declared.has(name)),
    [],
  );
  // Names in quotes stay as they are.
  const sources = readdirSync(`${web}/src`, { recursive: true, encoding: "utf8" }).filter((f) =>
    /(page|worker)\//.test(f),
  );
  for (const file of sources.filter((f) => f.endsWith(".ts")))
    assert.doesNotMatch(readFileSync(`${web}/src/${file}`, "utf8"), new RegExp(`"(${names.join("|")})" in `), file);
  // Page and worker speak of these.
  for (const name of ["attached", "credit", "folder", "life"])
    for (const script of ["index", "worker"])
      assert.ok(
        readFileSync(`${web}/dist/${script}.js`, "utf8").includes(SHORT_NAMES[name] ?? name),
        `${name} in ${script}.js`,
      );
});

test("the worker's script is whole, and bundlers of users find what it names", () => {
  const worker = readFileSync(`${web}/dist/worker.js`, "utf8");
  assert.doesNotMatch(worker, /^\s*(import|export)[\s{*"']|\bimport\s*\(/m);
  for (const build of builds)
    assert.match(worker, new RegExp(`new URL\\("\\./pagelm-${build}\\.wasm",\\s*import\\.meta\\.url`));
  // Parcel reads `main` and not `exports`.
  const { main, exports } = JSON.parse(readFileSync(`${web}/package.json`, "utf8"));
  assert.equal(main, exports["."].default);
  const index = readFileSync(`${web}/dist/index.js`, "utf8");
  assert.match(
    index,
    /new Worker\(new URL\("\.\/worker\.js",\s*import\.meta\.url\s*\),\s*\{\s*type:\s*"module"\s*\}\)/,
  );
});

test("the public types name nothing that is internal, and nothing that is not there", () => {
  const types = readdirSync(`${web}/dist`, { recursive: true, encoding: "utf8" }).filter((f) => f.endsWith(".d.ts"));
  assert.ok(types.length > 5, `${types}`);
  for (const file of types) {
    const text = readFileSync(`${web}/dist/${file}`, "utf8");
    assert.doesNotMatch(text, /\b(Client|Port|Operations|Wire[A-Z]\w*)\b|@internal/, file);
    for (const [, path = ""] of text.matchAll(/(?:from |import\()"(\.[^"]+)\.ts"/g))
      assert.ok(existsSync(join(`${web}/dist`, dirname(file), `${path}.d.ts`)), `${file}: ${path}`);
  }
});

test("the package can be imported where there is no browser, and says so when used", async () => {
  const { createEngine, capabilities } = await import(`${web}/dist/index.js`);
  assert.equal((await capabilities()).webgpu.available, false);
  await assert.rejects(createEngine({ model: "http://localhost/a.gguf" }), { code: "engine-not-loaded" });
});

test("every code of the engine's errors is known to the package", () => {
  const rust = readFileSync(`${web}/../crate/error.rs`, "utf8");
  const codes = [...rust.matchAll(/^ {4}\w+ = "([a-z-]+)",$/gm)].map((m) => m[1]);
  const typescript = readFileSync(`${web}/src/shared/errors.ts`, "utf8");
  assert.ok(codes.length > 20);
  assert.deepEqual(
    codes.filter((code) => !typescript.includes(`"${code}"`)),
    [],
  );
});
