// The demo's choice of a model: what fits, what is stored, the hub, and downloads that stop and go on.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { serveDemo } from "../../demo/serve.mjs";
import { launch } from "../../tools/browsers.mjs";

const server = await serveDemo();
const browser = await launch("chromium");
after(async () => {
  await browser.close();
  await server.close();
});
const FILE = "SmolLM2-135M-Instruct.Q4_1.gguf";

/** @param {import("../../tools/browsers.mjs").Page} page @param {string} state */
const until = (page, state) =>
  page.waitForFunction((/** @type {string} */ s) => document.body.dataset.state === s, state);
/** @param {import("../../tools/browsers.mjs").Page} page @param {string} selector */
const text = async (page, selector) => (await page.locator(selector).first().textContent()) ?? "";
/** @param {string} [query] */
const open = (query = "") => browser.open(`${server.url}/?backend=cpu&temperature=0&max_tokens=4${query}`);

test("each model says whether it fits before it is downloaded, and whether it is stored", {
  timeout: 120_000,
}, async () => {
  const page = await open();
  const card = page.locator(".model", { hasText: "SmolLM2 135M" });
  await card.locator(".verdict.yes").waitFor();
  assert.match((await card.textContent()) ?? "", /98\.4 MB.*Runs on the CPU in \d+ MB of memory/);
  const read = () =>
    server.requests.filter(({ path }) => path === `/models/${FILE}`).reduce((sum, { sent }) => sum + sent, 0);
  assert.ok(read() < 20e6, `its header only: ${read()} bytes`);
  assert.equal(await card.locator(".tag.good").count(), 0);
  assert.equal(await page.locator(".model").count(), 8);
  // A model that nobody asked about is judged by its size.
  assert.match(
    (await page.locator(".model", { hasText: "Qwen3 4B" }).textContent()) ?? "",
    /2\.50 GB.*slow on the CPU/,
  );

  await card.getByRole("button", { name: "Load: SmolLM2 135M" }).click();
  await until(page, "ready");
  assert.match(await text(page, "#model"), /^SmolLM2 135M/);
  await page.reload();
  await card.locator(".tag.good", { hasText: "stored here" }).waitFor();
  const before = read();
  await card.getByRole("button", { name: "Load: SmolLM2 135M" }).click();
  await until(page, "ready");
  assert.equal(read(), before, "it came from the cache");
  await page.click("#unload");
  await card.getByRole("button", { name: "Remove SmolLM2 135M from this browser" }).click();
  await card.locator(".tag.good").waitFor({ state: "detached" });
  await page.close();
});

test("a model that does not fit says why, and may be tried", { timeout: 60_000 }, async () => {
  const page = await open("&context=999999");
  const card = page.locator(".model", { hasText: "SmolLM2 135M" });
  await card
    .locator(".verdict.no", { hasText: /a context of 999999 tokens does not fit, one of \d+ does\.$/ })
    .waitFor();
  await card.getByRole("button", { name: "Try anyway: SmolLM2 135M" }).waitFor();
  await page.close();
});

test("a download pauses and goes on where it was, and what is discarded is gone", { timeout: 120_000 }, async () => {
  const slow = `/fault/slow/models/${FILE}?bytes=524288&ms=40`;
  const page = await open(`&model=${encodeURIComponent(slow)}`);
  await page.click("#load-address");
  await page.waitForFunction(() =>
    /^Downloading · 1\d\.\d MB of 9\d\.\d MB · [\d.]+ MB\/s · \d+ s left$/.test(
      document.querySelector("#progress-text")?.textContent ?? "",
    ),
  );
  assert.equal(await text(page, "#cancel"), "Pause");
  await page.keyboard.press("Escape");
  await page.locator("#paused-text").waitFor();
  assert.match(await text(page, "#paused-text"), /^Paused at 1\d\.\d MB of 9\d\.\d MB$/);
  const asked = server.requests.length;
  await page.click("#resume");
  await page.waitForFunction(() => /^Downloading/.test(document.querySelector("#progress-text")?.textContent ?? ""));
  await page.waitForTimeout(500);
  await page.click("#cancel");
  await page.locator("#paused-text").waitFor();
  const later = server.requests.slice(asked).filter(({ path }) => path.includes("slow"));
  const starts = later.map(({ range }) => Number(/bytes=(\d+)-/.exec(range ?? "")?.[1] ?? 0));
  assert.ok(Math.max(...starts) > 8e6, `${starts}`);
  const stored = () =>
    page.evaluate(async () => {
      let bytes = 0;
      const look = async (/** @type {FileSystemDirectoryHandle} */ folder) => {
        for await (const entry of folder.values())
          if (entry.kind === "directory") await look(/** @type {FileSystemDirectoryHandle} */ (entry));
          else bytes += (await /** @type {FileSystemFileHandle} */ (entry).getFile()).size;
      };
      await look(await navigator.storage.getDirectory());
      return bytes;
    });
  assert.ok((await stored()) > 8e6);
  await page.click("#discard");
  await page.locator("#paused-text").waitFor({ state: "detached" });
  let left = await stored();
  for (let i = 0; i < 100 && left >= 1e5; i++) {
    await page.waitForTimeout(50);
    left = await stored();
  }
  assert.ok(left < 1e5, `${left} bytes are left`);
  await page.close();
});

