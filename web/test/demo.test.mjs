// The demo's parts that need no browser: what is sent before the first paint, and the code that computes.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { runnerImport } from "vite";

const dist = new URL("../demo/dist/", import.meta.url);
/** @param {string} name */
const part = async (name) => {
  const file = new URL(`../demo/src/${name}`, import.meta.url).pathname;
  return (await runnerImport(file, { configFile: false, logLevel: "error" })).module;
};

/** The page, and what it names: scripts, what those import at once, and styles. @param {string} page */
function firstPaint(page) {
  const html = readFileSync(new URL(page, dist), "utf8");
  const files = new Set([page]);
  for (const [, path = ""] of html.matchAll(/(?:src|href)="\.\/([^"]+\.(?:js|css))"/g)) files.add(path);
  for (const file of files) {
    if (!file.endsWith(".js")) continue;
    const script = readFileSync(new URL(file, dist), "utf8");
    for (const [, path = ""] of script.matchAll(/(?:\bfrom|\bimport)\s*["'`]\.\/([^"'`]+\.js)["'`]/g))
      files.add(`assets/${path}`);
  }
  return [...files];
}

for (const page of ["index.html", "bench.html"]) {
  test(`the first paint of ${page} takes less than 100 KB`, (t) => {
    const files = firstPaint(page);
    const sizes = files.map((file) => gzipSync(readFileSync(new URL(file, dist)), { level: 9 }).length);
    const sum = sizes.reduce((all, n) => all + n, 0);
    t.diagnostic(`${sum} bytes in ${files.length} files`);
    assert.ok(
      files.some((file) => file.endsWith(".css")) && files.filter((file) => file.endsWith(".js")).length >= 2,
      `${files}`,
    );
    assert.ok(sum < 100_000, `${sum}: ${files.map((file, i) => `${file} ${sizes[i]}`).join(", ")}`);
    // What is drawn later comes later.
    for (const late of ["markdown-", "highlight-", "formula-", "plot-"])
      assert.ok(!files.some((file) => file.includes(late)), late);
  });

  test(`${page} allows no code but its own`, () => {
    const html = readFileSync(new URL(page, dist), "utf8").replaceAll("&#39;", "'");
    const policy = /http-equiv="Content-Security-Policy" content="([^"]+)"/.exec(html)?.[1] ?? "";
    assert.match(policy, /default-src 'none'/);
    assert.match(policy, /script-src 'self' 'wasm-unsafe-eval';/);
    assert.match(policy, /style-src 'self';/);
    assert.doesNotMatch(policy, /unsafe-inline|'unsafe-eval'/);
    assert.doesNotMatch(html, /(?:src|href)="(?:https?:)?\/\//);
    for (const file of firstPaint(page)) assert.ok(existsSync(new URL(file, dist)), file);
  });
}

test("the calculator follows the rules of arithmetic and says what is wrong", async () => {
  const { calculate } = await part("calculate.ts");
  for (const [text, value] of /** @type {const} */ ([
    ["1 + 2 * 3", 7],
    ["(1 + 2) * 3", 9],
    ["-2 ^ 2", -4],
    ["2 ^ 3 ^ 2", 512],
    ["2 ** -1", 0.5],
    ["10 % 4 - 7 ÷ 2", -1.5],
    ["1.5e3 × .5", 750],
    ["sqrt(2) * sqrt(2) - cos(0)", Math.SQRT2 * Math.SQRT2 - 1],
    ["round(PI)", 3],
    ["--3", 3],
  ])) {
    assert.equal(calculate(text), value, text);
  }
  for (const [text, why] of /** @type {const} */ ([
    ["", /ends where a number is expected/],
    ["1 +", /ends where a number is expected/],
    ["(1", /"\)" is missing/],
    ["1 2", /"2" stands where the expression should end/],
    ["alert(1)", /"alert" is no number/],
    ["constructor(1)", /"constructor" is no number/],
    ["2 $ 3", /at character 2.*found "\$"/],
    ["1 / 0", /not a finite number/],
    ["sqrt 4", /"\(" is expected after sqrt/],
    ["(".repeat(5000), /more than 100 parentheses/],
    ["2^".repeat(5000), /more than 100 powers/],
  ])) {
    assert.throws(() => calculate(text), why, text);
  }
});

test("a conversation is a tree, and shows one branch of it", async () => {
  const tree = await part("tree.ts");
  const node = (
    /** @type {string} */ id,
    /** @type {string | null} */ parent,
    /** @type {string} */ role,
    more = {},
  ) => ({
    id,
    parent,
    role,
    content: `${role} ${id}`,
    state: "done",
    ...more,
  });
  let c = tree.emptyConversation(1);
  c = tree.add(c, node("a", null, "user"), 2);
  c = tree.add(c, node("b", "a", "assistant"), 3);
  c = tree.add(c, node("c", "b", "user"), 4);
  c = tree.add(c, node("d", "c", "assistant", { state: "streaming" }), 5);
  const ids = () =>
    tree
      .branch(c)
      .map((/** @type {{ id: string }} */ { id }) => id)
      .join("");
  assert.equal(c.title, "user a");
  assert.equal(ids(), "abcd");
  // Answered again, and asked otherwise.
  c = tree.add(c, node("e", "a", "assistant"), 6);
  assert.equal(ids(), "ae");
  assert.deepEqual(
    tree.siblings(c, c.nodes.b).map((/** @type {{ id: string }} */ { id }) => id),
    ["b", "e"],
  );
  c = tree.show(c, "b");
  assert.equal(ids(), "abcd", "to the newest end of it");
  c = tree.add(c, node("f", null, "user"), 7);
  assert.equal(ids(), "f");
  assert.equal(tree.siblings(c, c.nodes.f).length, 2);
  c = tree.settle(tree.show(c, "a"));
  assert.equal(c.nodes.d.state, "interrupted");
  assert.equal(c.updatedAt, 7);
  c = tree.prune(tree.show(c, "d"), "b");
  assert.equal(ids(), "a");
  assert.deepEqual(c.order, ["a", "e", "f"]);
});

test("the model is told the branch: with its tools, without answers of which nothing came", async () => {
  const { told, markdown, titleOf } = await part("tree.ts");
  const call = { id: "1", type: "function", function: { name: "clock", arguments: '{"zone":"UTC"}' } };
  const path = [
    { id: "a", role: "user", content: "one" },
    { id: "b", role: "assistant", content: "" },
    { id: "c", role: "user", content: "two" },
    { id: "d", role: "assistant", content: "", reasoning: "hm", calls: [call] },
    { id: "e", role: "tool", content: "noon", callId: "1" },
    { id: "f", role: "assistant", content: "It is noon." },
  ].map((node, i, all) => ({ ...node, parent: all[i - 1]?.id ?? null, state: "done" }));
  assert.deepEqual(told(path, "Be brief."), [
    { role: "system", content: "Be brief." },
    { role: "user", content: "two" },
    { role: "assistant", content: null, tool_calls: [call] },
    { role: "tool", content: "noon", tool_call_id: "1" },
    { role: "assistant", content: "It is noon." },
  ]);
  assert.equal(told(path, " ")[0].role, "user");
  const nodes = Object.fromEntries(path.map((node) => [node.id, node]));
  const text = markdown({ title: "T", nodes, leaf: "f" });
  for (const words of [
    "# T",
    "## You\n\ntwo",
    "<summary>Thoughts</summary>\n\nhm",
    "**Call** `clock`",
    "**Result**",
    "It is noon.",
  ])
    assert.ok(text.includes(words), words);
  assert.equal(titleOf("a ".repeat(60)), `${Array(24).fill("a").join(" ")}…`);
  assert.equal(titleOf("  "), "Picture");
});
