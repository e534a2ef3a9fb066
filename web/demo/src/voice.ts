// Dictation, where the browser has it.
import { signal } from "@preact/signals";

interface Heard extends Event {
  results: ArrayLike<ArrayLike<{ transcript: string }>>;
}
interface Recognition extends EventTarget {
  lang: string;
  interimResults: boolean;
  continuous: boolean;
  start(): void;
  stop(): void;
}
type Ears = new () => Recognition;

const { SpeechRecognition, webkitSpeechRecognition } = globalThis as unknown as Record<string, Ears | undefined>;
const Recognizer = SpeechRecognition ?? webkitSpeechRecognition;

export const hears = Recognizer !== undefined;
export const listening = signal(false);
let recognition: Recognition | null = null;

/** Starts to listen, or stops. `write` gets all that was heard so far; `fail`, why nothing is. */
export function listen(write: (heard: string) => void, fail: (why: string) => void): void {
  if (recognition) {
    recognition.stop();
    return;
  }
  if (!Recognizer) return;
  const ears = new Recognizer();
  recognition = ears;
  ears.lang = navigator.language;
  ears.interimResults = true;
  ears.continuous = true;
  ears.addEventListener("result", (event) => {
    write([...Array.from((event as Heard).results)].map((result) => result[0]?.transcript ?? "").join(""));
  });
  ears.addEventListener("error", (event) => {
    const { error } = event as Event & { error: string };
    if (error !== "aborted" && error !== "no-speech")
      fail(error === "not-allowed" ? "The browser does not let this page listen." : `Nothing is heard (${error}).`);
  });
  ears.addEventListener("end", () => {
    recognition = null;
    listening.value = false;
  });
  listening.value = true;
  ears.start();
}
