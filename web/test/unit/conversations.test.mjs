// Conversations over an engine that answers as a script says: what is kept, where there is room and where there is none.
import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeStorage } from "./opfs.mjs";
import { calls, scripted, text } from "./scripted.mjs";
import { source } from "./source.mjs";
import { untyped } from "./untyped.mjs";

const { openConversations } = await source("conversations.ts");

/** @typedef {Parameters<typeof openConversations>[1]} Options */

/** @param {import("./scripted.mjs").Answer[]} answers @param {Options} options */
async function open(answers, options = {}) {
  const made = scripted(...answers);
  const problems = /** @type {string[]} */ ([]);
  const all = await openConversations(made.engine, { onProblem: (problem) => problems.push(problem), ...options });
  return { ...made, all, problems };
}

/** The text of an answer, or the code of its error. @param {AsyncIterable<import("pagelm").ChatChunk>} stream */
async function said(stream) {
  let all = "";
  try {
    for await (const { choices } of stream) all += choices[0]?.delta.content ?? "";
  } catch (e) {
    return /** @type {{ code: string }} */ (e).code;
  }
  return all;
}

test("without storage conversations are in memory, and the page is told", async () => {
  const { all, problems, asked } = await open([text("Hel", "lo"), calls("add", "{}"), text("3")]);
  assert.equal(problems.length, 1);
  assert.equal(all.problem, problems[0]);
  const conversation = await all.create({ messages: [{ role: "system", content: "Be brief." }] });
  assert.equal(await said(conversation.send("  What is\nthis? ", { temperature: 0 })), "Hello");
  assert.deepEqual(conversation.messages.slice(1), [
    { role: "user", content: "  What is\nthis? " },
    { role: "assistant", content: "Hello" },
  ]);
  const tools = [{ type: /** @type {const} */ ("function"), function: { name: "add" } }];
  await said(conversation.send("1 + 2?", { tools }));
  const { tool_calls: [call] = [] } = untyped(conversation.messages.at(-1));
  assert.equal(call.function.name, "add");
  assert.equal(await said(conversation.send({ role: "tool", content: "3", tool_call_id: call.id }, { tools })), "3");
  assert.deepEqual(
    asked.map(({ messages }) => messages.length),
    [2, 4, 6],
  );
  const [info] = await all.list();
  assert.deepEqual([info?.title, info?.model, info?.state], ["What is this?", "Scripted", "idle"]);
  await all.rename(conversation.id, "Sums");
  assert.deepEqual(
    (await all.list()).map(({ title }) => title),
    ["Sums"],
  );
  assert.equal((await all.open(conversation.id)).messages.length, 7);
  await all.delete(conversation.id);
  assert.deepEqual(await all.list(), []);
  await assert.rejects(all.open(conversation.id), { code: "invalid-argument", place: conversation.id });
  assert.equal(problems.length, 1);
});

test("what came of an answer that is stopped stays, and a question without any of it is taken back", async () => {
  const { all, stopped } = await open([
    { ...text("Once ", "upon "), hang: true },
    { error: { code: "context_length_exceeded", message: "too long", param: "messages" } },
    text("end"),
  ]);
  const conversation = await all.create();
  for await (const { choices } of conversation.send("Tell")) if (choices[0]?.delta.content) break;
  assert.ok(stopped());
  assert.deepEqual(conversation.messages.at(-1), { role: "assistant", content: "Once " });
  assert.equal(await said(conversation.send("More")), "context-overflow");
  assert.deepEqual([conversation.messages.length, conversation.unfinished], [2, false]);
  await assert.rejects(all.resume(conversation.id), { code: "invalid-state" });
  assert.equal(await said(conversation.send("Again")), "end");
  assert.equal(conversation.messages.length, 4);
});

test("one answer comes at a time, and images are kept as URLs", async () => {
  const { all, asked } = await open([{ ...text("Slow"), hang: true }, text("seen")]);
  const conversation = await all.create();
  const first = conversation.send("One");
  await first.next();
  assert.equal((await all.list())[0]?.state, "answering");
  assert.equal(await said(conversation.send("Two")), "invalid-state");
  await assert.rejects(all.delete(conversation.id), { code: "invalid-state" });
  await first.return();
  const image = {
    type: /** @type {const} */ ("image_url"),
    image_url: { url: new Blob(["x"], { type: "image/png" }) },
  };
  assert.equal(await said(conversation.send({ role: "user", content: [image] })), "seen");
  assert.equal(asked.at(-1).messages.at(-1).content[0].image_url.url, "data:image/png;base64,eA==");
  await assert.rejects(all.create({ messages: untyped([{ role: "user", content: () => 1 }]) }), {
    code: "invalid-argument",
    place: "messages[0].content",
  });
});

