// Parts of the demo that share their state, for a test.
export * as answer from "../../demo/src/answer.ts";
export * as chats from "../../demo/src/chats.ts";
export * as engine from "../../demo/src/engine.ts";
export * as settings from "../../demo/src/settings.ts";
export * as tree from "../../demo/src/tree.ts";
