// The demo's answers over an engine that answers as a script says: rounds of tools, thoughts, stops and errors.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";
import { Window } from "happy-dom";
import { calls, scripted, text } from "./scripted.mjs";

const window = new Window({ url: "http://localhost/" });
const { document, location, localStorage, sessionStorage } = window;
Object.assign(globalThis, { document, location, localStorage, sessionStorage, addEventListener: () => {} });
const at = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));
// In one script: parts of it are imported while it runs.
const folder = mkdtempSync(join(tmpdir(), "pagelm-demo-"));
after(() => rmSync(folder, { recursive: true }));
const outfile = join(folder, "parts.mjs");
await build({
  entryPoints: [at("./demo-parts.ts")],
  outfile,
  bundle: true,
  format: "esm",
  platform: "node",
  logLevel: "error",
  alias: { pagelm: at("../../src/index.ts"), "pagelm/tools": at("../../src/tools.ts") },
});
const module = await import(pathToFileURL(outfile).href);
const { answer, chats, engine, settings, tree } = /** @type {typeof import("./demo-parts.ts")} */ (module);

/** A new conversation over an engine with this script. @param {...Parameters<typeof scripted>[0]} answers */
function begin(...answers) {
  const made = scripted(...answers);
  engine.engine.value = made.engine;
  engine.problem.value = null;
  chats.select(null);
  return made;
}
const path = () => tree.branch(/** @type {import("../../demo/src/tree.ts").Conversation} */ (chats.open.value));

test("tools run until an answer calls none, and the branch has all of it", async () => {
  settings.set({ tools: true, system: "Be brief." });
  const { asked } = begin(
    calls("calculator", '{"expression":', '"6 * 7"}'),
    calls("clock", '{"zone":"Nowhere/Land"}'),
    { deltas: [{ reasoning_content: "So it is." }, { content: "It is 42." }] },
  );
  await answer.ask("What is 6 times 7?", []);
  assert.equal(engine.problem.value, null);
  assert.deepEqual(
    path().map(({ role, content, calls, failed, state, reasoning }) => ({
      role,
      ...(content && !failed && { content }),
      ...(calls && { called: calls.map((call) => `${call.function.name} ${call.function.arguments}`) }),
      ...(failed && { failed, why: /Nowhere/.test(content) }),
      ...(reasoning && { reasoning }),
      state,
    })),
    [
      { role: "user", content: "What is 6 times 7?", state: "done" },
      { role: "assistant", called: ['calculator {"expression":"6 * 7"}'], state: "done" },
      { role: "tool", content: '{"result":42}', state: "done" },
      { role: "assistant", called: ['clock {"zone":"Nowhere/Land"}'], state: "done" },
      { role: "tool", failed: true, why: true, state: "done" },
      { role: "assistant", content: "It is 42.", reasoning: "So it is.", state: "done" },
    ],
  );
  assert.equal(answer.announced.value, "Answer complete. It is 42.");
  assert.deepEqual(
    asked[0].tools.map((/** @type {{ function: { name: string } }} */ t) => t.function.name),
    ["calculator", "clock", "read_page"],
  );
  assert.deepEqual(
    asked[2].messages.map((/** @type {{ role: string }} */ m) => m.role),
    ["system", "user", "assistant", "tool", "assistant", "tool"],
  );
  // Asked again, it is told of the question alone.
  const last = path().at(-1);
  const open = chats.open.value;
  assert.ok(last && open);
  await answer.regenerate(open, last);
  assert.deepEqual(
    asked.at(-1).messages.map((/** @type {{ role: string }} */ m) => m.role),
    ["system", "user"],
  );
  assert.deepEqual(
    path().map(({ role }) => role),
    ["user", "assistant"],
  );
  settings.set({ tools: false, system: "" });
});

test("what came before a stop or an error stays, and of nothing nothing does", async () => {
  begin({ ...text("The sea", " is"), hang: true });
  const asking = answer.ask("Tell me of the sea.", []);
  while (path().at(-1)?.content !== "The sea is") await new Promise((done) => setTimeout(done, 1));
  answer.stop();
  await asking;
  assert.deepEqual(
    path().map(({ content, state }) => [content, state]),
    [
      ["Tell me of the sea.", "done"],
      ["The sea is", "stopped"],
    ],
  );
  assert.equal(answer.announced.value, "Stopped. The sea is");
  assert.equal(engine.problem.value, null);

  begin({ ...text("Half"), breaks: "internal" });
  await answer.ask("Again.", []);
  assert.deepEqual(
    path().map(({ content, state }) => [content, state]),
    [
      ["Again.", "done"],
      ["Half", "failed"],
    ],
  );
  assert.match(JSON.stringify(engine.problem.value), /it broke/);

  begin({ error: { code: "context-overflow", message: "too long" } });
  await answer.ask("Once more.", []);
  assert.deepEqual(
    path().map(({ content }) => content),
    ["Once more."],
  );
  assert.equal(engine.state.value, "ready");
});

test("an answer that was cut goes on where it ended", async () => {
  const { asked } = begin({ ...text("One, two"), finish: "length" }, text(", three."));
  await answer.ask("Count.", []);
  const [, cut] = path();
  assert.match(cut?.cut ?? "", /^The answer was cut: it reached 5 tokens/);
  assert.ok(chats.open.value && cut);
  await answer.goOn(chats.open.value, cut);
  assert.deepEqual(
    path().map(({ content, cut }) => [content, cut]),
    [
      ["Count.", undefined],
      ["One, two, three.", ""],
    ],
  );
  assert.equal(asked[1].continue_final_message, true);
  assert.equal(asked[1].messages.at(-1).content, "One, two");
});
