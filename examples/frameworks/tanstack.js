// TanStack AI, with its adapter for servers of OpenAI's API.
import { chat } from "@tanstack/ai";
import { openaiCompatibleText } from "@tanstack/ai-openai/compatible";
import { local } from "./model.js";
import { page } from "./page.js";

const adapter = openaiCompatibleText("local", local);

page(async (question, show) => {
  const messages = [{ role: "user", content: question }];
  for await (const chunk of chat({ adapter, messages, modelOptions: { temperature: 0, max_tokens: 60 } })) {
    if (chunk.type === "TEXT_MESSAGE_CONTENT") show(chunk.delta);
    if (chunk.type === "RUN_ERROR") throw new Error(chunk.message);
  }
});
