// The package's worker, which stops after so many steps (`?steps=`): so a page can end in the middle of an answer.
let left = Number(new URL(import.meta.url).searchParams.get("steps"));
const { postMessage } = MessagePort.prototype;
MessagePort.prototype.postMessage = function (/** @type {unknown[]} */ ...given) {
  // What yields to the event loop before each step.
  if (given[0] === null && left-- <= 0) return;
  Reflect.apply(postMessage, this, given);
};
// @ts-expect-error: only the server knows this path
await import("/dist/worker.js");