test("while nothing arrives the page says that it waits, not how fast it was", { timeout: 120_000 }, async () => {
  const page = await open(`&model=${encodeURIComponent(`/fault/stall/models/${FILE}?stalls`)}`);
  await page.click("#load-address");
  await page.waitForFunction(() =>
    /^Waiting for the server · [\d.]+ MB of 9\d\.\d MB$/.test(
      document.querySelector("#progress-text")?.textContent ?? "",
    ),
  );
  await page.click("#cancel");
  await until(page, "idle");
  await page.close();
});

test("a wrong address says what to do, and the page stays usable", { timeout: 60_000 }, async () => {
  const page = await open();
  await page.fill("#url", "/models/none.gguf");
  await page.keyboard.press("Enter");
  await until(page, "failed");
  assert.match(await text(page, "#problem"), /The server does not give the file.*open it in a new tab.*http-status/);
  await page.locator("#problem .close").click();
  await until(page, "idle");
  await page.setInputFiles("#file", { name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("x") });
  assert.match(await text(page, "#problem"), /This is not a model.*notes\.txt/);
  await page.close();
});

test("the hub is asked when somebody types, and what it lacks is said", { timeout: 60_000 }, async () => {
  const page = await open();
  /** @type {string[]} */
  const asked = [];
  let reachable = true;
  await page.route("https://huggingface.co/**", (route) => {
    const url = new URL(route.request().url());
    asked.push(url.pathname + url.search);
    if (!reachable) return route.abort();
    const list = [
      { id: "someone/Tiny-GGUF", downloads: 12345, likes: 7 },
      { id: "someone/Other-GGUF", downloads: 3, likes: 0 },
    ];
    const siblings = [
      { rfilename: "README.md", size: 10 },
      { rfilename: "tiny-q8_0.gguf", size: 300e6 },
      { rfilename: "tiny-q4_k_m.gguf", size: 200e6 },
      { rfilename: "mmproj-f16.gguf", size: 90e6 },
      { rfilename: "big-00001-of-00002.gguf", size: 2e9 },
      { rfilename: "big-00002-of-00002.gguf", size: 1.5e9 },
    ];
    const json = url.pathname === "/api/models" ? (url.search.includes("nothing") ? [] : list) : { siblings };
    return route.fulfill({ json, headers: { "access-control-allow-origin": "*" } });
  });
  await page.locator(".model .verdict.yes").waitFor();
  assert.deepEqual(asked, []);
  await page.fill("#hub", "t");
  await page.waitForTimeout(600);
  assert.deepEqual(asked, [], "one letter is no name");
  await page.fill("#hub", "tiny");
  await page.locator(".repo").first().waitFor();
  assert.deepEqual(asked, ["/api/models?search=tiny&filter=gguf&sort=downloads&limit=12"]);
  assert.match(await text(page, ".repo"), /someone\/Tiny-GGUF12,345 downloads/);
  await page.locator(".repo").first().click();
  await page.locator(".repos .model").first().waitFor();
  assert.equal(asked[1], "/api/models/someone/Tiny-GGUF?blobs=true");
  const files = await page.locator(".repos .model .model-head").allTextContents();
  assert.deepEqual(files, ["tiny-q4_k_m200 MB", "tiny-q8_0300 MB", "big3.50 GB"]);
  await page.fill("#hub", "nothing");
  await page.locator(".hub .note", { hasText: "Nothing there is called “nothing”." }).waitFor();
  reachable = false;
  await page.fill("#hub", "other");
  await page.locator(".hub .note", { hasText: "Hugging Face cannot be reached." }).waitFor();
  assert.deepEqual(page.errors, []);
  await page.close();
});
