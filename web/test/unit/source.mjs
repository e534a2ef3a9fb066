// The TypeScript of src/ as modules that Node can run.
import { runnerImport } from "vite";

/** @param {string} path from web/src @returns {Promise<any>} */
export async function source(path) {
  const file = new URL(`../../src/${path}`, import.meta.url).pathname;
  const { module } = await runnerImport(file, { configFile: false, logLevel: "error" });
  return module;
}
