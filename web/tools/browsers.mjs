// Starts the browsers of the end-to-end tests, with software GPUs so that any machine can run them.
//
//   const browser = await launch("chromium");        or "firefox"
//   const page = await browser.open(url);            page.evaluate(fn, arg), page.console
//   await browser.close();
//   node web/tools/browsers.mjs which chromium        prints the program that will be started, or fails
//
// CHROMIUM and FIREFOX name other programs. PAGELM_GPU=hardware lets Chromium take the real GPU.
import { once } from "node:events";
import { accessSync, constants, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { pathToFileURL } from "node:url";

const PROGRAMS = {
  chromium: {
    env: "CHROMIUM",
    names: ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"],
    mac: "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
  },
  firefox: {
    env: "FIREFOX",
    names: ["firefox-esr", "firefox"],
    mac: "/Applications/Firefox.app/Contents/MacOS/firefox",
  },
};

export const BROWSERS = /** @type {Browser[]} */ (Object.keys(PROGRAMS));
/** @typedef {keyof typeof PROGRAMS} Browser */

/** @param {Browser} name */
export function which(name) {
  const { env, names, mac } = PROGRAMS[name];
  const path = (process.env.PATH ?? "").split(delimiter);
  const given = process.env[env];
  const found = [...(given ? [given] : [...names.flatMap((n) => path.map((dir) => join(dir, n))), mac])].find(
    (file) => {
      try {
        accessSync(file, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    },
  );
  if (!found) throw new Error(`no ${name}: install it or set ${env} to its path (tests/tools/setup.sh browsers)`);
  return found;
}

const CHROMIUM_ARGS = [
  "--disable-quic",
  "--no-first-run",
  // Without these the browser looks up its own services at every start.
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--enable-unsafe-webgpu",
];

const FIREFOX_PREFS = {
  "dom.webgpu.enabled": true,
  "dom.webgpu.workers.enabled": true,
  "gfx.webgpu.ignore-blocklist": true,
  "gfx.webrender.software": true,
};

/** The environment without GPU drivers that are not there: one such name takes every adapter away. */
function environment() {
  /** @type {Record<string, string>} */
  const env = {};
  for (const [key, value] of Object.entries(process.env)) {
    const files = key === "VK_ICD_FILENAMES" || key === "VK_DRIVER_FILES" ? (value ?? "").split(delimiter) : [];
    if (value !== undefined && files.every((f) => existsSync(f))) env[key] = value;
  }
  return env;
}

/**
 * @param {Browser} name
 * @param {{ args?: string[], prefs?: Record<string, unknown>, headless?: boolean, timeout?: number, profile?: string,
 *   history?: boolean }} options
 *   profile: the browser's folder, which stays; else it has one of its own; history: it keeps pages that were left
 */
export async function launch(
  name,
  { args = [], prefs = {}, headless = true, timeout = 60_000, profile: kept = "", history = false } = {},
) {
  const profile = kept || mkdtempSync(join(tmpdir(), `pagelm-${name}-`));
  const cleanUp = () => kept || rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  try {
    const start = name === "chromium" ? startChromium : startFirefox;
    const { newPage, close, version, debug, kill } = await start({ profile, args, prefs, headless, timeout, history });
    return {
      name,
      version,
      /** The browser's own protocol, in Chromium. */
      debug,
      /** Ends the browser as when the machine stops, in Firefox. */
      kill,
      /** Opens a page; `console` collects what it and its workers print, `errors` what it did not catch. */
      async open(/** @type {string} */ url) {
        const page = await newPage();
        /** @type {string[]} */
        const console = [];
        /** @type {string[]} */
        const errors = [];
        page.on("console", (m) => {
          console.push(`${m.type()}: ${m.text()}`);
          if (process.env.PAGELM_CONSOLE) process.stderr.write(`[${name}] ${m.type()}: ${m.text()}\n`);
        });
        page.on("pageerror", (e) => errors.push(String(e?.stack ?? e)));
        await page.goto(url);
        return Object.assign(page, { console, errors });
      },
      async close() {
        await close();
        cleanUp();
      },
    };
  } catch (e) {
    cleanUp();
    throw e;
  }
}

/** @typedef {{ profile: string, args: string[], prefs: Record<string, unknown>, headless: boolean, timeout: number, history: boolean }} Start */
/** @typedef {import("playwright-core").Page} Page what tests use of it, Firefox's driver has too */
/** @typedef {() => Promise<import("playwright-core").CDPSession>} Debug */
/** @typedef {{ newPage: () => Promise<Page>, close: () => Promise<void>, version: string, debug?: Debug, kill?: () => Promise<void> }} Started */

/** @param {Start} o @returns {Promise<Started>} */
async function startChromium({ profile, args, headless, timeout, history }) {
  const { chromium } = await import("playwright-core");
  const hardware = process.env.PAGELM_GPU === "hardware";
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: which("chromium"),
    headless,
    timeout,
    ignoreDefaultArgs: history ? ["--disable-back-forward-cache"] : [],
    args: [
      ...CHROMIUM_ARGS,
      ...(process.getuid?.() === 0 ? ["--no-sandbox"] : []), // it refuses to start as root otherwise
      ...(hardware ? [] : ["--use-webgpu-adapter=swiftshader"]),
      ...args,
    ],
    env: environment(),
  });
  context.setDefaultTimeout(timeout);
  const used = /** @type {Set<unknown>} */ (new Set());
  return {
    async newPage() {
      // A persistent context starts with one blank page: take that first.
      const page = context.pages().find((p) => !used.has(p) && p.url() === "about:blank") ?? (await context.newPage());
      used.add(page);
      return page;
    },
    close: () => context.close(),
    version: context.browser()?.version() ?? "",
    debug: () => context.newCDPSession(/** @type {Page} */ (context.pages()[0])),
  };
}

/** @param {Start} o @returns {Promise<Started>} */
async function startFirefox({ profile, args, prefs, headless, timeout }) {
  const { default: puppeteer } = await import("puppeteer-core");
  const browser = await puppeteer.launch({
    browser: "firefox",
    executablePath: which("firefox"),
    headless,
    userDataDir: profile,
    args,
    extraPrefsFirefox: { ...FIREFOX_PREFS, ...prefs },
    timeout,
    protocolTimeout: 600_000, // a page may compute for minutes on a software GPU
    env: environment(),
  });
  const newPage = async () => /** @type {Page} */ (/** @type {unknown} */ (await browser.newPage()));
  const kill = async () => {
    const program = browser.process();
    if (!program || program.exitCode !== null) throw new Error("the browser does not run");
    const gone = once(program, "exit");
    program.kill("SIGKILL");
    await gone;
    // The driver then puts the profile's preferences back, and does not say when.
    await new Promise((done) => setTimeout(done, 500));
  };
  return { newPage, close: () => browser.close(), version: await browser.version(), kill };
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [verb, name] = process.argv.slice(2);
  if (verb !== "which" || !name || !(name in PROGRAMS)) {
    console.error(`usage: browsers.mjs which ${BROWSERS.join("|")}`);
    process.exit(2);
  }
  try {
    console.log(which(/** @type {Browser} */ (name)));
  } catch (e) {
    console.error(/** @type {Error} */ (e).message);
    process.exit(1);
  }
}
