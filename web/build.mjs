// Builds the package into dist/: scripts that are whole, so that each can be copied elsewhere, the wasm files beside them,
// found by `new URL("…", import.meta.url)`, which bundlers of users understand, and the types.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import swc from "@swc/core";
import { build } from "esbuild";
import { minify } from "vite";
import { SHORT_NAMES } from "./tools/internal-names.mjs";

process.chdir(import.meta.dirname);
rmSync("dist", { recursive: true, force: true });
/** What stands on the engine's script imports it, so that there is one class of errors. */
const onIndex = {
  name: "on-index",
  setup: (/** @type {import("esbuild").PluginBuild} */ b) =>
    b.onResolve({ filter: /^\.\/index\.ts$/ }, () => ({ path: "./index.js", external: true })),
};
/** The exports of the wasm modules' scripts as plain objects: those of `import *` have a getter for each. */
const plainBuilds = {
  name: "plain-builds",
  setup: (/** @type {import("esbuild").PluginBuild} */ b) =>
    b.onLoad({ filter: /pkg[\\/]builds\.js$/ }, ({ path }) => ({
      contents: readFileSync(path, "utf8").replace(/import \* as (\w+) from "(.*)";/g, (_, name, from) => {
        const script = readFileSync(join(dirname(path), from), "utf8");
        const names = Array.from(script.matchAll(/^export (?:async )?(?:class|function) (\w+)/gm), ([, n]) => n);
        const own = names.map((n) => `${n} as ${name}_${n}`);
        const all = names.map((n) => `${n}: ${name}_${n}`);
        return `import ${name}_init, { ${own} } from "${from}";\nconst ${name} = { default: ${name}_init, ${all} };`;
      }),
    })),
};
/** What stands beside the engine: each is an entry point of its own. */
const beside = ["ai-sdk", "conversations", "prompt-api", "react", "remote", "tools"];
/** These speak with each other. */
const engine = {
  index: "src/index.ts",
  testing: "src/testing.ts",
  worker: "src/worker/index.ts",
};
/** @type {import("esbuild").BuildOptions} */
const options = {
  outdir: "dist",
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  logLevel: "warning",
};
const mangleProps = new RegExp(`^(${Object.keys(SHORT_NAMES).join("|")})$`);
await build({ ...options, entryPoints: engine, mangleProps, mangleCache: SHORT_NAMES, plugins: [plainBuilds] });
const besides = Object.fromEntries(beside.map((name) => [name, `src/${name}.ts`]));
await build({ ...options, entryPoints: besides, plugins: [onIndex], external: ["react"] });
// It speaks with the engine too, and with other tabs, whose scripts may be of another build.
const { version } = JSON.parse(readFileSync("package.json", "utf8"));
const sum = createHash("sha256");
for (const name of ["index", "worker"]) sum.update(readFileSync(`dist/${name}.js`));
const define = { PAGELM_BUILD: JSON.stringify(`${version}-${sum.digest("hex").slice(0, 8)}`) };
const share = { share: "src/share.ts" };
await build({ ...options, entryPoints: share, plugins: [onIndex], mangleProps, mangleCache: SHORT_NAMES, define });
const doors = Object.keys({ ...engine, ...besides, ...share });
// Further minifiers make them smaller still; swc takes directives such as "use client" away. Bundlers of users look for these
// expressions with quotes.
// What is written once and sent compressed is smaller in statements than in sequences.
const COMPRESS = { passes: 3, toplevel: true, sequences: false, keep_fargs: false, unsafe_methods: true };
/** @type {import("@swc/core").JsMinifyOptions} */
const further = { module: true, ecma: 2022, compress: COMPRESS, mangle: { toplevel: true } };
for (const name of doors) {
  const file = `dist/${name}.js`;
  let text = readFileSync(file, "utf8");
  if (name in engine) text = (await swc.minify(text, further)).code;
  const { code } = await minify(file, text, { module: true, mangle: { toplevel: true } });
  // Scripts within the script keep their lines otherwise.
  const dense = name in engine ? code.replace(/(?<=[{};,])\n\s*|\n\s*(?=\})/g, "") : code;
  writeFileSync(file, dense.replace(/(new URL\(|type:)`([^`$]+)`/g, '$1"$2"'));
}
for (const file of readdirSync("pkg")) if (file.endsWith(".wasm")) copyFileSync(`pkg/${file}`, `dist/${file}`);
copyFileSync("../THIRD-PARTY.md", "dist/THIRD-PARTY.md");
copyFileSync("single.mjs", "dist/single.mjs");

execFileSync("npx", ["tsc", "--project", "tsconfig.build.json"], { stdio: "inherit", shell: true });
// The script of workers gives nothing to who imports it.
writeFileSync("dist/worker.d.ts", "export {};\n");
// Types that nothing public names stay inside.
const reached = new Set();
/** @param {string} file */
const reach = (file) => {
  if (reached.has(file)) return;
  reached.add(file);
  const imports = readFileSync(file, "utf8").matchAll(/(?:from |import\()"(\.[^"]+)\.ts"/g);
  for (const [, path = ""] of imports) reach(join(dirname(file), `${path}.d.ts`));
};
for (const door of doors) reach(resolve(`dist/${door}.d.ts`));
for (const file of readdirSync("dist", { recursive: true, encoding: "utf8" })) {
  if (file.endsWith(".d.ts") && !reached.has(resolve("dist", file))) rmSync(join("dist", file));
}
