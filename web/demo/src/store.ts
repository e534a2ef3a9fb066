// Where conversations are kept: IndexedDB, by `idb`. Where a browser forbids it they last as long as the page.
import { type DBSchema, type IDBPDatabase, openDB } from "idb";
import type { Conversation } from "./tree.ts";

interface Schema extends DBSchema {
  conversations: { key: string; value: Conversation };
}

let opened: Promise<IDBPDatabase<Schema> | null> | undefined;

const database = () => {
  opened ??= openDB<Schema>("pagelm-demo", 1, {
    upgrade: (db) => void db.createObjectStore("conversations", { keyPath: "id" }),
  }).catch(() => null);
  return opened;
};

export async function all(): Promise<Conversation[]> {
  return (await (await database())?.getAll("conversations")) ?? [];
}

export async function put(conversation: Conversation): Promise<void> {
  await (await database())?.put("conversations", conversation);
}

export async function remove(id: string): Promise<void> {
  await (await database())?.delete("conversations", id);
}

interface Exported {
  format: "pagelm-conversations";
  version: 1;
  conversations: (Omit<Conversation, "nodes"> & { nodes: Record<string, unknown> })[];
}

const dataUrl = (blob: Blob) =>
  new Promise<string>((done, fail) => {
    const reader = new FileReader();
    reader.onload = () => done(String(reader.result));
    reader.onerror = () => fail(reader.error);
    reader.readAsDataURL(blob);
  });

/** As a file that `read` takes; pictures are `data:` URLs in it. */
export async function json(conversations: Conversation[]): Promise<string> {
  const plain: Exported["conversations"] = [];
  for (const c of conversations) {
    const nodes: Record<string, unknown> = {};
    for (const [id, node] of Object.entries(c.nodes)) {
      const pictures = node.pictures && (await Promise.all(node.pictures.map(dataUrl)));
      nodes[id] = { ...node, ...(pictures && { pictures }) };
    }
    plain.push({ ...c, nodes });
  }
  return JSON.stringify(
    { format: "pagelm-conversations", version: 1, conversations: plain } satisfies Exported,
    null,
    2,
  );
}

/** What `json` wrote. */
export async function read(text: string): Promise<Conversation[]> {
  const wrong = (why: string) => new Error(`This is not a file that this page exported: ${why}.`);
  let given: Exported;
  try {
    given = JSON.parse(text);
  } catch {
    throw wrong("it is no JSON");
  }
  if (given?.format !== "pagelm-conversations" || !Array.isArray(given.conversations))
    throw wrong('it has no "format": "pagelm-conversations"');
  if (given.version !== 1) throw wrong(`its version is ${given.version}, expected 1`);
  const read: Conversation[] = [];
  for (const [i, c] of given.conversations.entries()) {
    const nodes = c.nodes as unknown as Record<
      string,
      Omit<Conversation["nodes"][string], "pictures"> & { pictures?: string[] }
    >;
    if (
      typeof c.id !== "string" ||
      !Array.isArray(c.order) ||
      !c.order.every((id) => typeof nodes?.[id]?.content === "string")
    )
      throw wrong(`conversation ${i + 1} lacks messages that it names`);
    const made: Conversation["nodes"] = {};
    for (const id of c.order) {
      const { pictures, ...node } = nodes[id]!;
      const blobs = await Promise.all((pictures ?? []).filter((p) => p.startsWith("data:image/")).map(blobOf));
      made[id] = { ...node, ...(blobs.length > 0 && { pictures: blobs }) };
    }
    read.push({ ...c, nodes: made });
  }
  return read;
}

/** Not by `fetch`, which the page's content security policy would have to allow. */
function blobOf(url: string): Blob {
  const [, type = "", base64 = ""] = /^data:(image\/[\w.+-]+);base64,(.*)$/s.exec(url) ?? [];
  return new Blob([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], { type });
}