test("what is stored is found by another page, and where it is full the rest is in memory", async (t) => {
  const storage = new FakeStorage().install(t);
  const { all, problems } = await open([text("a")]);
  const { id } = await all.create({ title: "Kept" });
  await said((await all.open(id)).send("First"));
  assert.deepEqual([problems, all.problem, [...storage.files.keys()]], [[], null, [`${id}.chat`]]);
  storage.quota = storage.used;
  const other = await open([text("b")]);
  const conversation = await other.all.open(id);
  assert.deepEqual([conversation.title, conversation.messages.length], ["Kept", 2]);
  assert.equal(await said(conversation.send("Second")), "b");
  assert.deepEqual([other.problems.length, /Quota/.test(other.all.problem ?? "")], [1, true]);
  assert.equal((await other.all.open(id)).messages.length, 4);
  // The other page has what was there before.
  assert.equal((await all.open(id)).messages.length, 2);
  storage.quota = Number.POSITIVE_INFINITY;
  await said((await other.all.open(id)).send("Third"));
  assert.equal((await all.open(id)).messages.length, 6);
});

test("a damaged file is refused by name, and is left out of the list", async (t) => {
  const storage = new FakeStorage().install(t);
  const { all } = await open([text("a")]);
  const { id } = await all.create({ title: "Kept" });
  const file = storage.only(".chat");
  file.bytes = file.bytes.slice(0, 20);
  assert.deepEqual(await all.list(), []);
  await assert.rejects(all.open(id), { code: "invalid-argument", message: /damaged/ });
});

/** What a journal says of tokens; with `likely` how likely each was, and what else was. @param {number[]} tokens */
const journal = (tokens, likely = false) => [
  0,
  ...[2, 5],
  ...tokens.flatMap((id) => (likely ? [4, id, 0xbf000000, 2, ...[3, 0, 3, 0]] : [3, id])),
  ...[5, 0],
  1,
];

test("a snapshot is kept if it is of the answer, and not of what another request left", async (t) => {
  const storage = new FakeStorage().install(t);
  const [prompt, tokens, other] = [
    [1, 2, 3, 4, 5],
    [40, 41, 42, 43, 44, 45],
    [1, 2, 90, 91, 92, 93, 94, 95],
  ];
  const after = (/** @type {number[]} */ left, said = journal(tokens)) => ({ ...text("Hello"), journal: said, left });
  /** Whether there is one. @param {import("./scripted.mjs").Answer[]} answers */
  const kept = async (...answers) => {
    const { all, engine } = await open(answers);
    const { id } = await all.create();
    assert.equal(await said((await all.open(id)).send("Hi")), "Hello");
    // Requests of the page's own code, which the conversations do not see.
    const messages = [{ role: /** @type {const} */ ("user"), content: "A title?" }];
    for (const _ of answers.slice(1)) await engine.chat.completions.create({ messages });
    await all.close();
    return storage.files.has(`${id}.cache`);
  };
  const whole = [...prompt, ...tokens];
  assert.ok(await kept(after(whole)));
  assert.ok(await kept(after(whole, journal(tokens, true))));
  // The last was drawn and did not run, nor did those that a grammar gave.
  assert.ok(await kept(after(whole.slice(0, -1))));
  assert.ok(await kept(after(whole.slice(0, -3))));
  // More had run than came, when it was stopped.
  assert.ok(await kept(after([...whole, 46, 47])));
  assert.equal(await kept(after(whole), { ...text("Greetings"), left: other }), false);
  assert.equal(await kept(after(whole), { ...text("Greetings"), left: [...whole, ...Array(100).fill(9)] }), false);
  // Only the prompt is there, which may be any.
  assert.equal(await kept(after(prompt)), false);
  assert.equal(await kept(after([])), false);
  assert.equal(await kept(after(whole, [])), false);
});
