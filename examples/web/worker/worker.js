// The app's own worker. The engine has workers besides; they are started from here, and end with this one.
// Import maps are not for workers, so the address is written out.
import { createEngine, models } from "/pagelm/index.js";

let engine;

self.addEventListener("message", async ({ data: { question } }) => {
  try {
    // A promise, so that a second question does not load a second model.
    engine ??= createEngine({
      model: `/models/${models.tested["smollm2-135m"].file}`,
      onProgress: ({ phase, loaded }) => self.postMessage({ status: `${phase}, ${(loaded / 1e6).toFixed(0)} MB` }),
    });
    const { chat, backend, info } = await engine;
    self.postMessage({ status: `on ${backend}: ${info.backendReason}` });
    const stream = await chat.completions.create({
      messages: [{ role: "user", content: question }],
      temperature: 0,
      max_tokens: 200,
      stream: true,
    });
    for await (const chunk of stream) self.postMessage({ text: chunk.choices[0]?.delta.content ?? "" });
    self.postMessage({ done: true });
  } catch (error) {
    engine = undefined;
    self.postMessage({ status: `${error.code}: ${error.message}` });
  }
});
