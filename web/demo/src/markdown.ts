// Markdown of a model as safe HTML: `marked` reads it, DOMPurify cleans it. This comes with the first answer; code highlighting
// and formulas, each in a chunk of its own, when there are some.
import DOMPurify from "dompurify";
import { Marked, type TokenizerAndRendererExtension } from "marked";

const escaped = (text: string) =>
  text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]!);

/** A formula: `$…$`, `$$…$$`, `\(…\)` or `\[…\]`. A price such as $5 is none. */
const FORMULA = /^(?:\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\]|\\\((.+?)\\\)|\$(?![\s$])([^$\n]*?[^\s$\\])\$(?!\d))/;

const formula: TokenizerAndRendererExtension = {
  name: "formula",
  level: "inline",
  start: (text) => text.search(/\$|\\[([]/),
  tokenizer(text) {
    const match = FORMULA.exec(text);
    if (!match) return;
    const display = match[1] ?? match[2];
    return { type: "formula", raw: match[0], text: (display ?? match[3] ?? match[4] ?? "").trim(), display: !!display };
  },
  renderer: (token) => `<span class="formula${token.display ? " display" : ""}">${escaped(String(token.text))}</span>`,
};

const marked = new Marked({ gfm: true, breaks: true, extensions: [] });
marked.use({ extensions: [formula], renderer: { html: ({ text }) => escaped(text) } });

DOMPurify.addHook("afterSanitizeAttributes", (e) => {
  if (e.tagName !== "A") return;
  e.setAttribute("target", "_blank");
  e.setAttribute("rel", "noopener noreferrer");
});

/** Without pictures: asking for one would tell another server what was said here. */
const CLEAN = {
  ALLOWED_TAGS: [
    ..."p br hr h1 h2 h3 h4 h5 h6 ul ol li blockquote pre code em strong del a table thead tbody tr th td span input".split(
      " ",
    ),
  ],
  ALLOWED_ATTR: ["href", "class", "align", "start", "type", "checked", "disabled"],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  RETURN_DOM_FRAGMENT: true as const,
};

export function fragment(text: string): DocumentFragment {
  const made = DOMPurify.sanitize(marked.parse(text, { async: false }), CLEAN);
  // Of inputs only what a list of tasks has.
  for (const input of made.querySelectorAll("input"))
    if (input.type !== "checkbox") input.remove();
    else input.setAttribute("aria-label", input.checked ? "done" : "to do");
  for (const table of made.querySelectorAll("table")) {
    const frame = Object.assign(document.createElement("div"), { className: "table", tabIndex: 0 });
    frame.setAttribute("role", "region");
    frame.setAttribute("aria-label", "Table");
    table.replaceWith(frame);
    frame.append(table);
  }
  for (const code of made.querySelectorAll("pre > code")) frameCode(code as HTMLElement);
  return made;
}

/** A bar with the language and a button over each block of code. */
function frameCode(code: HTMLElement): void {
  const pre = code.parentElement!;
  const language = /language-([\w+#-]+)/.exec(code.className)?.[1] ?? "";
  const frame = Object.assign(document.createElement("div"), { className: "code" });
  const bar = Object.assign(document.createElement("div"), { className: "code-bar" });
  const name = Object.assign(document.createElement("span"), { textContent: language || "text" });
  const copy = Object.assign(document.createElement("button"), { type: "button", textContent: "Copy" });
  copy.className = "copy quiet";
  copy.setAttribute("aria-label", `Copy the code${language && ` in ${language}`}`);
  bar.append(name, copy);
  pre.tabIndex = 0;
  pre.setAttribute("role", "region");
  pre.setAttribute("aria-label", `Code${language && ` in ${language}`}`);
  pre.replaceWith(frame);
  frame.append(bar, pre);
}

/** Colours what has a known language, and sets formulas. */
export async function embellish(root: ParentNode): Promise<void> {
  const codes = [...root.querySelectorAll<HTMLElement>('pre > code[class*="language-"]')];
  const formulas = [...root.querySelectorAll<HTMLElement>(".formula:not([data-set])")];
  if (codes.length) {
    const { highlight } = await import("./highlight.ts");
    for (const code of codes) highlight(code);
  }
  if (formulas.length) {
    const { typeset } = await import("./formula.ts");
    for (const e of formulas) typeset(e);
  }
}
