/** Set by page.js, called by tests through the browser's driver. */
declare var e2e: import("./page.js").E2E;
