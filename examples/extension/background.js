// The service worker. It has no GPU for long, and ends when nothing happens: the engine is in an offscreen document, which
// this script opens for whoever asks.

/** Opening it, if nothing opened it yet. @type {Promise<void> | undefined} */
let opening;

async function open() {
  const url = chrome.runtime.getURL("offscreen.html");
  const contexts = await chrome.runtime.getContexts({ contextTypes: ["OFFSCREEN_DOCUMENT"], documentUrls: [url] });
  if (contexts.length) return;
  const justification = "runs a language model in a worker";
  opening ??= chrome.offscreen.createDocument({ url, reasons: ["WORKERS"], justification }).finally(() => {
    opening = undefined;
  });
  await opening;
}

// At the top level, and not after an `await`: a worker that was ended is started by an event, and only what its script
// registers at once hears of it.
chrome.runtime.onMessage.addListener((message, _, answer) => {
  if (message !== "open the engine") return;
  open().then(
    () => answer({}),
    (e) => answer({ error: String(e) }),
  );
  // The answer comes later.
  return true;
});
