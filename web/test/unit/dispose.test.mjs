// `using` and `await using`: what ends with its block.
import assert from "node:assert/strict";
import { test } from "node:test";
import { FakePort } from "./port.mjs";
import { source } from "./source.mjs";

const { Client } = await source("page/client.ts");
const { Engine } = await source("page/engine.ts");

/** What `await using` does, also as esbuild writes it. @param {string} name */
const symbol = (name) => /** @type {any} */ (Symbol)[name] ?? Symbol.for(`Symbol.${name}`);

test("a session ends with its block, and an engine with its own", async () => {
  const port = new FakePort();
  const engine = Engine.open(new Client(port));
  const opening = engine.session();
  await new Promise(setImmediate);
  port.say({ op: "done", id: port.asked("openSession").id, value: 7 });
  const session = /** @type {any} */ (await opening);
  const closed = session[symbol("asyncDispose")]();
  const { id, session: number } = port.asked("closeSession");
  assert.equal(number, 7);
  port.say({ op: "done", id, value: undefined });
  await closed;
  await assert.rejects(session.decode(1), { code: "invalid-state" });
  // `await using` takes this too.
  /** @type {any} */ (engine)[symbol("dispose")]();
  assert.deepEqual([port.terminated, engine.ended?.code], [1, "disposed"]);
});
