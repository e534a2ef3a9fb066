// Where a message is written.
import { signal, useSignal } from "@preact/signals";
import { ArrowUp, ImagePlus, Lightbulb, Mic, Square, Wrench } from "lucide-preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { ask, stop } from "./answer.ts";
import { answering, engine, problem, state } from "./engine.ts";
import { addPictures, Shelf, takePictures } from "./pictures.tsx";
import { set, settings } from "./settings.ts";
import { Toggle } from "./ui.tsx";
import { hears, listen, listening } from "./voice.ts";

export const draft = signal("");

export function Composer() {
  const ref = useRef<HTMLTextAreaElement>(null);
  const before = useSignal("");
  // biome-ignore lint/correctness/useExhaustiveDependencies: it is as high as its text
  useLayoutEffect(() => {
    const field = ref.current!;
    field.style.height = "auto";
    field.style.height = `${field.scrollHeight}px`;
  }, [draft.value]);
  const send = () => {
    const text = (ref.current?.value ?? "").trim();
    if (!text || answering.value) return;
    draft.value = "";
    void ask(text, takePictures());
  };
  const hear = () => {
    before.value = draft.value && `${draft.value.trimEnd()} `;
    listen(
      (heard) => {
        draft.value = before.value + heard;
      },
      (why) => {
        problem.value = { code: "page", title: why, remedy: "", detail: "SpeechRecognition" };
      },
    );
    ref.current?.focus();
  };
  const busy = state.value === "answering";
  const { tools, thinking } = settings.value;
  return (
    <form
      id="ask"
      class="composer"
      aria-label="Your message"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <div class="field">
        <Shelf />
        <textarea
          id="prompt"
          ref={ref}
          rows={1}
          placeholder="Write a message"
          aria-label="Message"
          enterkeyhint="send"
          value={draft}
          onInput={(event) => {
            draft.value = event.currentTarget.value;
          }}
          onKeyDown={(event) => {
            if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
            event.preventDefault();
            send();
          }}
        />
        <div class="row">
          <label
            id="see"
            class="button icon quiet"
            for="picture"
            title="Add a picture"
            hidden={!engine.value?.info.model.images}
          >
            <ImagePlus aria-hidden="true" />
            <span class="unseen">Add a picture</span>
            <input
              id="picture"
              type="file"
              accept="image/*"
              multiple
              class="unseen"
              onChange={(event) => {
                addPictures(event.currentTarget.files ?? undefined);
                event.currentTarget.value = "";
                ref.current?.focus();
              }}
            />
          </label>
          <Toggle on={tools} set={(tools) => set({ tools })}>
            <Wrench aria-hidden="true" />
            Tools
          </Toggle>
          <Toggle on={thinking} set={(thinking) => set({ thinking })}>
            <Lightbulb aria-hidden="true" />
            Think
          </Toggle>
          <span class="grow" />
          {hears && (
            <button
              type="button"
              class={`icon quiet${listening.value ? " on" : ""}`}
              aria-pressed={listening.value}
              aria-label="Dictate"
              title="Dictate: the browser's own service hears it"
              onClick={hear}
            >
              <Mic aria-hidden="true" />
            </button>
          )}
          <button id="send" class="primary icon" type="submit" aria-label="Send" hidden={busy} disabled={!engine.value}>
            <ArrowUp aria-hidden="true" />
          </button>
          <button id="stop" class="stop icon" type="button" aria-label="Stop" hidden={!busy} onClick={stop}>
            <Square aria-hidden="true" />
          </button>
        </div>
      </div>
    </form>
  );
}
