// The whole page.
import { signal } from "@preact/signals";
import type { ComponentType } from "preact";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { ActivityPanel } from "./activity.tsx";
import { announced, stop } from "./answer.ts";
import { Chat } from "./chat.tsx";
import { open } from "./chats.ts";
import { Composer } from "./composer.tsx";
import { Drawers } from "./drawers.tsx";
import { engine, loading, pause, paused, state } from "./engine.ts";
import { acceptsModels, choosing, Gallery, loadFiles, Reopen } from "./gallery.tsx";
import { addPictures } from "./pictures.tsx";
import { newChat, Sidebar } from "./sidebar.tsx";
import { Topbar } from "./topbar.tsx";
import { activity, panel, sidebar, type View, view } from "./ui.tsx";

/** Views that are fetched when they are opened. */
const LAZY: Record<Exclude<View, "chat">, () => Promise<ComponentType>> = {
  schema: () => import("./schema.tsx").then(({ Schema }) => Schema),
  compare: () => import("./compare.tsx").then(({ Compare }) => Compare),
};
const fetched = signal<Partial<Record<View, ComponentType>>>({});

export function App() {
  const now = view.value;
  // biome-ignore lint/correctness/useExhaustiveDependencies: it is the value of a signal
  useEffect(() => {
    if (now !== "chat" && !fetched.value[now])
      void LAZY[now]().then((found) => {
        fetched.value = { ...fetched.value, [now]: found };
      });
  }, [now]);
  useKeepFocus();
  const Other = now === "chat" ? undefined : fetched.value[now];
  const chats = engine.value !== null || (open.value !== null && !loading.value && !paused.value && !choosing.value);
  return (
    <div class="app" data-activity={activity.value || undefined}>
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <Sidebar />
      {sidebar.value && (
        <button
          type="button"
          class="backdrop"
          aria-label="Close the list"
          onClick={() => {
            sidebar.value = false;
          }}
        />
      )}
      <div class="page">
        <Topbar />
        <main id="main" tabIndex={-1}>
          {now === "chat" ? chats ? <Chat /> : <Gallery /> : Other && <Other />}
        </main>
        {now === "chat" && chats && (engine.value ? <Composer /> : <Reopen />)}
      </div>
      {activity.value && <ActivityPanel />}
      <div id="announced" class="unseen" role="status">
        {announced}
      </div>
      <Drawers />
    </div>
  );
}

type State = typeof state.value;

/** Who uses a keyboard stays where they are; from what is not there any more they go to what is there in its place. */
function useKeepFocus(): void {
  const now = state.value;
  const last = useRef<State>(now);
  /** Where the keyboard was before the page began to load, and when it was last seen. */
  const before = useRef("");
  const held = useRef("");
  useEffect(() => {
    const seen = () => {
      held.current = document.activeElement?.id ?? "";
    };
    document.addEventListener("focusin", seen);
    return () => document.removeEventListener("focusin", seen);
  }, []);
  useLayoutEffect(() => {
    const from = last.current;
    last.current = now;
    if (from === now) return;
    if (now === "loading") before.current = held.current;
    // What else changes with the state is drawn before that.
    queueMicrotask(() => keep(now, from));
  });
  const keep = (now: State, from: State) => {
    const lost = !document.activeElement || document.activeElement === document.body;
    if (document.querySelector("dialog[open]") || view.value !== "chat") return;
    if (!lost && !(now === "ready" && from === "loading")) return;
    const back = document.getElementById(before.current) ? before.current : "url";
    const next = { idle: back, failed: back, loading: "cancel", ready: "prompt", answering: "stop" }[now];
    document.getElementById(next)?.focus({ preventScroll: now !== "loading" && now !== "idle" });
  };
}

const inField = (target: EventTarget | null) =>
  target instanceof HTMLElement && target.matches("input, textarea, select, [contenteditable]");

/** Keys, drops and pastes of the whole page. */
export function listenToPage(): void {
  document.addEventListener("keydown", (event) => {
    if (event.isComposing || document.querySelector("dialog[open]")) return;
    const command = event.ctrlKey || event.metaKey;
    const key = event.key.toLowerCase();
    const shortcut = command && event.shiftKey && key === "o" ? newChat : command ? COMMANDS[key] : undefined;
    if (shortcut) {
      event.preventDefault();
      shortcut();
    } else if (event.key === "Escape") {
      if (document.querySelector("[popover]:popover-open")) return;
      if (sidebar.value) sidebar.value = false;
      else {
        stop();
        pause();
      }
    } else if (!command && !event.altKey && !inField(event.target)) {
      const plain = PLAIN[event.key];
      if (!plain) return;
      event.preventDefault();
      plain();
    }
  });
  document.addEventListener("paste", (event) => {
    if (engine.value?.info.model.images && addPictures(event.clipboardData?.files)) event.preventDefault();
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    const files = event.dataTransfer?.files;
    if (engine.value?.info.model.images) addPictures(files);
    else if (acceptsModels()) loadFiles([...(files ?? [])]);
  });
}

const focus = (id: string) => document.getElementById(id)?.focus();
const COMMANDS: Record<string, () => void> = {
  k: () => {
    sidebar.value = true;
    setTimeout(() => focus("chat-search"));
  },
  ",": () => {
    panel.value = "settings";
  },
};
const PLAIN: Record<string, () => void> = {
  "/": () => focus(engine.value ? "prompt" : "hub"),
  "?": () => {
    panel.value = "shortcuts";
  },
};
