import { type ChatMessage, createEngine, type Engine, type PagelmError } from "pagelm";

/** A URL, or `hf:OWNER/REPO:QUANTISATION`; `?model=` in the address of the page tries another. */
const MODEL = new URLSearchParams(location.search).get("model") ?? "hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q4_K_M";

const find = <T extends Element>(selector: string) => document.querySelector<T>(selector)!;
const log = find("#messages");
const status = find("#status");
const form = find<HTMLFormElement>("#chat");
const button = find<HTMLButtonElement>("#chat button");
const input = find<HTMLInputElement>("#chat input");

const messages: ChatMessage[] = [{ role: "system", content: "You are a helpful assistant. Answer briefly." }];
let engine: Promise<Engine> | undefined;
let answering: AbortController | undefined;

/** Downloads the model at the first question; later it comes from the browser's storage. */
function load(): Promise<Engine> {
  return createEngine({
    model: MODEL,
    onProgress: ({ phase, loaded, total }) => {
      status.textContent = `${phase}: ${(loaded / 1e6).toFixed(0)} of ${total ? (total / 1e6).toFixed(0) : "?"} MB`;
    },
  });
}

function show(role: string, text: string): HTMLElement {
  const line = Object.assign(document.createElement("p"), { className: role, textContent: text });
  log.append(line);
  return line;
}

async function ask(question: string, signal: AbortSignal): Promise<void> {
  messages.push({ role: "user", content: question });
  show("user", question);
  const line = show("assistant", "");
  try {
    engine ??= load();
    const { chat, backend } = await engine.catch((error) => {
      // A load that failed is tried again at the next question.
      engine = undefined;
      throw error;
    });
    status.textContent = `on ${backend}`;
    const stream = await chat.completions.create({ messages, stream: true }, { signal });
    for await (const chunk of stream) line.append(chunk.choices[0]?.delta.content ?? "");
  } catch (error) {
    // Its message says what to do, its code is stable.
    const { code, message } = error as PagelmError;
    if (code !== "aborted") status.textContent = `${code}: ${message}`;
  }
  messages.push({ role: "assistant", content: line.textContent });
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (answering) return answering.abort();
  answering = new AbortController();
  button.textContent = "Stop";
  const question = input.value;
  form.reset();
  // While an answer comes the button stops it, for which no question is needed.
  input.required = false;
  await ask(question, answering.signal);
  input.required = true;
  button.textContent = "Ask";
  answering = undefined;
});
