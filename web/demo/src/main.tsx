// Starts the page. All of the engine is behind the imports from `pagelm`.
import { render } from "preact";
import { App, listenToPage } from "./app.tsx";
import { survey } from "./catalog.ts";
import { lastAnswer, restore } from "./chats.ts";
import { watchState } from "./engine.ts";
import { loadAddress } from "./gallery.tsx";
import { watchOffline } from "./offline.ts";
import { query, watchTheme } from "./settings.ts";

watchTheme();
watchState();
listenToPage();
const root = document.getElementById("app")!;
root.replaceChildren();
render(<App />, root);
// For scripts: what the model wrote, before it is drawn.
Object.defineProperty(globalThis, "answer", { get: () => lastAnswer() });
void restore();
addEventListener("load", watchOffline);
if (query.has("load")) loadAddress();
// After the first paint, as it starts a worker. Safari has no idle callbacks.
else (globalThis.requestIdleCallback ?? setTimeout)(() => void survey());
