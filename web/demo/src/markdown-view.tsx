// A text of a model, drawn as markdown; what draws it is fetched with the first one.
import { signal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";

const drawer = signal<typeof import("./markdown.ts") | null>(null);
let asked = false;

function fetchDrawer(): void {
  if (asked) return;
  asked = true;
  import("./markdown.ts").then(
    (module) => {
      drawer.value = module;
    },
    () => {
      asked = false; // Plain text until the next answer.
    },
  );
}

/** How often a text that grows is drawn, in milliseconds. */
const PACE = 60;

export function Markdown({ text, live }: { text: string; live: boolean }) {
  const ref = useRef<HTMLDivElement>(null);
  const drawn = useRef(0);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const module = drawer.value;
  // biome-ignore lint/correctness/useExhaustiveDependencies: it is the value of a signal
  useLayoutEffect(() => {
    fetchDrawer();
    const draw = () => {
      drawn.current = performance.now();
      const root = ref.current;
      if (!root) return;
      if (!module) root.textContent = text;
      else {
        root.replaceChildren(module.fragment(text));
        void module.embellish(root);
      }
    };
    clearTimeout(timer.current);
    const wait = live ? drawn.current + PACE - performance.now() : 0;
    if (wait > 0) timer.current = setTimeout(draw, wait);
    else draw();
    return () => clearTimeout(timer.current);
  }, [text, live, module]);
  return <div class="text markdown" ref={ref} />;
}

/** For all buttons that copy code. */
export async function copyCode(event: Event): Promise<void> {
  const button = event.target instanceof Element ? event.target.closest<HTMLButtonElement>("button.copy") : null;
  if (!button) return;
  const code = button.closest(".code")?.querySelector("code")?.textContent ?? "";
  const done = await navigator.clipboard.writeText(code).then(
    () => "Copied",
    () => "Not allowed",
  );
  button.textContent = done;
  setTimeout(() => {
    button.textContent = "Copy";
  }, 1500);
}
