// Settings, and the small dialogs.
import type { TargetedEvent } from "preact";
import { stop } from "./answer.ts";
import { open, remove, rename } from "./chats.ts";
import { current, engine, load } from "./engine.ts";
import { DEFAULTS, SAMPLER, type Settings, set, settings } from "./settings.ts";
import { Dialog, type DialogProps, type Panel, panel } from "./ui.tsx";

const close = () => {
  panel.value = null;
};

interface PanelProps extends Omit<DialogProps, "id" | "open" | "onClose"> {
  id: NonNullable<Panel>;
}

/** A dialog that is open while `panel` says so. The browser tells late that it has closed: another may be open by then. */
function PanelDialog({ id, ...rest }: PanelProps) {
  return <Dialog id={id} open={panel.value === id} onClose={() => panel.peek() === id && close()} {...rest} />;
}

/** An empty field is the recommendation of the model's file. */
const numberOf = (event: TargetedEvent<HTMLInputElement>) => {
  const { valueAsNumber, validity } = event.currentTarget;
  return Number.isFinite(valueAsNumber) && validity.valid ? valueAsNumber : null;
};

/** The names that the file's recommendations have in the engine. */
const RECOMMENDED = {
  temperature: "temperature",
  top_p: "topP",
  top_k: "topK",
  min_p: "minP",
  repeat_penalty: "repeatPenalty",
} as const;

function SettingsDrawer() {
  const now = settings.value;
  const advice = engine.value?.info.model.sampling;
  const placeholder = (key: string) => {
    const name = RECOMMENDED[key as keyof typeof RECOMMENDED];
    const value = name && advice?.[name];
    return value === undefined ? "auto" : String(Number(value.toFixed(3)));
  };
  return (
    <PanelDialog id="settings" title="Settings" drawer>
      <label for="system">System prompt</label>
      <textarea
        id="system"
        rows={4}
        placeholder="Answer briefly and in plain words."
        value={now.system}
        onInput={(event) => set({ system: event.currentTarget.value })}
      />
      <fieldset>
        <legend>Sampling</legend>
        <p class="soft small">What is left empty is as the model's file recommends.</p>
        {SAMPLER.map(({ key, name, min, max, step, hint }) => (
          <div key={key} class="setting">
            <label for={key}>
              {name}
              <small id={`${key}-hint`}>{hint}</small>
            </label>
            <input
              id={key}
              type="number"
              aria-describedby={`${key}-hint`}
              min={min}
              max={max}
              step={step}
              placeholder={placeholder(key)}
              value={now[key] ?? ""}
              onChange={(event) => set({ [key]: numberOf(event) })}
            />
          </div>
        ))}
      </fieldset>
      <fieldset>
        <legend>Engine</legend>
        <p class="soft small">These hold from the next load on.</p>
        <div class="setting">
          <label for="backend">Backend</label>
          <select
            id="backend"
            value={now.backend}
            onChange={(event) => set({ backend: event.currentTarget.value as Settings["backend"] })}
          >
            <option value="auto">automatic</option>
            <option value="webgpu">WebGPU</option>
            <option value="cpu">CPU</option>
          </select>
        </div>
        <div class="setting">
          <label for="threads">
            Threads<small id="threads-hint">on the CPU</small>
          </label>
          <input
            id="threads"
            type="number"
            aria-describedby="threads-hint"
            min={1}
            max={64}
            placeholder="auto"
            value={now.threads ?? ""}
            onChange={(event) => set({ threads: numberOf(event) })}
          />
        </div>
        <div class="setting">
          <label for="contextLength">
            Context<small id="context-hint">tokens of prompt and answer together</small>
          </label>
          <input
            id="contextLength"
            type="number"
            aria-describedby="context-hint"
            min={64}
            max={1048576}
            placeholder={engine.value ? String(engine.value.info.contextLength) : "auto"}
            value={now.contextLength ?? ""}
            onChange={(event) => set({ contextLength: numberOf(event) })}
          />
        </div>
      </fieldset>
      <div class="row">
        <button type="button" onClick={() => set(DEFAULTS)}>
          Reset all
        </button>
        {current.value && (
          <button
            type="button"
            onClick={() => {
              const again = current.value;
              stop();
              close();
              if (again) void load(again);
            }}
          >
            Load the model again
          </button>
        )}
      </div>
    </PanelDialog>
  );
}

export const SHORTCUTS = [
  ["Enter", "Send the message"],
  ["Shift Enter", "A new line in it"],
  ["Escape", "Stop the answer, pause the download, close what is open"],
  ["/", "Write a message"],
  ["Ctrl Shift O", "New chat"],
  ["Ctrl K", "Search chats"],
  ["Ctrl ,", "Settings"],
  ["?", "This list"],
] as const;

function Shortcuts() {
  const mac = /mac|iphone|ipad/i.test(navigator.userAgent);
  return (
    <PanelDialog id="shortcuts" title="Shortcuts">
      <dl class="shortcuts">
        {SHORTCUTS.map(([keys, what]) => (
          <div key={keys}>
            <dt>
              {keys.split(" ").map((key) => (
                <kbd key={key}>{mac && key === "Ctrl" ? "⌘" : key}</kbd>
              ))}
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
    </PanelDialog>
  );
}

function Rename() {
  const c = open.value;
  return (
    <PanelDialog id="rename" title="Rename the chat">
      <form
        class="stack"
        onSubmit={(event) => {
          event.preventDefault();
          if (c) rename(c.id, new FormData(event.currentTarget).get("title") as string);
          close();
        }}
      >
        <label for="title">Name</label>
        <input id="title" name="title" type="text" autocomplete="off" required defaultValue={c?.title ?? ""} />
        <div class="row end">
          <button type="button" onClick={close}>
            Cancel
          </button>
          <button type="submit" class="primary">
            Rename
          </button>
        </div>
      </form>
    </PanelDialog>
  );
}

function Delete() {
  const c = open.value;
  return (
    <PanelDialog id="delete" title="Delete this chat?">
      <p>“{c?.title}” is only in this browser. It cannot be brought back.</p>
      <div class="row end">
        <button type="button" onClick={close}>
          Keep
        </button>
        <button
          type="button"
          class="danger"
          onClick={() => {
            stop();
            if (c) remove(c.id);
            close();
          }}
        >
          Delete
        </button>
      </div>
    </PanelDialog>
  );
}

export function Drawers() {
  return (
    <>
      <SettingsDrawer />
      <Shortcuts />
      <Rename />
      <Delete />
    </>
  );
}
