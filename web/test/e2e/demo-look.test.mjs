// How the demo looks: pictures of eight states, and axe in light and dark at two widths.
//
//   UPDATE_SHOTS=1 node --test web/test/e2e/demo-look.test.mjs      records the pictures in web/demo/shots; look at them
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import pixelmatch from "pixelmatch";
import { PNG } from "pngjs";
import { serveDemo } from "../../demo/serve.mjs";
import { launch } from "../../tools/browsers.mjs";
import { example } from "./demo-example.mjs";

const at = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));
const SHOTS = at("../../demo/shots");
const FAILED = at("../../../target/shots");
const AXE = readFileSync(at("../../node_modules/axe-core/axe.min.js"), "utf8");
/**
 * How unlike two pixels must be to count, of 1, and the share of them that may. Edges of letters differ a little between versions
 * of the library that draws them; a button that is missing, moved or of another colour is a quarter of a percent.
 */
const UNLIKE = 0.15;
const SHARE = 0.002;
/** Fonts of the pictures: a system's own are others elsewhere. */
const FONTS = Object.entries({ inter: "Inter", "jetbrains-mono": "JetBrains Mono" }).map(([name, family]) => {
  const file = at(`../../node_modules/@fontsource-variable/${name}/files/${name}-latin-wght-normal.woff2`);
  return { family, base64: readFileSync(file, "base64") };
});

const server = await serveDemo();
const browser = await launch("chromium");
after(async () => {
  await browser.close();
  await server.close();
});

const WIDE = { width: 1024, height: 720 };
const PHONE = { width: 360, height: 720 };
const NOON = Date.parse("2026-01-15T12:00:00Z");
const QUERY = "backend=cpu&threads=1&temperature=0&seed=1";

const page = await browser.open(`${server.url}/theme.js`);
await page.clock.setFixedTime(NOON);
await page.addInitScript((fonts) => {
  Object.defineProperty(navigator, "hardwareConcurrency", { value: 4 });
  for (const { family, base64 } of fonts) {
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const font = new FontFace(family, bytes.buffer, { weight: "100 900" });
    document.fonts.add(font);
    void font.load();
  }
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(`:root { font-family: Inter !important; --mono: "JetBrains Mono" !important; }`);
  document.adoptedStyleSheets = [sheet];
}, FONTS);

/** The page of somebody who was never here. @param {"light" | "dark"} colorScheme @param {{ width: number, height: number }} size */
async function fresh(colorScheme, size) {
  await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
  await page.setViewportSize(size);
  await page.goto(`${server.url}/theme.js`);
  await page.evaluate(async () => {
    localStorage.clear();
    sessionStorage.clear();
    for (const { name = "" } of await indexedDB.databases()) indexedDB.deleteDatabase(name);
  });
  await page.goto(`${server.url}/?${QUERY}`);
  await page.locator(".model .verdict.yes").waitFor();
}

async function load() {
  await page.click("#load-address");
  await page.waitForFunction(() => document.body.dataset.state === "ready");
}

/** Conversations of today and of before. */
async function bring() {
  const day = 86_400_000;
  const list = [
    { ...example("2", "Tides and the moon"), updatedAt: NOON - day },
    { ...example("3", "A letter to the landlord"), updatedAt: NOON - 3 * day },
    { ...example("1", "Testing for primes"), updatedAt: NOON },
  ].reverse();
  const conversations = { format: "pagelm-conversations", version: 1, conversations: list };
  const buffer = Buffer.from(JSON.stringify(conversations));
  await page.setInputFiles("#import", { name: "chats.json", mimeType: "application/json", buffer });
  await page.locator(".message math").first().waitFor();
  await page.locator(".message code.hljs").first().waitFor();
  await page.locator(".history .item").nth(2).waitFor({ state: "attached" });
}

