// The bar over the page: which model runs and where, and what can be done to the open conversation.
import {
  Activity,
  Ellipsis,
  FileJson,
  FileText,
  Keyboard,
  Menu,
  Monitor,
  Moon,
  PenLine,
  Replace,
  Settings,
  Sun,
  Trash2,
} from "lucide-preact";
import { useRef } from "preact/hooks";
import { stop } from "./answer.ts";
import { fileName, open } from "./chats.ts";
import { current, engine, recovering, release, state } from "./engine.ts";
import { choosing } from "./gallery.tsx";
import { takePictures } from "./pictures.tsx";
import { save } from "./save.ts";
import { type Theme, theme } from "./settings.ts";
import { json } from "./store.ts";
import { markdown } from "./tree.ts";
import { activity, panel, sidebar } from "./ui.tsx";
import { bytes } from "./words.ts";

/** Back to the choice of a model. */
export function unload(): void {
  choosing.value = true;
  stop();
  release();
  takePictures();
}

const NEXT: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };
const THEME_ICON = { system: Monitor, light: Sun, dark: Moon };

export function Topbar() {
  const ThemeIcon = THEME_ICON[theme.value];
  return (
    <header class="bar">
      <button
        id="menu"
        type="button"
        class="icon quiet"
        aria-label="Conversations"
        aria-controls="sidebar"
        aria-expanded={sidebar.value}
        onClick={() => {
          sidebar.value = !sidebar.value;
        }}
      >
        <Menu aria-hidden="true" />
      </button>
      <Running />
      <span class="grow" />
      {open.value && <ChatMenu />}
      <button
        type="button"
        class="icon quiet roomy"
        aria-label="Activity"
        title="Speed and memory"
        aria-pressed={activity.value}
        onClick={() => {
          activity.value = !activity.value;
        }}
      >
        <Activity aria-hidden="true" />
      </button>
      <button
        type="button"
        class="icon quiet roomy"
        aria-label="Shortcuts"
        title="Shortcuts (?)"
        onClick={() => {
          panel.value = "shortcuts";
        }}
      >
        <Keyboard aria-hidden="true" />
      </button>
      <button
        id="theme"
        type="button"
        class="icon quiet"
        aria-label={`Theme: ${theme.value}`}
        title={`Theme: ${theme.value}`}
        onClick={() => {
          theme.value = NEXT[theme.value];
        }}
      >
        <ThemeIcon aria-hidden="true" />
      </button>
      <button
        id="settings-open"
        type="button"
        class="icon quiet"
        aria-label="Settings"
        title="Settings"
        onClick={() => {
          panel.value = "settings";
        }}
      >
        <Settings aria-hidden="true" />
      </button>
    </header>
  );
}

function Running() {
  const info = engine.value?.info;
  const where = info && (info.backend === "webgpu" ? "WebGPU" : info.backend === "cpu" ? "CPU" : info.backend);
  const adapter = info?.adapter ? ` · ${info.adapter.name || "unnamed adapter"}` : "";
  const threads = info?.backend === "cpu" && info.wasm.threads > 1 ? ` · ${info.wasm.threads} threads` : "";
  return (
    <div class="running">
      <p
        id="model"
        title={info ? `${info.model.name ?? info.model.architecture}, ${info.contextLength} tokens of context` : ""}
      >
        {info ? `${current.value?.name} · ${bytes(info.model.weightBytes ?? 0)}` : ""}
      </p>
      <p id="status" class="soft small" title={info?.backendReason ?? ""} data-backend={info?.backend}>
        {recovering.value
          ? "starting again"
          : info
            ? `${where}${adapter}${threads}`
            : state.value === "loading"
              ? "loading"
              : ""}
      </p>
      {info && (
        <button
          id="unload"
          type="button"
          class="quiet"
          title="Change the model"
          aria-label="Change the model"
          onClick={unload}
        >
          <Replace aria-hidden="true" />
          <span class="roomy">Change</span>
        </button>
      )}
    </div>
  );
}

function ChatMenu() {
  const menu = useRef<HTMLDivElement>(null);
  const c = open.value!;
  const done = (what: () => void) => () => {
    menu.current?.hidePopover();
    what();
  };
  return (
    <>
      <button type="button" class="icon quiet" aria-label="This chat" title="This chat" popovertarget="chat-menu">
        <Ellipsis aria-hidden="true" />
      </button>
      <div id="chat-menu" ref={menu} class="menu" popover="auto">
        <button
          type="button"
          onClick={done(() => {
            panel.value = "rename";
          })}
        >
          <PenLine aria-hidden="true" />
          Rename
        </button>
        <button type="button" onClick={done(() => save(`${fileName(c.title)}.md`, "text/markdown", markdown(c)))}>
          <FileText aria-hidden="true" />
          Export as Markdown
        </button>
        <button
          type="button"
          onClick={done(async () => save(`${fileName(c.title)}.json`, "application/json", await json([c])))}
        >
          <FileJson aria-hidden="true" />
          Export as JSON
        </button>
        <button
          type="button"
          class="bad"
          onClick={done(() => {
            panel.value = "delete";
          })}
        >
          <Trash2 aria-hidden="true" />
          Delete
        </button>
      </div>
    </>
  );
}
