// The conversation: what was said, and how it looks.
import type { ChatMessage, ChatParams, ChatUsage, Engine } from "pagelm";
import { thumbnails } from "./pictures.ts";

export class Chat {
  #log: HTMLElement;
  #announced: HTMLElement;
  #messages: ChatMessage[] = [];
  #running: AbortController | null = null;

  /** What is put into `announced` is read to who hears the page: whole answers, once, not every token. */
  constructor(log: HTMLElement, announced: HTMLElement) {
    this.#log = log;
    this.#announced = announced;
  }

  get empty(): boolean {
    return this.#messages.length === 0;
  }

  /** Asks, and shows the answer as it comes. What was said before an error or a stop stays. */
  async ask(engine: Engine, text: string, pictures: Blob[], params: Omit<ChatParams, "messages">): Promise<void> {
    const seen = pictures.map((url) => ({ type: "image_url" as const, image_url: { url } }));
    const content: ChatMessage["content"] = seen.length ? [...seen, { type: "text", text }] : text;
    this.#messages.push({ role: "user", content } as ChatMessage);
    const asked = this.#bubble("user");
    asked.text.textContent = text;
    asked.root.prepend(...thumbnails(pictures));
    const answer = this.#bubble("assistant");
    answer.note.textContent = "reading the prompt";
    answer.root.dataset.running = "";
    this.#announced.textContent = "";
    this.#running = new AbortController();
    let said = "";
    let note = "stopped";
    let cut = "";
    try {
      const stream = await engine.chat.completions.create({
        ...params,
        messages: this.#messages,
        stream: true,
        stream_options: { include_usage: true },
        signal: this.#running.signal,
        onPrefill: ({ done, total, phase }) => {
          const percent = Math.round((100 * done) / total);
          answer.note.textContent = phase
            ? `looking at images: ${percent} %`
            : `reading the prompt: ${done} of ${total} tokens`;
        },
      });
      const startedAt = performance.now();
      for await (const chunk of stream) {
        const choice = chunk.choices[0];
        if (choice?.finish_reason === "length") cut = "The answer was cut: ";
        const thought = choice?.delta.reasoning_content;
        if (thought) {
          answer.thoughts.hidden = false;
          answer.thoughts.lastElementChild!.append(thought);
          this.#follow();
        }
        const delta = choice?.delta.content;
        if (delta) {
          said += delta;
          answer.text.textContent = said;
          answer.note.textContent = `${seconds(performance.now() - startedAt)}`;
          this.#follow();
        }
        if (chunk.usage) {
          note = summary(chunk.usage);
          if (cut) cut += whyCut(chunk.usage, engine.info.contextLength);
        }
      }
    } catch (e) {
      if (!this.#running.signal.aborted) {
        note = "";
        throw e;
      }
    } finally {
      this.#running = null;
      delete answer.root.dataset.running;
      answer.note.textContent = note;
      answer.cut.textContent = cut;
      if (note) this.#announced.textContent = [said, cut || (note === "stopped" ? "Stopped." : "")].join(" ").trim();
      // A turn without an answer would only confuse the model.
      if (said) this.#messages.push({ role: "assistant", content: said });
      else {
        this.#messages.pop();
        if (!note) answer.root.remove();
      }
      this.#follow();
    }
  }

  stop(): void {
    this.#running?.abort();
  }

  clear(): void {
    this.stop();
    this.#messages = [];
    this.#log.replaceChildren();
    this.#announced.textContent = "";
  }

  #bubble(role: "user" | "assistant") {
    const root = document.createElement("article");
    root.className = `message ${role}`;
    root.setAttribute("aria-label", role === "user" ? "You" : "Model");
    // What a model thinks before it answers, for those who want to read it.
    const thoughts = Object.assign(document.createElement("details"), { className: "thoughts", hidden: true });
    const title = Object.assign(document.createElement("summary"), { textContent: "Thoughts" });
    thoughts.append(title, document.createElement("div"));
    const text = Object.assign(document.createElement("div"), { className: "text" });
    const cut = Object.assign(document.createElement("div"), { className: "cut" });
    const note = Object.assign(document.createElement("div"), { className: "note" });
    root.append(thoughts, text, cut, note);
    this.#log.append(root);
    this.#follow(true);
    return { root, thoughts, text, cut, note };
  }

  /** Keeps the end in view for those who look at it. */
  #follow(always = false): void {
    const page = document.scrollingElement!;
    const below = page.scrollHeight - page.scrollTop - page.clientHeight;
    if (always || below < 160) page.scrollTo({ top: page.scrollHeight });
  }
}

function summary({ completion_tokens, extra }: ChatUsage): string {
  const speed = extra.decode_tokens_per_s;
  const first = seconds(extra.time_to_first_token_s * 1000);
  const parts = [`${completion_tokens} token${completion_tokens === 1 ? "" : "s"}`];
  if (Number.isFinite(speed) && speed > 0) parts.push(`${speed.toFixed(speed < 10 ? 2 : 1)} tokens/s`);
  return [...parts, `first after ${first}`].join(" · ");
}

function whyCut({ total_tokens, completion_tokens }: ChatUsage, contextLength: number): string {
  if (total_tokens >= contextLength) return `the context of ${contextLength} tokens is full. Start a new chat.`;
  return `it reached ${completion_tokens} tokens, the most that it may have. Ask the model to go on.`;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
