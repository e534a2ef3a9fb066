// What the documentation says holds: its code compiles and runs, its commands parse, its links lead somewhere, and each code of an
// error has a cause and a remedy. `make docs` checks the links of the built pages too.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { build, transform } from "esbuild";
import { SECTIONS } from "../../docs/errors.mjs";
import { launch } from "../../tools/browsers.mjs";
import { cache } from "../../tools/cache.mjs";
import { serve } from "../../tools/serve.mjs";
import { skip } from "../skipped.mjs";
import { anchors, blocks, inLanguage, meanings, pages } from "./blocks.mjs";

const at = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));
const MODELS = ["SmolLM2-135M-Instruct.Q4_1.gguf", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"];
const SCRIPTS = ["js", "jsx", "ts", "tsx"];
/** Commands of others in the pages, which are not run here: they install, copy, serve and compile. */
const OTHERS = /^(npm|npx|cp|cd|cargo) /;
const entries = ["ai-sdk", "conversations", "prompt-api", "react", "remote", "share", "testing", "tools"];

const made = mkdtempSync(join(tmpdir(), "pagelm-docs-"));
after(() => rmSync(made, { recursive: true }));
symlinkSync(at("../../node_modules"), join(made, "node_modules"));
const ours = inLanguage(...SCRIPTS).filter(({ kind }) => kind !== "other");
for (const { name, language, code } of ours) writeFileSync(join(made, `${name}.${language}`), `${code}\nexport {};\n`);

test("each code of an error has a cause and a remedy, and no other has", () => {
  const written = SECTIONS.flatMap(([, of]) => Object.entries(of));
  assert.deepEqual(written.map(([code]) => code).sort(), [...meanings.keys()].sort());
  assert.ok(meanings.size > 40, `${meanings.size} codes were found`);
  for (const [code, [cause, remedy]] of written)
    assert.ok(meanings.get(code) && cause && remedy, `${code} lacks its meaning, its cause or its remedy`);
});

test("links lead to pages and headings that are there", () => {
  const config = readFileSync(at("../../docs/astro.config.mjs"), "utf8");
  const listed = [...config.matchAll(/items: \[(.*?)\]/g)].flatMap(([, list = ""]) => list.match(/[\w-]+/g) ?? []);
  assert.deepEqual(listed.sort(), [...pages.keys()].filter((name) => name !== "index").sort());
  let links = 0;
  for (const [page, text] of pages) {
    for (const [, to = "", anchor = ""] of text.matchAll(/(?:\]\(|link: )\/([\w-]*)\/(?:#([^)\s]*))?/g)) {
      links++;
      const there = pages.get(to);
      assert.ok(there, `${page}: no page ${to}`);
      if (anchor) assert.ok(anchors(there).includes(anchor), `${page}: no heading #${anchor} in ${to}`);
    }
  }
  assert.ok(links > 30, `${links} links were found`);
});

test("every block is of a kind that is checked", () => {
  const languages = [...SCRIPTS, "sh", "html", "http"];
  for (const { where, language, kind } of blocks)
    assert.ok(languages.includes(language) && /^(run|check|other)$/.test(kind), `${where}: ${language} ${kind}`);
});

test("code for other packages parses", async () => {
  const others = inLanguage(...SCRIPTS).filter(({ kind }) => kind === "other");
  assert.ok(others.length > 4, `${others.length} blocks`);
  for (const { where, code } of others)
    await transform(code, { loader: "jsx", format: "esm" }).catch((e) => assert.fail(`${where}: ${e}`));
});

test("code compiles against the package", () => {
  const paths = Object.fromEntries([
    ["pagelm", [at("../../dist/index.d.ts")]],
    ...entries.map((name) => [`pagelm/${name}`, [at(`../../dist/${name}.d.ts`)]]),
  ]);
  const compilerOptions = {
    paths,
    target: "es2023",
    lib: ["es2023", "dom", "dom.iterable", "dom.asynciterable", "esnext.disposable"],
    module: "esnext",
    moduleResolution: "bundler",
    moduleDetection: "force",
    jsx: "react-jsx",
    types: ["@webgpu/types", "react"],
    typeRoots: [at("../../node_modules"), at("../../node_modules/@types")],
    // As most pages are written.
    strict: false,
    skipLibCheck: true,
    allowJs: true,
    checkJs: true,
    noEmit: true,
  };
  const files = [at("../../docs/blocks.d.ts"), ...ours.map(({ name, language }) => `${name}.${language}`)];
  writeFileSync(join(made, "tsconfig.json"), JSON.stringify({ compilerOptions, files }));
  const { status, stdout } = spawnSync("npx", ["tsc", "--project", join(made, "tsconfig.json"), "--pretty", "false"], {
    cwd: at("../.."),
    encoding: "utf8",
  });
  const named = stdout.replaceAll(/[\w-]+(?=\.jsx?\()/g, (name) => ours.find((b) => b.name === name)?.where ?? name);
  assert.equal(status, 0, named);
});

test("commands of pagelm parse", (t) => {
  const lines = inLanguage("sh").flatMap(({ where, code }) =>
    code
      .trim()
      .split("\n")
      .map((line) => ({ where, line })),
  );
  const program = join(process.env.CARGO_TARGET_DIR ?? at("../../../target"), "debug/pagelm");
  const commands = lines.filter(({ line }) => line.startsWith("pagelm "));
  assert.ok(commands.length > 8, `${commands.length} commands`);
  for (const { where, line } of lines) assert.ok(/^pagelm /.test(line) || OTHERS.test(line), `${where}: ${line}`);
  if (!existsSync(program)) return skip(t, "the command is not built");
  for (const { where, line } of commands) {
    // Names that follow are looked at before the last flag is, and that one asks for nothing but help.
    const args = [...line.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, word]) => quoted ?? word ?? "").slice(1);
    const { status, stderr } = spawnSync(program, [...args, "--help"], { encoding: "utf8" });
    assert.equal(status, 0, `${where}: ${line}: ${stderr}`);
    const help = execFileSync(program, [args[0] ?? "", "--help"], { encoding: "utf8" });
    for (const flag of args.filter((arg) => arg.startsWith("--")))
      assert.match(help, new RegExp(`${flag}\\b`), `${where}: ${args[0]} has no ${flag}`);
  }
});

test("code runs in a page", { timeout: 600_000 }, async (t) => {
  for (const model of MODELS)
    if (!existsSync(join(cache, "models", model))) return skip(t, `${model} is not downloaded`);
  const runs = ours.filter(({ kind, language }) => kind === "run" && language === "js");
  assert.ok(runs.length > 25, `${runs.length} blocks`);
  await build({
    entryPoints: runs.map(({ name }) => join(made, `${name}.js`)),
    outdir: join(made, "out"),
    bundle: true,
    splitting: true,
    format: "esm",
    target: "esnext",
    logLevel: "warning",
    // The package as it is built; what names a model gets one that is here.
    plugins: [
      {
        name: "here",
        setup: (b) =>
          b.onResolve({ filter: /^pagelm(\/|$)/ }, ({ path }) => {
            const here = ["pagelm", "pagelm/prompt-api"].includes(path);
            return { path: here ? "/pagelm.js" : path.replace("pagelm", "/dist").concat(".js"), external: true };
          }),
      },
    ],
  });
  const mounts = {
    "/": at("."),
    "/dist": at("../../dist"),
    "/models": join(cache, "models"),
    "/golden": at("../../../tests/golden"),
    "/out": join(made, "out"),
  };
  const server = await serve({ mounts });
  const browser = await launch("chromium");
  after(async () => {
    await browser.close();
    await server.close();
  });
  const page = await browser.open(`${server.url}/page.html`);
  await page.waitForFunction(() => "docs" in globalThis);
  for (const { name, where } of runs) {
    await t.test(where, async () => {
      const shown = await page.evaluate((url) => globalThis.docs.run(url), `/out/${name}.js`);
      for (const text of shown) assert.doesNotMatch(text, /undefined|NaN|\[object/);
    });
  }
  assert.deepEqual(page.errors, []);
});
