// The package's worker in which, a little later, a call traps inside a promise: what a panic of the engine looks like.
// @ts-expect-error: only the server knows this path
import "/dist/worker.js";

setTimeout(() => Promise.reject(new WebAssembly.RuntimeError("unreachable")), 300);
