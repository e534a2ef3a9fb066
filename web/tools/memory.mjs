// Memory of a browser's processes, from /proc.
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";

/** Whether this machine tells the peak of a process's memory, and lets it be reset. */
export const known = existsSync("/proc/self/clear_refs");

/** Bytes that a process has, or had at most. @param {number} pid @param {"VmRSS" | "VmHWM"} name */
export function memory(pid, name) {
  const text = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text)?.[1]) * 1024;
}

/** From here on the peak is that of what follows. @param {number} pid */
export const resetPeak = (pid) => writeFileSync(`/proc/${pid}/clear_refs`, "5");

/** The process of the page: of those that this program started, the renderer of Chromium that holds the most. */
export function renderer() {
  const own = (/** @type {number} */ pid) => {
    for (let at = pid; at > 1; ) {
      if (at === process.pid) return true;
      at = Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${at}/status`, "utf8"))?.[1]);
    }
    return false;
  };
  const all = readdirSync("/proc").map(Number).filter(Boolean);
  const pages = all.filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("--type=renderer") && own(pid);
    } catch {
      return false; // It ended meanwhile.
    }
  });
  const [most] = pages.sort((a, b) => memory(b, "VmRSS") - memory(a, "VmRSS"));
  if (most === undefined) throw new Error("no page runs");
  return most;
}
