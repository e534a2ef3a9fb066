// The hook of the package: the model is loaded with the first question.
import { usePagelm } from "pagelm/react";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { model } from "./model.js";

function Chat() {
  const { status, progress, messages, error, send, stop } = usePagelm({
    model,
    load: "asked",
    params: { temperature: 0, max_tokens: 60 },
  });
  const ask = async (data) => {
    await send(data.get("question"));
    document.body.dataset.state = "answered";
  };
  return (
    <form action={(data) => void ask(data)}>
      {messages.map(({ id, role, content }) => (
        <p key={id} id={role === "assistant" ? "answer" : undefined}>
          {content}
        </p>
      ))}
      {status === "loading" && <progress value={progress?.loaded} max={progress?.total} />}
      {error && <p role="alert">{error.message}</p>}
      <input name="question" aria-label="Question" size="60" defaultValue="Explain what a browser is." />
      <button>Ask</button>
      {status === "answering" && (
        <button type="button" onClick={stop}>
          Stop
        </button>
      )}
    </form>
  );
}

createRoot(document.querySelector("#app")).render(
  <StrictMode>
    <Chat />
  </StrictMode>,
);
