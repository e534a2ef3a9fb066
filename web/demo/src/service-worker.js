// The page without a network. `vite.config.ts` writes before this what was built: FILES, by their paths, and their VERSION.
//
// The page, its scripts and styles are stored when this is installed; of the engine's builds the one that runs here, when the
// page says which. Models are stored by the engine itself. All else goes to the network as if this were not there.
const worker = /** @type {any} */ (globalThis);
const { VERSION, FILES } = /** @type {{ VERSION: string, FILES: string[] }} */ (worker.built);
const CACHE = `pagelm-shell-${VERSION}`;
/** @param {string} file */
const at = (file) => new URL(file, worker.registration.scope).href;
const shell = FILES.filter((file) => !file.endsWith(".wasm"));
const known = new Set(FILES.map(at));

/** With the headers that threads need, also where the server does not send them. @param {Response} response */
function isolated(response) {
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  const { status, statusText, body } = response;
  return new Response(body, { status, statusText, headers });
}

async function install() {
  const cache = await caches.open(CACHE);
  await cache.addAll(shell.map((file) => new Request(at(file), { cache: "reload" })));
}

async function activate() {
  for (const name of await caches.keys())
    if (name.startsWith("pagelm-shell-") && name !== CACHE) await caches.delete(name);
  await worker.clients.claim();
}

/** The engine's build of this name. @param {string} build */
async function keep(build) {
  const file = FILES.find((file) => new RegExp(`(^|/)pagelm-${build}-[\\w-]{8}\\.wasm$`).test(file));
  const cache = await caches.open(CACHE);
  if (file && !(await cache.match(at(file)))) await cache.add(at(file));
  return file !== undefined;
}

/** Pages come from the network while there is one: so they are new, and name the files that they need. @param {Request} request */
async function page(request) {
  try {
    const response = await fetch(request);
    return response.ok ? isolated(response) : response;
  } catch (e) {
    const { pathname } = new URL(request.url);
    const file = pathname.endsWith("/") ? `${request.url.split(/[?#]/)[0]}index.html` : request.url.split(/[?#]/)[0];
    const stored = await caches.match(file ?? "");
    if (stored) return isolated(stored);
    throw e;
  }
}

/** @param {Request} request */
async function file(request) {
  const stored = await caches.match(request.url);
  return isolated(stored ?? (await fetch(request)));
}

worker.addEventListener("install", (/** @type {any} */ event) => event.waitUntil(install()));
worker.addEventListener("activate", (/** @type {any} */ event) => event.waitUntil(activate()));
worker.addEventListener("message", (/** @type {any} */ event) => {
  const { keep: build } = event.data ?? {};
  if (typeof build !== "string") return;
  event.waitUntil(
    keep(build).then(
      (done) => event.ports[0]?.postMessage(done),
      () => event.ports[0]?.postMessage(false),
    ),
  );
});
worker.addEventListener("fetch", (/** @type {any} */ event) => {
  const { request } = event;
  if (request.method !== "GET") return;
  const address = request.url.split(/[?#]/)[0];
  const own = address.endsWith("/") ? known.has(`${address}index.html`) : known.has(address);
  if (!own) return;
  event.respondWith(request.mode === "navigate" ? page(request) : file(request));
});
