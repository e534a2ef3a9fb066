// What the blocks of the pages have without saying where from.
declare const engine: import("pagelm").Engine;
declare const messages: import("pagelm").ChatMessage[];
/** What the page does with a text. */
declare function show(text: string): void;
/** What the user chose. */
declare const file: File;
