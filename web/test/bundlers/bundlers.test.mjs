// The package as npm gives it, unchanged, in the bundlers that users have: each makes a page that answers, with threads,
// under a content security policy. And where there is no page: it can be imported in other runtimes.
//
// Those that take long take turns, one a day; PAGELM_BUNDLERS=all runs all of them.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build as esbuild } from "esbuild";
import { createServer, build as vite } from "vite";
import { launch } from "../../tools/browsers.mjs";
import { serve } from "../../tools/serve.mjs";
import { skip } from "../skipped.mjs";
import { install } from "./install.mjs";

const at = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));
const installed = install("bundlers", at("."), ["app.js", "main.js", "import.mjs", "next"]);
const here = installed ?? "";
const modules = join(here, "node_modules");
const golden = at("../../../tests/golden");
const made = mkdtempSync(join(tmpdir(), "pagelm-bundlers-"));
after(() => rmSync(made, { recursive: true, force: true }));
/** A package of the fixture. @param {string} name @returns {Promise<any>} */
const tool = (name) => import(pathToFileURL(createRequire(join(here, "package.json")).resolve(name)).href);

const POLICY =
  "default-src 'self'; img-src 'self' data:; base-uri 'none'; object-src 'none'; script-src 'self' 'wasm-unsafe-eval'";
const PAGE =
  '<!doctype html><title>x</title><link rel="icon" href="data:,"><script type="module" src="./main.js"></script>';
/** What some bundlers do not find, beside what they wrote. @param {string} out */
function beside(out) {
  const dist = join(modules, "pagelm/dist");
  for (const name of readdirSync(dist))
    if (name === "worker.js" || name.endsWith(".wasm")) copyFileSync(join(dist, name), join(out, name));
}
/** @param {string} out */
function page(out) {
  mkdirSync(out, { recursive: true });
  writeFileSync(join(out, "index.html"), PAGE);
}
/** An app with a folder of packages of its own. @param {string} name */
function forVite(name) {
  const root = join(made, name);
  page(root);
  for (const name of ["app.js", "main.js"]) copyFileSync(join(here, name), join(root, name));
  cpSync(join(modules, "pagelm"), join(root, "node_modules/pagelm"), { recursive: true });
  return root;
}
/** Runs a program of the fixture. @param {string} name @param {string[]} args @param {string} cwd */
function run(name, args, cwd = here) {
  const env = { ...process.env, NEXT_TELEMETRY_DISABLED: "1", NODE_ENV: "production", CI: "true" };
  try {
    execFileSync(join(modules, ".bin", name), args, { cwd, env, encoding: "utf8", stdio: "pipe" });
  } catch (e) {
    const { stdout, stderr } = /** @type {{ stdout: string, stderr: string }} */ (e);
    throw new Error(`${name} ${args.join(" ")}: ${stdout}\n${stderr}`);
  }
}
/** @param {string} out @param {string} bundler */
function next(out, bundler) {
  run("next", ["build", bundler], join(here, "next"));
  cpSync(join(here, "next/out"), out, { recursive: true });
}

/**
 * What makes a page in a folder, by name; or serves it itself.
 * @type {Record<string, (out: string) => Promise<{ url: string, close(): Promise<void> } | void> | void>}
 */
const QUICK = {
  "no bundler"(out) {
    page(out);
    for (const name of ["app.js", "main.js"]) copyFileSync(join(here, name), join(out, name));
    cpSync(join(modules, "pagelm/dist"), join(out, "pagelm"), { recursive: true });
    const doors = ["ai-sdk", "conversations", "prompt-api", "remote", "share", "tools"].map((name) => [
      `pagelm/${name}`,
      `./pagelm/${name}.js`,
    ]);
    const imports = Object.fromEntries([["pagelm", "./pagelm/index.js"], ...doors]);
    const map = `<script type="importmap">${JSON.stringify({ imports })}</script>`;
    writeFileSync(join(out, "index.html"), PAGE.replace("<script", `${map}<script`));
  },
  async vite(out) {
    // As it is without a configuration, but for top-level await.
    const build = { outDir: out, emptyOutDir: true, target: "es2022" };
    await vite({ root: forVite("vite"), build, logLevel: "error", configFile: false });
  },
  async "vite's development server"() {
    const root = forVite("vite-dev");
    cpSync(join(golden, "llama.gguf"), join(root, "public/golden/llama.gguf"));
    const headers = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };
    const server = await createServer({ root, server: { headers, port: 0 }, logLevel: "error", configFile: false });
    await server.listen();
    return { url: server.resolvedUrls?.local[0]?.replace(/\/$/, "") ?? "", close: () => server.close() };
  },
  async webpack(out) {
    page(out);
    const { default: webpack } = await tool("webpack");
    const output = { path: out, filename: "main.js", publicPath: "auto" };
    const options = { mode: "production", context: here, entry: "./main.js", output, performance: { hints: false } };
    const stats = await new Promise((done, fail) =>
      webpack(options, (/** @type {unknown} */ e, /** @type {any} */ stats) => (e ? fail(e) : done(stats))),
    );
    assert.ok(!stats.hasErrors() && !stats.hasWarnings(), stats.toString());
  },
  async esbuild(out) {
    page(out);
    const entryPoints = [join(here, "main.js")];
    await esbuild({ entryPoints, bundle: true, format: "esm", outdir: out, logLevel: "warning", tsconfigRaw: {} });
    beside(out);
  },
  async rollup(out) {
    page(out);
    const [{ rollup }, { default: resolve }] = [await tool("rollup"), await tool("@rollup/plugin-node-resolve")];
    const bundle = await rollup({ input: join(here, "main.js"), plugins: [resolve()] });
    await bundle.write({ dir: out, format: "es" });
    await bundle.close();
    beside(out);
  },
};
/** @type {typeof QUICK} */
const SLOW = {
  "Next.js": (out) => next(out, "--turbopack"),
  "Next.js with webpack": (out) => next(out, "--webpack"),
  Parcel(out) {
    const source = join(here, ".parcel");
    page(source);
    for (const name of ["app.js", "main.js"]) copyFileSync(join(here, name), join(source, name));
    const args = ["build", join(source, "index.html"), "--dist-dir", out, "--no-cache", "--no-source-maps"];
    try {
      run("parcel", [...args, "--public-url", "./"]);
    } finally {
      rmSync(source, { recursive: true });
    }
  },
};
const turn = Math.floor(Date.now() / 86_400_000) % Object.keys(SLOW).length;
const slow = Object.entries(SLOW).filter((_, i) => process.env.PAGELM_BUNDLERS === "all" || i === turn);

