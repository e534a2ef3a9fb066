// How busy others keep this machine, from /proc; elsewhere nothing is known.
import { existsSync, readdirSync, readFileSync } from "node:fs";

const HZ = 100;
export const known = existsSync("/proc/stat");

/** Seconds of all cores that were worked, and the clock. */
export function machine() {
  const all = known ? (readFileSync("/proc/stat", "utf8").split("\n")[0] ?? "").trim().split(/\s+/).slice(1) : [];
  const ticks = all.slice(0, 8).reduce((sum, n, i) => (i === 3 || i === 4 ? sum : sum + Number(n)), 0);
  return { worked: ticks / HZ, at: performance.now() / 1000 };
}

/** Seconds that this process and its children worked, by their process tree: browsers end theirs after the bench. */
export function own() {
  if (!known) return 0;
  /** @type {Map<number, { parent: number, worked: number }>} */
  const all = new Map();
  for (const name of readdirSync("/proc")) {
    try {
      const stat = readFileSync(`/proc/${Number(name)}/stat`, "utf8");
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      all.set(Number(name), { parent: Number(fields[1]), worked: (Number(fields[11]) + Number(fields[12])) / HZ });
    } catch {
      // Not a process, or one that ended meanwhile.
    }
  }
  const mine = (/** @type {number} */ pid) => {
    for (let at = pid; at > 1; at = all.get(at)?.parent ?? 0) if (at === process.pid) return true;
    return false;
  };
  return [...all].reduce((sum, [pid, { worked }]) => (mine(pid) ? sum + worked : sum), 0);
}

/** Measures while something runs: cores that others used meanwhile, and core seconds of our own. */
export function watch() {
  const [before, worked] = [machine(), own()];
  return () => {
    const after = machine();
    const seconds = own() - worked;
    return { seconds, others: Math.max(0, (after.worked - before.worked - seconds) / (after.at - before.at)) };
  };
}

/** Waits until fewer than so many cores are busy, at most so long. @param {number} seconds @param {number} below */
export async function quiet(seconds, below = 0.15) {
  const end = performance.now() + seconds * 1000;
  const sleep = (/** @type {number} */ ms) => new Promise((done) => setTimeout(done, ms));
  while (known && performance.now() < end) {
    const before = machine();
    await sleep(1000);
    const after = machine();
    if ((after.worked - before.worked) / (after.at - before.at) < below) return;
  }
}
