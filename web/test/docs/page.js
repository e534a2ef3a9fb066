// A page in which the blocks of the documentation run, with what they expect to be there.
import { createEngine, disposeAll, keep } from "./pagelm.js";

const shown = /** @type {string[]} */ ([]);
/** The template of the smallest model has no place for tools. */
const load = async (/** @type {string} */ kind) =>
  keep(await createEngine({ model: `hf:a/${kind}:Q4`, contextLength: 1024 }));
const smallest = await load("chat");
/** @type {Promise<import("pagelm").Engine> | undefined} */
let calling;
Object.assign(globalThis, {
  messages: [{ role: "user", content: "What is a browser?" }],
  show: (/** @type {unknown} */ text) => void shown.push(String(text)),
});

globalThis.docs = {
  /** Runs a block, and returns what it showed. */
  async run(url) {
    shown.length = 0;
    if (/tools/.test(url)) calling ??= load("tools");
    Object.assign(globalThis, { engine: (/tools/.test(url) && (await calling)) || smallest });
    try {
      await import(url);
    } finally {
      disposeAll();
    }
    return shown.concat(document.querySelector("#answer")?.textContent ?? "");
  },
};
