// The open conversation, as it looks.
import { signal, useSignal } from "@preact/signals";
import {
  Check,
  ChevronLeft,
  ChevronRight,
  CircleAlert,
  Copy,
  LoaderCircle,
  Pencil,
  RefreshCw,
  StepForward,
  Wrench,
} from "lucide-preact";
import type { ChatToolCall } from "pagelm";
import { useLayoutEffect, useRef } from "preact/hooks";
import { ask, doing, edit, goOn, regenerate } from "./answer.ts";
import { keep, open } from "./chats.ts";
import { answering, current, engine, problem, state } from "./engine.ts";
import { copyCode, Markdown } from "./markdown-view.tsx";
import { Thumbnail, takePictures } from "./pictures.tsx";
import { branch, type Conversation, type Node, show, siblings } from "./tree.ts";
import { ProblemBox } from "./ui.tsx";

// A small model knows these, with weights and activations of few bits too; it does not know everything.
export const IDEAS = ["Explain what a browser is.", "Write two sentences about the sea.", "What is photosynthesis?"];

export function Chat() {
  const c = open.value;
  const path = c ? branch(c) : [];
  return (
    <div class="chat">
      {path.length === 0 && engine.value ? <Empty /> : <h1 class="unseen">{c?.title}</h1>}
      {/* biome-ignore lint/a11y/useKeyWithClickEvents: what is clicked in it are buttons */}
      <div id="log" class="log" role="log" aria-label="Conversation" aria-live="off" onClick={copyCode}>
        {c && path.map((node) => node.role !== "tool" && <Message key={node.id} c={c} node={node} path={path} />)}
      </div>
      <ProblemBox
        problem={problem.value}
        onClose={() => {
          problem.value = null;
        }}
      />
      <Follow />
    </div>
  );
}

function Empty() {
  return (
    <div class="empty">
      <h1>What is on your mind?</h1>
      <p class="soft">{current.value?.name} is ready, on this device.</p>
      <div id="ideas" class="ideas" hidden={state.value !== "ready"}>
        {IDEAS.map((idea) => (
          <button key={idea} type="button" onClick={() => void ask(idea, takePictures())}>
            {idea}
          </button>
        ))}
      </div>
    </div>
  );
}

/** Which message is being edited. */
const editing = signal<string | null>(null);

interface MessageProps {
  c: Conversation;
  node: Node;
  path: Node[];
}

function Message({ c, node, path }: MessageProps) {
  const user = node.role === "user";
  const running = node.state === "streaming";
  const last = path.at(-1)?.id === node.id;
  const note = running && last ? doing.value : node.note;
  if (user && editing.value === node.id) return <Editor c={c} node={node} />;
  return (
    <article
      class={`message ${node.role}`}
      aria-label={user ? "You" : "Model"}
      data-running={running || undefined}
      data-state={node.state}
    >
      {node.pictures && (
        <div class="sent">
          {node.pictures.map((picture, i) => (
            <Thumbnail key={i} picture={picture} />
          ))}
        </div>
      )}
      {node.reasoning && <Thoughts node={node} />}
      {user ? <div class="text">{node.content}</div> : <Markdown text={node.content} live={running} />}
      {node.calls?.map((call) => (
        <ToolCard key={call.id} call={call} result={path.find(({ callId }) => callId === call.id)} />
      ))}
      {node.cut && <div class="cut">{node.cut}</div>}
      {node.state === "interrupted" && <div class="cut">The page was closed before this answer was whole.</div>}
      {node.state === "failed" && <div class="cut">This answer broke off.</div>}
      <footer class="foot">
        <Switcher c={c} node={node} />
        {user ? <UserActions node={node} /> : !running && <AnswerActions c={c} node={node} last={last} />}
        {!user && note && <span class="note numbers">{note}</span>}
      </footer>
    </article>
  );
}

function Thoughts({ node }: { node: Node }) {
  const busy = node.state === "streaming" && !node.content;
  return (
    <details class="thoughts">
      <summary>
        {busy && <LoaderCircle class="turning" aria-hidden="true" />}
        {busy ? "Thinking…" : "Thoughts"}
      </summary>
      <div>{node.reasoning?.trim()}</div>
    </details>
  );
}

function ToolCard({ call, result }: { call: ChatToolCall; result: Node | undefined }) {
  let given = call.function.arguments;
  try {
    given = JSON.stringify(JSON.parse(given), null, 1).replace(/\s*\n\s*/g, " ");
  } catch {
    // What the model wrote is shown as it is.
  }
  return (
    <section class="tool" aria-label={`Call of ${call.function.name}`}>
      <header>
        <Wrench aria-hidden="true" />
        <strong>{call.function.name}</strong>
        {result === undefined ? (
          <LoaderCircle class="turning" aria-label="runs" />
        ) : result.failed ? (
          <CircleAlert class="bad" aria-label="failed" />
        ) : (
          <Check class="fine" aria-label="done" />
        )}
      </header>
      <code>{given}</code>
      {result &&
        (result.content.length > 160 ? (
          <details>
            <summary>Result</summary>
            <div class="result">{result.content}</div>
          </details>
        ) : (
          <div class="result">{result.content}</div>
        ))}
    </section>
  );
}

