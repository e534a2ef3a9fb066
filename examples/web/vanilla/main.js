// Loads a model at the first question and shows its answers as they come.
import { createEngine, models } from "pagelm";

const form = document.querySelector("#chat");
const status = document.querySelector("#status");
const answer = document.querySelector("#answer");
let engine;

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    engine ??= await createEngine({
      model: `/models/${models.tested["smollm2-135m"].file}`,
      onProgress: ({ phase, loaded }) => {
        status.textContent = `${phase}, ${(loaded / 1e6).toFixed(0)} MB`;
      },
    });
    status.textContent = `on ${engine.backend}: ${engine.info.backendReason}`;
    answer.textContent = "";
    const stream = await engine.chat.completions.create({
      messages: [{ role: "user", content: form.elements.question.value }],
      temperature: 0,
      max_tokens: 200,
      stream: true,
    });
    for await (const chunk of stream) answer.textContent += chunk.choices[0]?.delta.content ?? "";
    form.dataset.state = "answered";
  } catch (error) {
    // A PagelmError: its message says what to do, its code is stable.
    status.textContent = `${error.code}: ${error.message}`;
  }
});
