/** Set by page.js, called by tests through the browser's driver. */
// biome-ignore lint/suspicious/noExplicitAny: what the methods take is said where they are
declare var e2e: Record<string, (...args: any[]) => any>;
