// The conversations, and the other views.
import { useSignal } from "@preact/signals";
import { Braces, Columns2, Download, Gauge, MessageSquare, Plus, Search, Upload } from "lucide-preact";
import { stop } from "./answer.ts";
import { bring, chats, found, openId, select } from "./chats.ts";
import { engine, problem } from "./engine.ts";
import { choosing } from "./gallery.tsx";
import { save } from "./save.ts";
import { json } from "./store.ts";
import type { Conversation } from "./tree.ts";
import { sidebar, view } from "./ui.tsx";
import { problemOf } from "./words.ts";

export function newChat(): void {
  stop();
  select(null);
  problem.value = null;
  location.hash = "";
  sidebar.value = false;
  setTimeout(() => document.getElementById(engine.value ? "prompt" : "url")?.focus({ preventScroll: true }));
}

const VIEWS = [
  { hash: "", name: "Chat", Icon: MessageSquare },
  { hash: "schema", name: "JSON by a schema", Icon: Braces },
  { hash: "compare", name: "Compare", Icon: Columns2 },
] as const;

/** Days are what people remember. */
function when(at: number, now = Date.now()): string {
  const days = Math.floor((startOf(now) - startOf(at)) / 86_400_000);
  if (days <= 0) return "Today";
  if (days === 1) return "Yesterday";
  if (days < 7) return "This week";
  return days < 31 ? "This month" : "Older";
}

const startOf = (at: number) => new Date(at).setHours(0, 0, 0, 0);

export function Sidebar() {
  const words = useSignal("");
  const list = found(words.value);
  const groups = new Map<string, Conversation[]>();
  for (const c of list) {
    const day = when(c.updatedAt);
    groups.set(day, [...(groups.get(day) ?? []), c]);
  }
  return (
    <aside id="sidebar" class="sidebar" aria-label="Conversations" data-open={sidebar.value || undefined}>
      <a class="brand" href="./">
        <span class="logo" aria-hidden="true" />
        pagelm
      </a>
      <button id="clear" type="button" class="new" onClick={newChat}>
        <Plus aria-hidden="true" />
        New chat
      </button>
      <nav aria-label="Views">
        <ul>
          {VIEWS.map(({ hash, name, Icon }) => (
            <li key={hash}>
              <a
                class="item"
                href={`#${hash}`}
                aria-current={view.value === (hash || "chat") ? "page" : undefined}
                onClick={() => {
                  sidebar.value = false;
                }}
              >
                <Icon aria-hidden="true" />
                {name}
              </a>
            </li>
          ))}
          <li>
            <a class="item" href="./bench.html">
              <Gauge aria-hidden="true" />
              Benchmark
            </a>
          </li>
        </ul>
      </nav>
      <div class="search">
        <Search aria-hidden="true" />
        <input
          id="chat-search"
          type="search"
          placeholder="Search chats"
          aria-label="Search chats"
          autocomplete="off"
          value={words}
          onInput={(event) => {
            words.value = event.currentTarget.value;
          }}
        />
      </div>
      <div class="history">
        {list.length === 0 && (
          <p class="soft small none">
            {words.value ? "No chat has these words." : "Chats are kept here, in this browser."}
          </p>
        )}
        {[...groups].map(([day, some]) => (
          <section key={day} aria-label={day}>
            <h2>{day}</h2>
            <ul>
              {some.map(({ id, title }) => (
                <li key={id}>
                  <button
                    type="button"
                    class="item"
                    aria-current={id === openId.value ? "true" : undefined}
                    onClick={() => {
                      if (id !== openId.value) stop();
                      select(id);
                      choosing.value = false;
                      location.hash = "";
                      sidebar.value = false;
                    }}
                  >
                    <span>{title}</span>
                  </button>
                </li>
              ))}
            </ul>
          </section>
        ))}
      </div>
      <div class="row tail">
        <label class="button quiet" for="import">
          <Upload aria-hidden="true" />
          Import
          <input
            id="import"
            type="file"
            accept=".json,application/json"
            class="unseen"
            onChange={async (event) => {
              const [file] = event.currentTarget.files ?? [];
              event.currentTarget.value = "";
              try {
                if (file) await bring(file);
              } catch (e) {
                problem.value = { ...problemOf(e), title: "These chats cannot be read", detail: (e as Error).message };
              }
            }}
          />
        </label>
        <button
          type="button"
          class="quiet"
          disabled={chats.value.length === 0}
          onClick={async () => save("pagelm-chats.json", "application/json", await json(chats.value))}
        >
          <Download aria-hidden="true" />
          Export all
        </button>
      </div>
    </aside>
  );
}
