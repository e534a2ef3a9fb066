// The demo page in a browser without a window: loads the model, asks one thing, prints the answer as it comes.
//   node web/demo/headless.mjs [--prompt TEXT] [--browser chromium|firefox] [--backend auto|webgpu|cpu]
//                              [--model URL] [--max-tokens N] [--temperature F] [--timeout SECONDS] [--screenshot FILE]
// The prompt can also come in the variable PROMPT. Exit status 1 when anything fails.
import { parseArgs } from "node:util";
import { BROWSERS, launch } from "../tools/browsers.mjs";
import { serveDemo } from "./serve.mjs";

const { values: o } = parseArgs({
  options: {
    prompt: { type: "string", default: process.env.PROMPT || "Explain what a browser is." },
    browser: { type: "string", default: "chromium" },
    // Not `auto`, which takes the CPU where the GPU is software, as it is on most machines that test.
    backend: { type: "string", default: "webgpu" },
    model: { type: "string" },
    "max-tokens": { type: "string", default: "64" },
    temperature: { type: "string", default: "0" },
    timeout: { type: "string", default: "600" },
    screenshot: { type: "string" },
  },
});
const name = BROWSERS.find((b) => b === o.browser);
if (!name) throw new Error(`--browser is ${BROWSERS.join(" or ")}`);

const server = await serveDemo();
const browser = await launch(name);
try {
  const query = new URLSearchParams({
    load: "",
    backend: o.backend,
    temperature: o.temperature,
    max_tokens: o["max-tokens"],
    ...(o.model && { model: o.model }),
  });
  const page = await browser.open(`${server.url}/?${query}`);
  const end = Date.now() + Number(o.timeout) * 1000;

  /** What the page shows. */
  const look = () =>
    page.evaluate(() => {
      const text = (/** @type {string} */ s) => [...document.querySelectorAll(s)].at(-1)?.textContent ?? "";
      return {
        state: document.body.dataset.state,
        problem: text("#problem:not([hidden])").replace(/\s+/g, " ").trim(),
        status: text("#status"),
        progress: text("#progress-text"),
        model: text("#model"),
        answer: /** @type {typeof globalThis & { answer: string }} */ (globalThis).answer,
        note: text(".message.assistant .note"),
      };
    });
  /** Looks until the page is in one of these states. @param {string[]} states @param {(seen: Awaited<ReturnType<typeof look>>) => void} each */
  async function until(states, each) {
    for (;;) {
      const seen = await look();
      each(seen);
      if (seen.problem) throw new Error(seen.problem);
      if (states.includes(seen.state ?? "")) return seen;
      if (Date.now() > end) throw new Error(`nothing more after ${o.timeout} s, in state ${seen.state}`);
      await new Promise((done) => setTimeout(done, 100));
    }
  }

  const loaded = await until(["ready"], ({ progress }) => {
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${progress}`);
  });
  if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
  console.error(`${loaded.model} · ${browser.name} ${browser.version} · ${loaded.status}`);

  await page.evaluate((/** @type {string} */ prompt) => {
    /** @type {HTMLTextAreaElement} */ (document.querySelector("#prompt")).value = prompt;
    /** @type {HTMLButtonElement} */ (document.querySelector("#send")).click();
  }, o.prompt);
  let printed = 0;
  const { note } = await until(["ready"], ({ answer }) => {
    process.stdout.write(answer.slice(printed));
    printed = answer.length;
  });
  process.stdout.write("\n");
  console.error(`${note} · ${loaded.status}`);
  if (o.screenshot) await page.screenshot({ path: o.screenshot });
  if (printed === 0) throw new Error("the answer is empty");
} catch (e) {
  console.error(`failed: ${e instanceof Error ? e.message : e}`);
  process.exitCode = 1;
} finally {
  await browser.close();
  await server.close();
}