/** @type {Awaited<ReturnType<typeof launch>> | undefined} */
let browser;
after(() => browser?.close());
/** What the page says without a bundler, which others must say too. */
let expected = "";

/** Opens a page, and waits for what it says of its model. @param {Awaited<ReturnType<typeof launch>>} browser @param {string} url */
async function told(browser, url) {
  const page = await browser.open(`${url}/`);
  await page
    .waitForFunction(() => "said" in globalThis, null, { timeout: 60_000 })
    .catch((e) => assert.fail(`${e}\n${[...page.console, ...page.errors].join("\n")}`));
  const said = await page.evaluate(() => /** @type {any} */ (globalThis).said);
  assert.equal(said.error, undefined, page.console.join("\n"));
  return { page, said };
}

for (const [name, build] of [...Object.entries(QUICK), ...slow]) {
  test(`a page made by ${name} answers`, { timeout: 240_000 }, async (t) => {
    if (!installed) return skip(t, "its bundlers are not installed: run tests/tools/setup.sh bundlers");
    browser ??= await launch("chromium");
    const out = join(made, name.replaceAll(/\W/g, "-"));
    const served = await build(out);
    // Scripts in the page itself: maps of imports, and what Next.js writes.
    const inline = /^(no bundler|Parcel|Next)/.test(name);
    const headers = { "content-security-policy": inline ? `${POLICY} 'unsafe-inline'` : POLICY };
    const server = served ?? (await serve({ mounts: { "/": out, "/golden": golden }, headers }));
    try {
      const { page, said } = await told(browser, server.url);
      expected ||= said.text;
      assert.ok(said.text.length > 0);
      assert.equal(said.text, expected);
      assert.deepEqual(said.doors, Array(6).fill("function"));
      assert.ok(said.threads > 1, `${said.threads} threads: ${said.why}`);
      assert.deepEqual(page.errors, []);
      await page.close();
    } finally {
      await server.close();
    }
  });
}

test("the engine as one script answers, under the policy of extensions", { timeout: 120_000 }, async (t) => {
  if (!installed) return skip(t, "the package is not installed: run tests/tools/setup.sh bundlers");
  browser ??= await launch("chromium");
  const out = join(made, "single");
  page(out);
  const program = join(modules, "pagelm/dist/single.mjs");
  execFileSync(process.execPath, [program, "--builds", "base,threads", join(out, "pagelm.js")]);
  const app = `import { createEngine } from "./pagelm.js"; import { answer, show } from "./app.js";
    show(await answer(createEngine).catch((e) => ({ error: e.message })));`;
  writeFileSync(join(out, "main.js"), app);
  const text = readFileSync(join(here, "app.js"), "utf8");
  // The other entry points stand on the package's folder.
  writeFileSync(
    join(out, "app.js"),
    text.replaceAll(/^import .*$/gm, "").replace(/const entries = .*/, "const entries = [];"),
  );
  const policy = "script-src 'self' 'wasm-unsafe-eval'; object-src 'self'";
  const headers = { "content-security-policy": policy };
  const server = await serve({ mounts: { "/": out, "/golden": golden }, headers });
  try {
    const { page, said } = await told(browser, server.url);
    assert.equal(said.text, expected);
    assert.ok(said.threads > 1, `${said.threads} threads: ${said.why}`);
    assert.deepEqual(
      server.requests.map(({ path }) => path).filter((path) => /worker|wasm/.test(path)),
      [],
    );
    await page.close();
  } finally {
    await server.close();
  }
  const refused = spawnSync(process.execPath, [program, "--builds", "fast", "x.js"], { encoding: "utf8" });
  assert.deepEqual([refused.status, /usage: .*base,relaxed/.test(refused.stderr)], [2, true]);
});

for (const [runtime, args] of /** @type {[string, string[]][]} */ ([
  ["node", []],
  ["deno", ["run", "--allow-read", "--allow-env"]],
  ["bun", ["run"]],
])) {
  test(`${runtime} can import the package, which says what it needs`, { timeout: 60_000 }, async (t) => {
    if (!installed) return skip(t, "its runtimes are not installed: run tests/tools/setup.sh bundlers");
    const program = runtime === "node" ? process.execPath : join(modules, ".bin", runtime);
    const env = { ...process.env, DENO_NO_UPDATE_CHECK: "1" };
    const text = execFileSync(program, [...args, join(here, "import.mjs")], { cwd: here, env, encoding: "utf8" });
    // Some have workers, and fail later.
    assert.match(text.trim(), runtime === "node" ? /^engine-not-loaded$/ : /^(engine-not-loaded|network)$/);
  });
}
