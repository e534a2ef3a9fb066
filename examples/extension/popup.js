// Any page of the extension asks like this.
const form = document.querySelector("form");
const output = document.querySelector("#answer");

/** The text of an answer, as it comes. */
async function* ask(params) {
  const { error } = await chrome.runtime.sendMessage("open the engine");
  if (error) throw new Error(error);
  const port = chrome.runtime.connect();
  const events = [];
  let wake = () => {};
  const hear = (event) => {
    events.push(event);
    wake();
  };
  port.onMessage.addListener(hear);
  port.onDisconnect.addListener(() => hear({ error: "the engine's document was closed" }));
  port.postMessage(params);
  try {
    for (;;) {
      const event = events.shift();
      if (!event) {
        await new Promise((go) => {
          wake = go;
        });
        continue;
      }
      if (event.error) throw new Error(event.error);
      if (event.done) return;
      yield event.chunk.choices[0]?.delta.content ?? "";
    }
  } finally {
    port.disconnect();
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  form.dataset.state = "answering";
  output.textContent = "";
  const messages = [{ role: "user", content: form.question.value }];
  try {
    for await (const text of ask({ messages, temperature: 0, max_tokens: 64 })) output.append(text);
    form.dataset.state = "answered";
  } catch (e) {
    output.textContent = e.message;
    form.dataset.state = "failed";
  }
});
