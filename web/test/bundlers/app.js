// What an app does with the package: every entry point is imported, and a tiny model answers.
import { createEngine } from "pagelm";
import { createPagelm } from "pagelm/ai-sdk";
import { openConversations } from "pagelm/conversations";
import { languageModel } from "pagelm/prompt-api";
import { withRemote } from "pagelm/remote";
import { tabs } from "pagelm/share";
import { runTools } from "pagelm/tools";

/** What the model writes, and with how many threads. */
export async function answer(create = createEngine) {
  const engine = await create({ model: "/golden/llama.gguf", backend: "cpu", cache: false });
  try {
    let text = "";
    for await (const piece of engine.generate([3, 5, 8], { maxTokens: 8, temperature: 0, ignoreEos: true }))
      if (piece.kind === "token") text += piece.text;
    const entries = [createPagelm, openConversations, languageModel, withRemote, tabs, runTools];
    const doors = entries.map((door) => typeof door);
    return { text, doors, threads: engine.info.wasm.threads, why: engine.info.wasm.whyOneThread };
  } finally {
    engine.dispose();
  }
}

/** @param {unknown} said */
export const show = (said) => Object.assign(globalThis, { said });
