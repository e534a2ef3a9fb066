// A conversation: a tree of messages, as each may be asked or answered again, and the branch of it that is shown.
import type { ChatMessage, ChatToolCall } from "pagelm";

export interface Node {
  id: string;
  parent: string | null;
  role: "user" | "assistant" | "tool";
  content: string;
  pictures?: Blob[];
  /** What the model thought. */
  reasoning?: string;
  calls?: ChatToolCall[];
  /** Of a tool's result: which call it answers, and whether that failed. */
  callId?: string;
  failed?: boolean;
  /** `interrupted`: the page ended meanwhile. */
  state: "streaming" | "done" | "stopped" | "interrupted" | "failed";
  /** How long it took, in words; and why it is not whole. */
  note?: string;
  cut?: string;
}

export interface Conversation {
  id: string;
  title: string;
  /** Named by a person: it is not named after the first message any more. */
  named: boolean;
  createdAt: number;
  updatedAt: number;
  nodes: Record<string, Node>;
  /** The order in which they were made. */
  order: string[];
  /** The end of the branch that is shown. */
  leaf: string | null;
}

export const newId = () => crypto.randomUUID();

export function emptyConversation(now = Date.now()): Conversation {
  return {
    id: newId(),
    title: "New chat",
    named: false,
    createdAt: now,
    updatedAt: now,
    nodes: {},
    order: [],
    leaf: null,
  };
}

/** From the first message to the end of the branch. */
export function branch({ nodes, leaf }: Conversation): Node[] {
  const path: Node[] = [];
  for (let node = leaf === null ? undefined : nodes[leaf]; node; ) {
    path.push(node);
    node = node.parent === null ? undefined : nodes[node.parent];
  }
  return path.reverse();
}

/** The messages that stand where this one stands, in the order in which they were made. */
export function siblings({ nodes, order }: Conversation, { parent }: Node): Node[] {
  return order.map((id) => nodes[id]!).filter((node) => node.parent === parent);
}

export function add(c: Conversation, node: Node, now = Date.now()): Conversation {
  const title = !c.named && c.order.length === 0 && node.role === "user" ? titleOf(node.content) : c.title;
  const nodes = { ...c.nodes, [node.id]: node };
  return { ...c, title, nodes, order: [...c.order, node.id], leaf: node.id, updatedAt: now };
}

export function change(c: Conversation, id: string, more: Partial<Node>, now = Date.now()): Conversation {
  const node = c.nodes[id];
  return node ? { ...c, nodes: { ...c.nodes, [id]: { ...node, ...more } }, updatedAt: now } : c;
}

/** Shows the branch that this message is on, to the newest of its ends. */
export function show(c: Conversation, id: string): Conversation {
  let leaf = id;
  for (;;) {
    const next = c.order.findLast((child) => c.nodes[child]?.parent === leaf);
    if (next === undefined) return { ...c, leaf };
    leaf = next;
  }
}

/** Takes out a message and all that follows it. */
export function prune(c: Conversation, id: string): Conversation {
  const gone = new Set([id]);
  for (const child of c.order) if (gone.has(c.nodes[child]?.parent ?? "")) gone.add(child);
  const order = c.order.filter((kept) => !gone.has(kept));
  const nodes = Object.fromEntries(order.map((kept) => [kept, c.nodes[kept]!]));
  return { ...c, nodes, order, leaf: c.leaf !== null && gone.has(c.leaf) ? (c.nodes[id]?.parent ?? null) : c.leaf };
}

/** After a reload nothing streams any more. */
export function settle(c: Conversation): Conversation {
  const streams = c.order.filter((id) => c.nodes[id]?.state === "streaming");
  return streams.reduce((all, id) => change(all, id, { state: "interrupted" }, all.updatedAt), c);
}

export function titleOf(text: string): string {
  const line = text.trim().replace(/\s+/g, " ");
  if (line.length <= 48) return line || "Picture";
  return `${line.slice(0, 48).replace(/\s\S*$/, "")}…`;
}

/** What the model is told of a branch. Answers of which nothing came are left out, and what they were asked. */
export function told(path: Node[], system: string): ChatMessage[] {
  const messages: ChatMessage[] = system.trim() ? [{ role: "system", content: system }] : [];
  for (const node of path) {
    if (node.role === "user") {
      if (messages.at(-1)?.role === "user") messages.pop();
      const seen = (node.pictures ?? []).map((url) => ({ type: "image_url" as const, image_url: { url } }));
      const content = seen.length ? [...seen, { type: "text" as const, text: node.content }] : node.content;
      messages.push({ role: "user", content });
    } else if (node.role === "tool") {
      messages.push({ role: "tool", content: node.content, tool_call_id: node.callId ?? "" });
    } else if (node.content || node.calls?.length) {
      messages.push({
        role: "assistant",
        content: node.content || null,
        ...(node.calls?.length && { tool_calls: node.calls }),
      });
    }
  }
  return messages;
}

export function markdown(c: Conversation): string {
  const parts = [`# ${c.title}`];
  for (const node of branch(c)) {
    if (node.role === "tool") parts.push(`**Result**\n\n\`\`\`\n${node.content}\n\`\`\``);
    else {
      parts.push(node.role === "user" ? "## You" : "## Model");
      if (node.reasoning) parts.push(`<details><summary>Thoughts</summary>\n\n${node.reasoning.trim()}\n\n</details>`);
      if (node.content) parts.push(node.content.trim());
      for (const { function: f } of node.calls ?? [])
        parts.push(`**Call** \`${f.name}\`\n\n\`\`\`json\n${f.arguments}\n\`\`\``);
    }
  }
  return `${parts.join("\n\n")}\n`;
}