/** ‹ 2/3 › where a message was asked or answered more than once. */
function Switcher({ c, node }: { c: Conversation; node: Node }) {
  const all = siblings(c, node);
  if (all.length < 2) return null;
  const at = all.findIndex(({ id }) => id === node.id);
  const go = (to: number) => {
    const next = all[to];
    if (next) keep(show(c, next.id));
  };
  return (
    <fieldset class="switcher" aria-label="Versions">
      <button
        type="button"
        class="icon quiet"
        aria-label="Version before"
        disabled={at === 0 || answering.value}
        onClick={() => go(at - 1)}
      >
        <ChevronLeft aria-hidden="true" />
      </button>
      <span class="numbers">
        {at + 1}/{all.length}
      </span>
      <button
        type="button"
        class="icon quiet"
        aria-label="Version after"
        disabled={at === all.length - 1 || answering.value}
        onClick={() => go(at + 1)}
      >
        <ChevronRight aria-hidden="true" />
      </button>
    </fieldset>
  );
}

function UserActions({ node }: { node: Node }) {
  return (
    <button
      type="button"
      class="icon quiet act"
      aria-label="Edit"
      title="Edit"
      disabled={!engine.value || answering.value}
      onClick={() => {
        editing.value = node.id;
      }}
    >
      <Pencil aria-hidden="true" />
    </button>
  );
}

function AnswerActions({ c, node, last }: { c: Conversation; node: Node; last: boolean }) {
  const copied = useSignal(false);
  const free = engine.value !== null && !answering.value;
  const onward = last && (node.cut || node.state === "stopped" || node.state === "interrupted");
  const copy = async () => {
    await navigator.clipboard.writeText(node.content).then(
      () => {
        copied.value = true;
        setTimeout(() => {
          copied.value = false;
        }, 1500);
      },
      () => {}, // The browser says so by itself.
    );
  };
  return (
    <>
      {node.content && (
        <button type="button" class="icon quiet act" aria-label="Copy the answer" title="Copy" onClick={copy}>
          {copied.value ? <Check aria-hidden="true" /> : <Copy aria-hidden="true" />}
        </button>
      )}
      {last && (
        <button
          type="button"
          class="icon quiet act"
          aria-label="Answer again"
          title="Answer again"
          disabled={!free}
          onClick={() => void regenerate(c, node)}
        >
          <RefreshCw aria-hidden="true" />
        </button>
      )}
      {onward && (
        <button type="button" class="quiet act" disabled={!free} onClick={() => void goOn(c, node)}>
          <StepForward aria-hidden="true" />
          Continue
        </button>
      )}
    </>
  );
}

function Editor({ c, node }: { c: Conversation; node: Node }) {
  const text = useSignal(node.content);
  const ref = useRef<HTMLTextAreaElement>(null);
  useLayoutEffect(() => {
    ref.current?.focus();
    ref.current?.setSelectionRange(node.content.length, node.content.length);
  }, [node.content.length]);
  const done = () => {
    editing.value = null;
  };
  const send = () => {
    const said = text.value.trim();
    if (!said) return;
    done();
    void edit(c, node, said);
  };
  return (
    <form
      class="message user editor"
      aria-label="Edit the message"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <textarea
        ref={ref}
        rows={3}
        aria-label="Message"
        value={text}
        onInput={(event) => {
          text.value = event.currentTarget.value;
        }}
        onKeyDown={(event) => {
          if (event.key === "Escape") {
            event.stopPropagation();
            done();
          } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
            event.preventDefault();
            send();
          }
        }}
      />
      <div class="row end">
        <button type="button" onClick={done}>
          Cancel
        </button>
        <button type="submit" class="primary">
          Send
        </button>
      </div>
    </form>
  );
}

/** Keeps the end in view for those who look at it. */
function Follow() {
  const c = open.value;
  const length = c?.order.length;
  const id = c?.id;
  // What is new is shown whether the end was in view or not.
  // biome-ignore lint/correctness/useExhaustiveDependencies: when they change
  useLayoutEffect(() => {
    const page = document.scrollingElement!;
    page.scrollTop = page.scrollHeight;
  }, [length, id]);
  useLayoutEffect(() => {
    const page = document.scrollingElement!;
    const log = document.querySelector("#log")!;
    const seen = new ResizeObserver(() => {
      const below = page.scrollHeight - page.scrollTop - page.clientHeight;
      if (answering.value && below < 160) page.scrollTop = page.scrollHeight;
    });
    seen.observe(log);
    return () => seen.disconnect();
  }, []);
  return null;
}
