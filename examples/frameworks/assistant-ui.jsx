// assistant-ui with a runtime in the page.
import {
  AssistantRuntimeProvider,
  ComposerPrimitive,
  MessagePrimitive,
  ThreadPrimitive,
  useLocalRuntime,
} from "@assistant-ui/react";
import OpenAI from "openai";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { local } from "./model.js";

const client = new OpenAI(local);

const adapter = {
  async *run({ messages, abortSignal }) {
    const text = (content) => content.filter(({ type }) => type === "text").map((part) => part.text);
    const stream = await client.chat.completions.create(
      {
        model: "local",
        messages: messages.map(({ role, content }) => ({ role, content: text(content).join("\n") })),
        temperature: 0,
        max_tokens: 60,
        stream: true,
      },
      { signal: abortSignal },
    );
    let answer = "";
    for await (const chunk of stream) {
      answer += chunk.choices[0]?.delta.content ?? "";
      yield { content: [{ type: "text", text: answer }] };
    }
    document.body.dataset.state = "answered";
  },
};

const Question = () => (
  <MessagePrimitive.Root>
    <b>
      <MessagePrimitive.Parts />
    </b>
  </MessagePrimitive.Root>
);
const Answer = () => (
  <MessagePrimitive.Root id="answer">
    <MessagePrimitive.Parts />
  </MessagePrimitive.Root>
);

function App() {
  const runtime = useLocalRuntime(adapter);
  return (
    <AssistantRuntimeProvider runtime={runtime}>
      <ThreadPrimitive.Root>
        <ThreadPrimitive.Messages components={{ UserMessage: Question, AssistantMessage: Answer }} />
        <ComposerPrimitive.Root>
          <ComposerPrimitive.Input placeholder="Ask" />
          <ComposerPrimitive.Send>Ask</ComposerPrimitive.Send>
        </ComposerPrimitive.Root>
      </ThreadPrimitive.Root>
    </AssistantRuntimeProvider>
  );
}

createRoot(document.querySelector("#app")).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
