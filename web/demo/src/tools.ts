// Tools that a model may call here: what they do happens in the page.
import { defineTool, type RunnableTool } from "pagelm/tools";
import { calculate } from "./calculate.ts";

const calculator = defineTool({
  name: "calculator",
  description: "Computes an arithmetic expression, such as (12.5 + 3) * 4 ^ 2 or sqrt(2)",
  parameters: {
    type: "object",
    properties: { expression: { type: "string" } },
    required: ["expression"],
    additionalProperties: false,
  },
  execute: ({ expression }) => ({ result: calculate(expression) }),
});

const clock = defineTool({
  name: "clock",
  description: "The date and time now, in a time zone such as Europe/Paris",
  parameters: {
    type: "object",
    properties: { zone: { type: "string" } },
    required: ["zone"],
    additionalProperties: false,
  },
  execute: ({ zone }) =>
    new Intl.DateTimeFormat("en-GB", { dateStyle: "full", timeStyle: "long", timeZone: zone }).format(new Date()),
});

/** Of a page, as much as fits into a small context. */
const MOST = 4000;

const readPage = defineTool({
  name: "read_page",
  description: "The text of a web page, by its https address",
  parameters: {
    type: "object",
    properties: { url: { type: "string" } },
    required: ["url"],
    additionalProperties: false,
  },
  async execute({ url }, { signal }) {
    const address = new URL(url, location.href);
    const response = await fetch(address, { signal, credentials: "omit", referrerPolicy: "no-referrer" }).catch((e) => {
      signal?.throwIfAborted();
      throw new Error(`${address.host} cannot be reached, or does not let other pages read it (${e.message})`);
    });
    if (!response.ok) throw new Error(`${address.host} answered ${response.status}`);
    const text = await response.text();
    if (!response.headers.get("content-type")?.includes("html")) return text.slice(0, MOST);
    const page = new DOMParser().parseFromString(text, "text/html");
    for (const e of page.querySelectorAll("script, style, nav, header, footer, noscript, svg")) e.remove();
    const words = (page.body.textContent ?? "").replace(/\s+/g, " ").trim();
    return `${page.title}\n\n${words}`.trim().slice(0, MOST);
  },
});

export const TOOLS: RunnableTool[] = [calculator, clock, readPage];