/** @param {string} name */
async function shot(name) {
  await page.evaluate(() => document.fonts.ready);
  const taken = PNG.sync.read(await page.screenshot({ animations: "disabled" }));
  const file = `${SHOTS}/${name}.png`;
  // Without alpha, and compressed as far as it goes.
  const packed = () => PNG.sync.write(taken, { colorType: 2, deflateLevel: 9, filterType: -1 });
  if (process.env.UPDATE_SHOTS) {
    mkdirSync(SHOTS, { recursive: true });
    return writeFileSync(file, packed());
  }
  assert.ok(existsSync(file), `${file} is missing: UPDATE_SHOTS=1 records it`);
  const kept = PNG.sync.read(readFileSync(file));
  const { width, height } = taken;
  assert.deepEqual([kept.width, kept.height], [width, height], name);
  const diff = new PNG({ width, height });
  const unlike = pixelmatch(kept.data, taken.data, diff.data, width, height, { threshold: UNLIKE });
  if (unlike <= SHARE * width * height) return;
  mkdirSync(FAILED, { recursive: true });
  writeFileSync(`${FAILED}/${name}.png`, packed());
  writeFileSync(`${FAILED}/${name}-diff.png`, PNG.sync.write(diff));
  assert.fail(
    `${name}: ${unlike} of ${width * height} pixels are unlike; see target/shots, and UPDATE_SHOTS=1 if it should be so`,
  );
}

test("eight states look as they did", { timeout: 180_000 }, async () => {
  await fresh("light", WIDE);
  await shot("gallery-light");
  await page.fill("#url", "/models/none.gguf");
  await page.keyboard.press("Enter");
  await page.locator("#problem strong").waitFor();
  await page.evaluate(() => scrollTo(0, 0));
  await shot("problem-light");
  await fresh("dark", PHONE);
  await shot("gallery-phone-dark");
  await fresh("light", WIDE);
  await load();
  await bring();
  await page.evaluate(() => /** @type {HTMLElement} */ (document.activeElement).blur());
  await shot("chat-light");
  await page.emulateMedia({ colorScheme: "dark" });
  await shot("chat-dark");
  await page.click("#settings-open");
  await page.locator("#settings #system").waitFor();
  await shot("settings-dark");
  await page.keyboard.press("Escape");
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize(PHONE);
  await page.evaluate(() => {
    /** @type {HTMLElement} */ (document.activeElement).blur();
    scrollTo(0, 0);
  });
  await shot("chat-phone-light");
  await page.click("#menu");
  await page.locator("#sidebar[data-open]").waitFor();
  await page.waitForTimeout(300);
  await shot("chats-phone-light");
});

/** What axe finds that keeps people out. @param {string} where */
async function audit(where) {
  await page.evaluate(AXE);
  const found = await page.evaluate(async () => {
    const { violations } = await /** @type {any} */ (globalThis).axe.run(document, { resultTypes: ["violations"] });
    return violations.map((/** @type {any} */ v) => ({
      impact: v.impact,
      what: `${v.id}: ${v.nodes.map((/** @type {any} */ n) => n.html.slice(0, 120)).join(" | ")}`,
    }));
  });
  const bad = found.filter(
    (/** @type {{ impact: string }} */ { impact }) => impact === "serious" || impact === "critical",
  );
  assert.deepEqual(bad, [], where);
}

for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
  for (const size of [WIDE, PHONE]) {
    test(`axe finds nothing serious, ${colorScheme}, ${size.width} pixels wide`, { timeout: 120_000 }, async () => {
      const audited = (/** @type {string} */ state) => audit(`${state}, ${colorScheme}, ${size.width}`);
      await fresh(colorScheme, size);
      await audited("gallery");
      await page.fill("#url", "/models/none.gguf");
      await page.keyboard.press("Enter");
      await page.locator("#problem strong").waitFor();
      await audited("problem");
      await page.fill("#url", "/models/SmolLM2-135M-Instruct.Q4_1.gguf");
      await load();
      await audited("empty chat");
      await bring();
      await audited("chat");
      await page.keyboard.press("Control+k");
      await audited("search");
      await page.keyboard.press("Escape");
      for (const [key, id] of /** @type {const} */ ([
        ["Control+,", "settings"],
        ["?", "shortcuts"],
      ])) {
        await page.evaluate(() => /** @type {HTMLElement} */ (document.activeElement).blur());
        await page.keyboard.press(key);
        await page.locator(`#${id}[open]`).waitFor();
        await audited(id);
        await page.keyboard.press("Escape");
      }
      for (const view of ["schema", "compare"]) {
        await page.evaluate((view) => {
          location.hash = view;
        }, view);
        await page.locator(`#${view}-run`).waitFor();
        await audited(view);
      }
      await page.goto(`${server.url}/bench.html`);
      await audited("benchmark");
    });
  }
}
