// The package's worker, on a system that has no room for its threads.
// @ts-expect-error: only the server knows this path
import "/dist/worker-threads.js";

if (self.name === "pagelm thread") {
  self.close();
  throw new Error("no room");
}
