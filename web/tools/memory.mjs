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

/** Bytes that a process has for itself: not the program, which all processes of a browser share. @param {number} pid */
function ownMemory(pid) {
  const text = readFileSync(`/proc/${pid}/status`, "utf8");
  // One that has ended and is not yet taken away has none.
  const kB = (/** @type {string} */ name) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text)?.[1] ?? 0);
  return (kB("RssAnon") + kB("RssShmem")) * 1024;
}

/** From here on the most that one of the pages that are open now has for itself. What is called in the end says it. */
export function watchOwnMemory() {
  const pids = renderers();
  let most = 0;
  const look = () => {
    for (const pid of pids) {
      try {
        most = Math.max(most, ownMemory(pid));
      } catch {
        // It ended meanwhile.
      }
    }
  };
  const timer = setInterval(look, 50);
  return () => {
    clearInterval(timer);
    look();
    return most;
  };
}

/** The process of the page: of those that this program started, the renderer of Chromium that holds the most. */
export function renderer() {
  const [most] = renderers().sort((a, b) => memory(b, "VmRSS") - memory(a, "VmRSS"));
  if (most === undefined) throw new Error("no page runs");
  return most;
}

/** Processes of pages, of browsers that this program started. */
function renderers() {
  const own = (/** @type {number} */ pid) => {
    for (let at = pid; at > 1; ) {
      if (at === process.pid) return true;
      at = Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${at}/status`, "utf8"))?.[1]);
    }
    return false;
  };
  const all = readdirSync("/proc").map(Number).filter(Boolean);
  return all.filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("--type=renderer") && own(pid);
    } catch {
      return false; // It ended meanwhile.
    }
  });
}
