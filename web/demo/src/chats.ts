// The conversations of the page: which one is open, and what is done to them.
import { computed, signal } from "@preact/signals";
import * as store from "./store.ts";
import { branch, type Conversation, emptyConversation, settle } from "./tree.ts";

export const chats = signal<Conversation[]>([]);
export const openId = signal<string | null>(null);
export const open = computed(() => chats.value.find(({ id }) => id === openId.value) ?? null);
const LAST = "pagelm-last-chat";

/** Newest first, those with these words in title or text. */
export function found(words: string): Conversation[] {
  const wanted = words.trim().toLowerCase();
  const has = (c: Conversation) =>
    c.title.toLowerCase().includes(wanted) || c.order.some((id) => c.nodes[id]?.content.toLowerCase().includes(wanted));
  return chats.value.filter((c) => !wanted || has(c)).toSorted((a, b) => b.updatedAt - a.updatedAt);
}

/** How often an answer that comes is written down, in milliseconds: what is lost if the page ends. */
const PACE = 300;
const waiting = new Map<string, ReturnType<typeof setTimeout>>();

function write(id: string): void {
  clearTimeout(waiting.get(id));
  waiting.delete(id);
  const now = chats.value.find((c) => c.id === id);
  if (now) void store.put(now).catch(() => {});
}

/** Puts a conversation in the place of what it was. `soon`: it changes again in a moment. */
export function keep(conversation: Conversation, soon = false): void {
  const { id } = conversation;
  const known = chats.value.some((c) => c.id === id);
  chats.value = known ? chats.value.map((c) => (c.id === id ? conversation : c)) : [...chats.value, conversation];
  if (!soon) write(id);
  else if (!waiting.has(id))
    waiting.set(
      id,
      setTimeout(() => write(id), PACE),
    );
}

export function select(id: string | null): void {
  openId.value = id;
  try {
    if (id === null) sessionStorage.removeItem(LAST);
    else sessionStorage.setItem(LAST, id);
  } catch {
    // It is not remembered.
  }
}

/** The open conversation, or a new one. */
export function openOrNew(): Conversation {
  if (open.value) return open.value;
  const made = emptyConversation();
  chats.value = [...chats.value, made];
  select(made.id);
  return made;
}

export async function restore(): Promise<void> {
  const kept = await store.all().catch(() => []);
  const known = new Set(chats.value.map(({ id }) => id));
  chats.value = [...kept.filter(({ id }) => !known.has(id)).map(settle), ...chats.value];
  let last: string | null = null;
  try {
    last = sessionStorage.getItem(LAST);
  } catch {
    // It was not remembered.
  }
  if (openId.value === null && chats.value.some(({ id }) => id === last)) openId.value = last;
}

export function lastAnswer(): string {
  const c = open.value;
  return (c && branch(c).findLast(({ role }) => role === "assistant")?.content) ?? "";
}

export function rename(id: string, title: string): void {
  const c = chats.value.find((c) => c.id === id);
  const trimmed = title.trim();
  if (c && trimmed) keep({ ...c, title: trimmed, named: true });
}

export function remove(id: string): void {
  clearTimeout(waiting.get(id));
  waiting.delete(id);
  chats.value = chats.value.filter((c) => c.id !== id);
  if (openId.value === id) select(null);
  void store.remove(id).catch(() => {});
}

/** Those of a file; one that is here already is replaced. */
export async function bring(file: Blob): Promise<void> {
  const read = (await store.read(await file.text())).map(settle);
  for (const conversation of read) keep(conversation);
  if (read[0]) select(read[0].id);
}

export const fileName = (title: string) =>
  title
    .replace(/[^\p{L}\p{N}]+/gu, "-")
    .replace(/^-|-$/g, "")
    .slice(0, 40) || "chat";

addEventListener("pagehide", () => {
  for (const id of waiting.keys()) write(id);
});
