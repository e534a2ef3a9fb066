// Serves the built demo with the models of the cache folder:  node web/demo/serve.mjs [--port 8080]
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { cache } from "../tools/cache.mjs";
import { serve } from "../tools/serve.mjs";

/** @param {number} [port] */
export function serveDemo(port) {
  const page = fileURLToPath(new URL("dist", import.meta.url));
  // What `make docs` made.
  const docs = fileURLToPath(new URL("../docs/dist", import.meta.url));
  return serve({ mounts: { "/": page, "/docs": docs, "/models": join(cache, "models") }, ...(port && { port }) });
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { values } = parseArgs({ options: { port: { type: "string", default: "8080" } } });
  const { url } = await serveDemo(Number(values.port));
  console.log(`the demo is at ${url}`);
}
