/// <reference types="dom-chromium-ai" />
// What is written for the browser's `LanguageModel` takes the package's: compared with the types that pages use for it.
import type * as own from "pagelm/prompt-api";

/** Browsers leave these out of pages; here they are undefined unless they were given. */
type Raw = "topK" | "temperature";
/** Handlers and listeners are those of any event target. */
type Listens = "addEventListener" | "removeEventListener" | "oncontextoverflow" | "onquotaoverflow";
type Theirs = Omit<LanguageModel, Raw | Listens | "clone">;

export const session = (made: own.LanguageModel): Theirs => made;
export const clone = async (made: own.LanguageModel): Promise<Theirs> => made.clone();
export const create = (page: own.LanguageModelClass, given: LanguageModelCreateOptions): Promise<Theirs> =>
  page.create(given as own.CreateOptions);
export const availability = (page: own.LanguageModelClass): Promise<Availability> => page.availability();
export const prompt = (made: own.LanguageModel, input: LanguageModelPrompt, options: LanguageModelPromptOptions) =>
  made.prompt(input, options);
export const monitor: own.CreateOptions["monitor"] = (m) =>
  m.addEventListener("downloadprogress", (event) => (event as ProgressEvent).loaded);
