// The engine, for all pages of the extension. Each question comes on a port of its own, and its answer goes back there.
import { MODEL } from "./model.js";
import { createEngine } from "./pagelm.js"; // npx pagelm-single pagelm.js

/** Loaded with the first question. @type {Promise<import("pagelm").Engine> | undefined} */
let engine;

function loaded() {
  engine ??= createEngine({ model: MODEL }).catch((e) => {
    engine = undefined;
    throw e;
  });
  return engine;
}

chrome.runtime.onConnect.addListener((port) => {
  const gone = new AbortController();
  port.onDisconnect.addListener(() => gone.abort());
  port.onMessage.addListener(async (params) => {
    try {
      const { chat } = await loaded();
      for await (const chunk of await chat.completions.create({ ...params, stream: true }, { signal: gone.signal }))
        port.postMessage({ chunk });
      port.postMessage({ done: true });
    } catch (e) {
      if (!gone.signal.aborted) port.postMessage({ error: e.message });
    }
  });
});
