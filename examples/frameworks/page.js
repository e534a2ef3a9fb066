// A question, and where its answer comes: what the examples without a framework draw on.
const form = document.querySelector("form");
const answer = document.querySelector("#answer");

/** Calls `ask` with the question, and what shows more of the answer. */
export function page(ask) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    answer.textContent = "";
    try {
      await ask(form.elements.question.value, (text) => {
        answer.textContent += text;
      });
      document.body.dataset.state = "answered";
    } catch (error) {
      answer.textContent = error.message;
      document.body.dataset.state = "failed";
    }
  });
}
