// The model of all examples.
import { createEngine, models } from "pagelm";

/** A URL, or `hf:OWNER/REPO:QUANTISATION`. */
export const model = `/models/${models.tested["smollm2-135m"].file}`;

let loading;

/** The engine, loaded when it is first asked for. */
export function engine() {
  loading ??= createEngine({ model });
  // A load that failed is tried again.
  loading.catch(() => {
    loading = undefined;
  });
  return loading;
}

/** For clients of OpenAI's API: their requests stay in the page. */
export const local = {
  baseURL: "http://pagelm.local/v1",
  apiKey: "-",
  dangerouslyAllowBrowser: true, // no key leaves the page
  fetch: async (input, init) => (await engine()).fetch(input, init),
};
