// The AI SDK's chat for React without a server: the page answers itself, and tells how far the download is.
import { useChat } from "@ai-sdk/react";
import { convertToModelMessages, createUIMessageStream, streamText, toUIMessageStream } from "ai";
import { createPagelm } from "pagelm/ai-sdk";
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { model } from "./model.js";

let tell = () => {};
const pagelm = createPagelm({ onProgress: (progress) => tell(progress) });
const transport = {
  sendMessages: async ({ messages, abortSignal }) =>
    createUIMessageStream({
      async execute({ writer }) {
        tell = (data) => writer.write({ type: "data-progress", id: "progress", data, transient: true });
        const local = pagelm(model);
        await local.load(abortSignal);
        const { stream } = streamText({
          model: local,
          messages: await convertToModelMessages(messages),
          temperature: 0,
          maxOutputTokens: 60,
          abortSignal,
        });
        writer.merge(toUIMessageStream({ stream }));
      },
    }),
  reconnectToStream: async () => null,
};

function Chat() {
  const [progress, setProgress] = useState(null);
  const { messages, sendMessage, status, stop, error } = useChat({
    transport,
    onData: ({ data }) => setProgress(data),
    onFinish: () => {
      document.body.dataset.state = "answered";
    },
  });
  const text = ({ parts }) => parts.map((part) => (part.type === "text" ? part.text : "")).join("");
  return (
    <form action={(data) => void sendMessage({ text: data.get("question") })}>
      {messages.map((message) => (
        <p key={message.id} id={message.role === "assistant" ? "answer" : undefined}>
          {text(message)}
        </p>
      ))}
      {status === "submitted" && progress && <progress value={progress.loaded} max={progress.total} />}
      {error && <p role="alert">{error.message}</p>}
      <input name="question" aria-label="Question" size="60" defaultValue="Explain what a browser is." />
      <button>Ask</button>
      {status === "streaming" && (
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
