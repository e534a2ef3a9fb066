// Numbers and errors in words.
import { type ErrorCode, PagelmError } from "pagelm";

export function bytes(n: number): string {
  if (!Number.isFinite(n)) return "0 MB";
  return n < 1e9 ? `${(n / 1e6).toFixed(n < 1e8 ? 1 : 0)} MB` : `${(n / 1e9).toFixed(2)} GB`;
}

export interface Problem {
  code: string;
  title: string;
  remedy: string;
  detail: string;
}

const WORDS: Partial<Record<ErrorCode, [title: string, remedy: string]>> = {
  network: [
    "The download broke off",
    "Check the connection and the address, then load again. What is known of the reason stands below.",
  ],
  "http-status": [
    "The server does not give the file",
    "Check the address: open it in a new tab, it should start a download.",
  ],
  "model-changed": ["The file changed during the download", "Load it again."],
  "not-gguf": ["This is not a GGUF file", "Give the address of the .gguf file itself, not of a page about it."],
  "gguf-truncated": ["The file is not complete", "Download or upload it again."],
  "unsupported-architecture": ["This kind of model is not known yet", "Try a model of another family."],
  "unsupported-type": [
    "The weights have a type that cannot run here",
    "Try another quantization of the same model, such as Q4_K_M or Q8_0.",
  ],
  "no-gpu": ["There is no GPU for this page", "Use a browser with WebGPU, or choose the CPU."],
  "out-of-memory": ["The model does not fit", "Choose a smaller model or a smaller quantization."],
  "device-lost": [
    "The GPU stopped",
    "It stopped several times in a row, as when memory runs out. Load the model again, or a smaller one.",
  ],
  "bad-image": ["The picture cannot be read", "Take another one, or save it as PNG or JPEG."],
  "context-overflow": ["The conversation is too long", "Start a new chat."],
  "no-template": ["This is no chat model", "Choose a model whose name has Instruct or Chat in it."],
  "engine-not-loaded": [
    "The engine did not load",
    "Reload the page. If it stays so, the page is not built or served right.",
  ],
  internal: ["Something in pagelm broke", "Load the model again, and please report this."],
};

export function problemOf(e: unknown): Problem {
  if (!(e instanceof PagelmError)) return { code: "page", title: "The page failed", remedy: "", detail: String(e) };
  const [title, remedy] = WORDS[e.code] ?? ["That did not work", ""];
  const place = e.place && !e.message.startsWith(e.place) ? `${e.place}: ` : "";
  return { code: e.code, title, remedy, detail: `${place}${e.message} [${e.code}]` };
}

export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

/** About how long something will take. */
export function duration(s: number): string {
  if (s < 60) return `${Math.max(1, Math.ceil(s))} s`;
  if (s < 3600) return `${Math.ceil(s / 60)} min`;
  return `${Math.floor(s / 3600)} h ${Math.ceil((s % 3600) / 60)} min`;
}
