// The page only asks and shows; everything that it hears comes from worker.js.
const form = document.querySelector("#chat");
const status = document.querySelector("#status");
const answer = document.querySelector("#answer");
const worker = new Worker("worker.js", { type: "module" });

form.addEventListener("submit", (event) => {
  event.preventDefault();
  answer.textContent = "";
  worker.postMessage({ question: form.elements.question.value });
});

worker.addEventListener("message", ({ data }) => {
  if (data.status !== undefined) status.textContent = data.status;
  if (data.text !== undefined) answer.textContent += data.text;
  if (data.done) form.dataset.state = "answered";
});
