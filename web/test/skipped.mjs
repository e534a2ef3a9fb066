// What could not be tested is said, not passed over: `make test` prints the list at its end.
import { appendFileSync } from "node:fs";

/**
 * Lists the running test as one that could not run. Under CI nothing may be skipped.
 * @param {import("node:test").TestContext} t @param {string} reason
 */
export function skip(t, reason) {
  if (process.env.CI) throw new Error(`${reason}; under CI nothing may be skipped`);
  if (process.env.PAGELM_SKIPPED) appendFileSync(process.env.PAGELM_SKIPPED, `${t.name}: ${reason}\n`);
  t.skip(reason);
}
