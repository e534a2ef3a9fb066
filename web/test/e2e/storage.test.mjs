// Loading against bad servers, full and damaged disks, and pages that are killed: the right tokens come out, and what
// was fetched once is not fetched again.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { BROWSERS, launch } from "../../tools/browsers.mjs";
import { golden, start, TINY } from "./setup.mjs";

const BLOCK = 1 << 20;
/** At most what connections got that had to wait: 10 kB a minute each. */
const DRIPPED = 100_000;
const LONG = "/made/long.gguf";
const SLOW = `/fault/slow${LONG}?bytes=262144&ms=20`;
const prompt = golden.prompts.find((/** @type {{ greedy?: object }} */ p) => p.greedy);
const right = prompt.greedy.tokens.slice(0, 8);
const options = {
  backend: /** @type {const} */ ("cpu"),
  wasmBuild: /** @type {const} */ ("base"),
  activations: /** @type {const} */ ("f32"),
  kvType: /** @type {const} */ ("f32"),
};

/** Offsets in the file: the first byte, the last, some in its header, and anywhere. @param {number} size */
function cuts(size) {
  const all = [0, 1, 100, 5000, size - 1];
  for (let x = 7; all.length < 20; ) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    all.push(x % size);
  }
  return all;
}

for (const browser of BROWSERS) {
  test(`${browser}: loading wastes nothing`, { timeout: 600_000 }, async (t) => {
    const c = await start(browser, { isolated: false });
    let asked = 0;
    /** Bytes of models that were sent since the last time. */
    const sent = () => {
      const all = c.server.requests.slice(asked).filter((r) => r.path.endsWith(".gguf"));
      asked = c.server.requests.length;
      return all.reduce((sum, r) => sum + r.sent, 0);
    };
    /** @param {string[]} urls */
    const answers = async (urls, more = {}) => {
      const all = await c.call("answers", urls, { ...options, ...more }, prompt.ids);
      for (const [i, { ids }] of all.entries()) assert.deepEqual(ids, right, urls[i]);
      return all.map(({ source }) => source);
    };
    const [{ file: size }] = /** @type {[{ file: number }]} */ (
      await answers([TINY], { cache: false }).then(async ([s]) => [{ file: s?.network ?? 0 }])
    );
    const { network: length } = /** @type {{ network: number }} */ ((await answers([LONG], { cache: false }))[0]);
    sent();

    await t.test("a connection that is cut at any of 20 bytes goes on there", async () => {
      const at = cuts(size);
      const all = await answers(at.map((n) => `/fault/cut${TINY}?at=${n}`));
      assert.ok(all.every((s) => s.network === size && s.stored));
      // What is unread when a connection breaks is lost, which is more where others use the processor.
      const all20 = sent();
      assert.ok(all20 <= 1.1 * at.length * size, `${all20} bytes were sent for ${at.length * size}`);
    });

    await t.test("servers that know less than others are good enough", async () => {
      const faults = [
        "nolength",
        "gzip",
        "norange",
        "capped",
        "signed",
        "changing",
        "flaky",
        "shortened",
        "stall",
        "busy",
      ];
      const all = await answers(faults.map((fault) => `/fault/${fault}${TINY}`));
      assert.ok(
        all.every((s) => s.stored),
        JSON.stringify(all),
      );
      const again = await answers(faults.map((fault) => `/fault/${fault}${TINY}`));
      assert.ok(
        again.every((s) => s.network === 0 && s.cache === size),
        JSON.stringify(again),
      );
    });

    await t.test("what is stored loads without a server, under any signature", async () => {
      const [first] = await answers([`${LONG}?X-Amz-Signature=1`]);
      assert.equal(first?.stored, true);
      sent();
      c.server.down = (path) => path.endsWith(".gguf");
      const [second] = await answers([`${LONG}?X-Amz-Signature=2`]);
      assert.deepEqual([second?.network, second?.cache], [0, length]);
      assert.equal((await c.call("canRun", LONG, { wasmBuild: "base" })).stored, true);
      c.server.down = () => false;
      assert.equal(sent(), 0);
    });

    await t.test("a flipped bit costs its block, a cut log what it no longer says", async () => {
      await c.call("forgetModels");
      await answers([LONG]);
      sent();
      await c.call("damage", ".gguf", 5 * BLOCK + 77);
      assert.equal((await answers([LONG]))[0]?.network, BLOCK);
      assert.equal(sent(), BLOCK);
      await c.call("damage", ".log", -100);
      const [cut] = await answers([LONG]);
      assert.ok(cut?.stored && cut.network <= 3 * BLOCK, JSON.stringify(cut));
      await c.call("damage", ".gguf", 9 * BLOCK);
      const { network, sha256 } = await c.call("models", "verify", LONG);
      assert.deepEqual([network, sha256[0].length], [BLOCK, 64]);
      assert.equal((await answers([LONG], { sha256: sha256[0] }))[0]?.network, 0);
      await assert.rejects(c.call("load", { ...options, model: LONG, cache: true, sha256: "0".repeat(64) }), {
        code: "bad-checksum",
      });
    });

    await t.test("a page that is killed thrice goes on where it was", async () => {
      await c.call("forgetModels");
      sent();
      let [stored, most] = [0, 0];
      for (const bytes of [3, 9, 17]) {
        const page = await c.open("/page.html");
        // Each kill costs the block that was not whole, and what was on the way.
        const allowed = bytes - stored + 1;
        c.server.allow(allowed * BLOCK);
        most += allowed;
        stored = bytes - 1;
        await page.call("begin", { ...options, model: SLOW }, prompt.ids, bytes * BLOCK);
        await kill(browser, page.page);
      }
      c.server.allow(Number.POSITIVE_INFINITY);
      const [last] = await answers([SLOW]);
      assert.ok(last?.stored && last.cache >= stored * BLOCK, JSON.stringify(last));
      const all = sent();
      assert.ok(all <= length + (most - stored) * BLOCK + DRIPPED, `${all} bytes were sent of ${length}`);
    });

    await t.test("a page that is killed while it stores a block has those before it", async () => {
      for (const at of ["bytes", "between", "line"]) {
        await c.call("forgetModels");
        sent();
        c.server.allow(12 * BLOCK);
        const page = await c.open("/page.html");
        // It never ends.
        page
          .call("begin", { ...options, model: SLOW, workerUrl: `/killed.js?at=${at}` }, prompt.ids, length)
          .catch(() => {});
        while (!c.server.requests.some((r) => r.path === `/dying-${at}`)) await sleep(20);
        await kill(browser, page.page);
        c.server.allow(Number.POSITIVE_INFINITY);
        const [after] = await answers([SLOW]);
        assert.ok(after?.stored && after.cache === 9 * BLOCK, `${at}: ${JSON.stringify(after)}`);
        assert.equal((await answers([SLOW]))[0]?.network, 0);
        // What the server sent beyond the ninth block was lost.
        const all = sent();
        assert.ok(all <= length + 3 * BLOCK + DRIPPED, `${at}: ${all} bytes were sent of ${length}`);
      }
    });

    await t.test("two pages pay once, also if the one that downloads is killed", async () => {
      await c.call("forgetModels");
      sent();
      const [first, second] = [await c.open("/page.html"), await c.open("/page.html")];
      c.server.allow(7 * BLOCK);
      await first.call("begin", { ...options, model: SLOW }, prompt.ids, 6 * BLOCK);
      await second.call("begin", { ...options, model: SLOW }, prompt.ids, 0);
      c.server.allow(Number.POSITIVE_INFINITY);
      await kill(browser, first.page);
      const [{ ids, source }] = /** @type {[{ ids: number[], source: import("pagelm").LoadSource }]} */ (
        await second.call("finish")
      );
      assert.deepEqual(ids, right);
      assert.ok(source.stored && source.cache >= 5 * BLOCK, JSON.stringify(source));
      const all = sent();
      assert.ok(all <= length + 2 * BLOCK + DRIPPED, `${all} bytes were sent of ${length}`);
      await second.page.close();
      // Two engines of one page.
      await c.call("forgetModels");
      await c.call("begin", { ...options, model: SLOW }, prompt.ids, 1);
      await answers([SLOW]);
      assert.deepEqual((await c.call("finish"))[0]?.ids, right);
      assert.equal(sent(), length);
    });

    await t.test("a load that is stopped, or an engine that goes meanwhile, leaves what came", async () => {
      await c.call("forgetModels");
      sent();
      c.server.allow(5 * BLOCK);
      const stopAfterBytes = 4 * BLOCK;
      await assert.rejects(c.call("load", { ...options, model: SLOW, cache: true, stopAfterBytes }), {
        code: "aborted",
      });
      c.server.allow(5 * BLOCK);
      assert.equal(await c.call("pausedDownload", SLOW, 7 * BLOCK), "aborted");
      c.server.allow(Number.POSITIVE_INFINITY);
      const { network, cache, stored } = await c.call("models", "download", SLOW);
      assert.ok(stored && cache >= 6 * BLOCK && network + cache === length, JSON.stringify({ network, cache }));
      const all = sent();
      assert.ok(all <= length + 4 * BLOCK + DRIPPED, `${all} bytes were sent of ${length}`);
    });

    await t.test("a full disk is told, and the model runs", async () => {
      await c.call("forgetModels");
      const [full] = await answers([LONG], { workerUrl: "/full.js" });
      assert.equal(full?.stored, false);
      assert.match(full?.whyNotStored ?? "", /QuotaExceededError/);
      await assert.rejects(c.call("models", "download", LONG, { workerUrl: "/full.js" }), { code: "not-stored" });
      const [later] = await answers([LONG]);
      assert.ok(later?.stored && later.cache >= 10 * BLOCK, JSON.stringify(later));
    });

    await t.test("split models load by any of their parts, and a bad part is named", async () => {
      await c.call("forgetModels");
      const [all] = await answers(["/made/split/m-00002-of-00003.gguf"]);
      assert.equal(all?.stored, true);
      assert.equal((await answers(["/made/split/m-00003-of-00003.gguf"]))[0]?.network, 0);
      const load = (/** @type {string} */ folder) =>
        c.call("load", { ...options, model: `/made/${folder}/m-00001-of-00003.gguf`, cache: true });
      await assert.rejects(load("lost"), { code: "http-status", place: /m-00002-of-00003/, message: /404/ });
      await assert.rejects(load("short"), { code: "gguf-truncated" });
    });

    await t.test("a file that is no model, or cut, is not kept", async () => {
      const whole = readFileSync(new URL("../../../tests/golden/llama.gguf", import.meta.url));
      const file = join(c.made, "healed.gguf");
      const bad = [Buffer.alloc(3 * BLOCK, 7), whole.subarray(0, 400_000)];
      for (const [i, code] of ["not-gguf", "gguf-truncated"].entries()) {
        writeFileSync(file, /** @type {Buffer} */ (bad[i]));
        const load = c.call("load", { ...options, model: "/made/healed.gguf", cache: true });
        await assert.rejects(load, { code });
      }
      writeFileSync(file, whole);
      const [healed] = await answers(["/made/healed.gguf"]);
      assert.deepEqual([healed?.network, healed?.stored], [whole.length, true]);
    });

    await t.test("stored models are listed, moved and removed", async () => {
      await c.call("forgetModels");
      await answers([LONG, "/made/split/m-00001-of-00003.gguf"]);
      const list = await c.call("models", "list");
      assert.deepEqual(
        list
          .map((/** @type {import("pagelm").StoredModel} */ m) => [m.files.length, m.complete, m.bytes === m.size])
          .sort(),
        [
          [1, true, true],
          [3, true, true],
        ],
      );
      const other = "/made/elsewhere.gguf";
      assert.deepEqual(await c.call("moved", LONG, other), { names: ["long.gguf"], file: length });
      sent();
      assert.equal((await answers([other]))[0]?.network, 0);
      const { usage, quota } = await c.call("models", "estimate");
      assert.ok(usage >= length && quota > usage);
      assert.equal(await c.call("models", "delete", other), length);
      await c.call("forgetModels");
      assert.deepEqual(await c.call("models", "list"), []);
      assert.equal(sent(), 0);
    });

    await t.test("nothing went wrong unnoticed", () => assert.deepEqual(c.page.errors, []));
  });
}

