// Parts that several views use.
import { signal } from "@preact/signals";
import { X } from "lucide-preact";
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { Problem } from "./words.ts";

export type View = "chat" | "schema" | "compare";
export type Panel = "settings" | "shortcuts" | "rename" | "delete" | null;

export const panel = signal<Panel>(null);
export const activity = signal(false);
/** On a phone; where there is room it is always there. */
export const sidebar = signal(false);

const VIEWS: readonly string[] = ["schema", "compare"];
const viewNow = (): View => {
  const name = location.hash.slice(1);
  return VIEWS.includes(name) ? (name as View) : "chat";
};
export const view = signal<View>(viewNow());
addEventListener("hashchange", () => {
  view.value = viewNow();
});

export interface DialogProps {
  id: string;
  title: string;
  open: boolean;
  onClose: () => void;
  /** At the side of the page, from top to bottom. */
  drawer?: boolean;
  children: ComponentChildren;
}

/** A modal dialog: the browser keeps the keyboard in it, closes it by Escape, and gives the keyboard back. */
export function Dialog({ id, title, open, onClose, drawer, children }: DialogProps) {
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = ref.current!;
    if (open && !dialog.open) dialog.showModal();
    else if (!open && dialog.open) dialog.close();
  }, [open]);
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: Escape closes it too
    <dialog
      id={id}
      ref={ref}
      class={drawer ? "drawer" : "dialog"}
      aria-labelledby={`${id}-title`}
      onClose={onClose}
      onClick={(event) => event.target === ref.current && ref.current?.close()}
    >
      {open && (
        <div class="dialog-body">
          <header class="dialog-bar">
            <h2 id={`${id}-title`}>{title}</h2>
            <button type="button" class="icon" aria-label="Close" onClick={() => ref.current?.close()}>
              <X aria-hidden="true" />
            </button>
          </header>
          {children}
        </div>
      )}
    </dialog>
  );
}

export function ProblemBox({ problem, onClose }: { problem: Problem | null; onClose?: () => void }) {
  return (
    <div id="problem" class="problem" role="alert" hidden={!problem} data-code={problem?.code}>
      {problem && (
        <>
          <strong>{problem.title}</strong>
          {problem.remedy && <p>{problem.remedy}</p>}
          <code>{problem.detail}</code>
          {onClose && (
            <button type="button" class="icon close" aria-label="Dismiss" onClick={onClose}>
              <X aria-hidden="true" />
            </button>
          )}
        </>
      )}
    </div>
  );
}

/** A mark on a phone's and a reader's path: on or off. */
export function Toggle({
  on,
  set,
  children,
}: {
  on: boolean;
  set: (on: boolean) => void;
  children: ComponentChildren;
}) {
  return (
    <button type="button" class="chip" aria-pressed={on} onClick={() => set(!on)}>
      {children}
    </button>
  );
}
