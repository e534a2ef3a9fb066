// The template for new projects, with the package as npm packs it: its types are right, it is built, and it answers.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { createServer, preview, build as vite } from "vite";
import { launch } from "../../tools/browsers.mjs";
import { cache } from "../../tools/cache.mjs";
import { skip } from "../skipped.mjs";

const at = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));
const MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf";

test("the template is built and answers, isolated", { timeout: 180_000 }, async (t) => {
  const model = join(cache, "models", MODEL);
  if (!existsSync(model)) return skip(t, "the model is not downloaded");
  const root = mkdtempSync(join(tmpdir(), "pagelm-template-"));
  t.after(() => rmSync(root, { recursive: true }));
  cpSync(at("../../../examples/template"), root, { recursive: true });
  const web = at("../..");
  const pack = ["pack", "--json", "--ignore-scripts", "--pack-destination", root];
  const [{ filename, version }] = JSON.parse(execFileSync("npm", pack, { cwd: web, encoding: "utf8" }));
  mkdirSync(join(root, "node_modules"));
  execFileSync("tar", ["xzf", join(root, filename), "-C", join(root, "node_modules")]);
  execFileSync("mv", [join(root, "node_modules/package"), join(root, "node_modules/pagelm")]);
  symlinkSync(join(web, "node_modules/vite"), join(root, "node_modules/vite"));

  // It names this version, and the tools that are tested.
  const { dependencies, devDependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  assert.equal(dependencies.pagelm, `^${version}`);
  const own = JSON.parse(readFileSync(join(web, "package.json"), "utf8")).devDependencies;
  for (const [name, used] of Object.entries(devDependencies)) assert.equal(used, own[name], name);

  execFileSync(join(web, "node_modules/.bin/tsc"), [], { cwd: root, stdio: "inherit" });
  await vite({ root, logLevel: "error" });
  const isolating = ["cross-origin-opener-policy: same-origin", "cross-origin-embedder-policy: require-corp"];
  const given = (/** @type {Headers} */ headers) => [...headers].map((pair) => pair.join(": "));
  for (const line of isolating) {
    assert.ok(readFileSync(join(root, "dist/_headers"), "utf8").toLowerCase().includes(line));
    const { headers } = JSON.parse(readFileSync(join(root, "vercel.json"), "utf8"));
    const pairs = headers[0].headers.map((/** @type {{ key: string, value: string }} */ h) => `${h.key}: ${h.value}`);
    assert.ok(pairs.join("\n").toLowerCase().includes(line));
  }
  const development = await createServer({ root, server: { port: 0 }, logLevel: "error" });
  await development.listen();
  const { headers } = await fetch(development.resolvedUrls?.local[0] ?? "");
  await development.close();
  for (const line of isolating) assert.ok(given(headers).includes(line), line);

  mkdirSync(join(root, "dist/models"));
  symlinkSync(model, join(root, "dist/models", MODEL));
  const server = await preview({ root, preview: { port: 0 }, logLevel: "error" });
  const browser = await launch("chromium");
  t.after(async () => {
    await browser.close();
    await server.close();
  });
  const page = await browser.open(`${server.resolvedUrls?.local[0]}?model=/models/${MODEL}`);
  assert.equal(await page.evaluate(() => crossOriginIsolated), true);
  const answers = [];
  for (const question of ["Explain what a browser is.", "And what is a server?"]) {
    await page.locator("input").fill(question);
    await page.locator("button").click();
    const idle = () => document.querySelector("button")?.textContent === "Ask";
    /** @param {(n: number) => boolean} is */
    const until = (is) =>
      page
        .waitForFunction(is, answers.length + 1, { timeout: 100_000 })
        .catch((e) => assert.fail(`${e}\n${[...page.console, ...page.errors].join("\n")}`));
    // A small model may go on for minutes: its button stops it.
    await until((n) => {
      const lines = document.querySelectorAll(".assistant");
      const enough = (lines[n - 1]?.textContent ?? "").length > 300;
      return lines.length === n && (enough || document.querySelector("button")?.textContent === "Ask");
    });
    if (!(await page.evaluate(idle))) await page.locator("button").click();
    await until(idle);
    answers.push(await page.locator(".assistant").last().textContent());
  }
  assert.match(answers[0] ?? "", /web|internet|software/i);
  assert.match(answers[1] ?? "", /\w{3}/);
  assert.match((await page.locator("#status").textContent()) ?? "", /^on (cpu|webgpu)$/);
  assert.deepEqual(page.errors, []);
});