test("firefox: a browser that is killed goes on where it was", { timeout: 300_000 }, async (t) => {
  const c = await start("firefox", { isolated: false });
  const profile = mkdtempSync(join(tmpdir(), "pagelm-killed-"));
  t.after(() => rmSync(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 }));
  for (const bytes of [5, 14]) {
    const killed = await launch("firefox", { profile });
    const page = await c.open("/page.html", killed);
    await page.call("begin", { ...options, model: SLOW }, prompt.ids, bytes * BLOCK);
    await killed.kill?.();
  }
  const last = await launch("firefox", { profile });
  t.after(() => last.close());
  const page = await c.open("/page.html", last);
  const [{ ids, source } = assert.fail()] = await page.call("answers", [SLOW], options, prompt.ids);
  assert.deepEqual(ids, right);
  assert.ok(source.stored && source.cache >= 12 * BLOCK, JSON.stringify(source));
});

/** @typedef {Awaited<ReturnType<typeof start>>} Context */
/** Ends a page as when its process dies. @param {string} browser @param {Context["page"]} page */
async function kill(browser, page) {
  if (browser !== "chromium") return page.close();
  const session = await page.context().newCDPSession(page);
  const gone = new Promise((crashed) => page.once("crash", crashed));
  void session.send("Page.crash").catch(() => {});
  await gone;
  await page.close();
}
