// An answer, from the request to its last token: what comes goes into the open conversation.
import { signal } from "@preact/signals";
import type { ChatChunk, ChatUsage, Engine } from "pagelm";
import type { ToolEvent } from "pagelm/tools";
import { chats, keep, openOrNew } from "./chats.ts";
import { answering, engine, failed, problem } from "./engine.ts";
import { record, tokens } from "./meter.ts";
import { sampling, settings } from "./settings.ts";
import { add, branch, type Conversation, change, type Node, newId, prune, show, told } from "./tree.ts";
import { seconds } from "./words.ts";

/** What a screen reader is told: whole answers, once, and not every token. */
export const announced = signal("");
/** What the model does before the first token. */
export const doing = signal("");

let stopping: AbortController | null = null;
export const stop = () => stopping?.abort();

/** The conversation may be changed elsewhere meanwhile: always the newest. */
const now = (id: string) => chats.value.find((c) => c.id === id);

export async function ask(content: string, pictures: Blob[]): Promise<void> {
  const c = openOrNew();
  await say(c, c.leaf, content, pictures);
}

/** Says something else in the place of a message: what was said stays, on a branch of its own. */
export async function edit(c: Conversation, { parent, pictures = [] }: Node, content: string): Promise<void> {
  await say(c, parent, content, pictures);
}

async function say(c: Conversation, parent: string | null, content: string, pictures: Blob[]): Promise<void> {
  if (!engine.value || answering.value) return;
  const said = { id: newId(), parent, role: "user" as const, content, state: "done" as const };
  keep(add(c, { ...said, ...(pictures.length > 0 && { pictures }) }));
  await answer(c.id, said.id);
}

/** Answers again what was asked before this message. */
export async function regenerate(c: Conversation, node: Node): Promise<void> {
  if (!engine.value || answering.value) return;
  let at: Node | undefined = node;
  while (at && at.role !== "user") at = at.parent === null ? undefined : c.nodes[at.parent];
  if (at) await answer(c.id, at.id);
}

/** Goes on with an answer that was stopped or cut. */
export async function goOn(c: Conversation, node: Node): Promise<void> {
  if (!engine.value || answering.value) return;
  if (!node.content) return regenerate(c, node);
  keep(show(c, node.id));
  await run(c.id, node.id, [...branch({ ...c, leaf: node.id })], true);
}

async function answer(id: string, parent: string): Promise<void> {
  const c = now(id);
  if (!c) return;
  const node = begin(c, parent);
  await run(id, node.id, branch({ ...c, leaf: parent }), false);
}

function begin(c: Conversation, parent: string): Node {
  const node: Node = { id: newId(), parent, role: "assistant", content: "", state: "streaming" };
  keep(add(c, node), true);
  return node;
}

async function* events(model: Engine, params: object, signal: AbortSignal): AsyncGenerator<ToolEvent, void, void> {
  if (settings.value.tools) {
    const [{ runTools }, { TOOLS }] = await Promise.all([import("pagelm/tools"), import("./tools.ts")]);
    yield* runTools(model, { ...(params as { messages: [] }), tools: TOOLS }, { signal });
    return;
  }
  const stream = await model.chat.completions.create({ ...(params as { messages: [] }), stream: true }, { signal });
  for await (const chunk of stream) yield { type: "chunk", chunk, round: 1 };
}

async function run(id: string, first: string, path: Node[], onward: boolean): Promise<void> {
  const model = engine.value!;
  const params = {
    ...sampling(),
    messages: told(path, settings.value.system),
    stream_options: { include_usage: true },
    ...(onward && { continue_final_message: true }),
    onPrefill: ({ done, total, phase }: { done: number; total: number; phase?: "image" }) => {
      doing.value = phase
        ? `Looking at the picture: ${Math.round((100 * done) / total)} %`
        : `Reading: ${done} of ${total} tokens`;
    },
  };
  let at = first;
  const update = (more: Partial<Node> | ((node: Node) => Partial<Node>), soon = true) => {
    const c = now(id);
    const node = c?.nodes[at];
    if (c && node) keep(change(c, at, typeof more === "function" ? more(node) : more), soon);
  };
  stopping = new AbortController();
  const { signal } = stopping;
  answering.value = true;
  problem.value = null;
  announced.value = "";
  doing.value = "Reading the prompt";
  update({ state: "streaming", note: "", cut: "" });
  let round = 1;
  try {
    for await (const event of events(model, params, signal)) {
      if (event.type === "chunk") {
        if (event.round > round) {
          round = event.round;
          update({ state: "done" });
          at = begin(now(id)!, now(id)!.leaf!).id;
        }
        take(event.chunk, update, model.info.contextLength);
      } else if (event.type === "call") {
        update(({ calls = [] }) => ({ calls: [...calls, event.call] }));
        doing.value = `Calling ${event.call.function.name}`;
      } else if (event.type === "result") {
        const { content, failed, call } = event;
        const node = { id: newId(), parent: now(id)!.leaf, role: "tool" as const, content, callId: call.id };
        keep(add(now(id)!, { ...node, state: "done", ...(failed && { failed }) }));
      }
    }
    update({ state: "done" }, false);
    tell(now(id)?.nodes[at], "Answer complete.");
  } catch (e) {
    const stopped = signal.aborted;
    const c = now(id);
    const node = c?.nodes[at];
    // Of an answer of which nothing came, nothing stays.
    if (c && node && !node.content && !node.reasoning && !node.calls?.length && !stopped) keep(prune(c, at));
    else update({ state: stopped ? "stopped" : "failed", note: stopped ? "stopped" : "" }, false);
    if (stopped) tell(node, "Stopped.");
    else failed(e);
  } finally {
    stopping = null;
    answering.value = false;
    doing.value = "";
    record(0);
  }
}

function tell(node: Node | undefined, how: string): void {
  announced.value = [how, node?.content.trim(), node?.cut].filter(Boolean).join(" ");
}

function take(
  { choices: [choice], usage }: ChatChunk,
  update: (more: (node: Node) => Partial<Node>) => void,
  contextLength: number,
): void {
  const { content, reasoning_content: thought } = choice?.delta ?? {};
  if (content || thought) {
    doing.value = "";
    tokens();
    update((node) => ({
      content: node.content + (content ?? ""),
      ...(thought && { reasoning: (node.reasoning ?? "") + thought }),
    }));
  }
  if (choice?.finish_reason === "length") update(() => ({ cut: "The answer was cut: " }));
  if (usage) update(({ cut }) => ({ note: summary(usage), ...(cut && { cut: cut + whyCut(usage, contextLength) }) }));
}

function summary({ completion_tokens, extra }: ChatUsage): string {
  const speed = extra.decode_tokens_per_s;
  record(Number.isFinite(speed) ? speed : 0);
  const parts = [`${completion_tokens} token${completion_tokens === 1 ? "" : "s"}`];
  if (Number.isFinite(speed) && speed > 0) parts.push(`${speed.toFixed(speed < 10 ? 2 : 1)} tokens/s`);
  return [...parts, `first after ${seconds(extra.time_to_first_token_s * 1000)}`].join(" · ");
}

function whyCut({ total_tokens, completion_tokens }: ChatUsage, contextLength: number): string {
  if (total_tokens >= contextLength) return `the context of ${contextLength} tokens is full. Start a new chat.`;
  return `it reached ${completion_tokens} tokens, the most that it may have.`;
}
