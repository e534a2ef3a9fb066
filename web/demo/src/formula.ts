// Formulas as MathML, which browsers set themselves: no fonts to fetch.
import temml from "temml";
import "temml/dist/Temml-Local.css";

export function typeset(e: HTMLElement): void {
  const text = e.textContent ?? "";
  e.dataset.set = "";
  temml.render(text, e, { displayMode: e.classList.contains("display"), throwOnError: false });
}
