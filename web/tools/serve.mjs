// A static file server for tests: cross-origin isolated, with byte ranges, and with the faults that loading must survive.
//
//   const server = await serve({ mounts: { "/": "web", "/models": dir } });  server.url, await server.close()
//   node web/tools/serve.mjs PORT /=web /models=DIR                            by hand
//
// Every file is also reachable with a fault before its path, for example /fault/truncate/models/a.gguf:
//   404       no such file                     garbage   as many bytes as the file has, but random ones
//   truncate  the full Content-Length, then    slow      64 KiB every 50 ms (?bytes=N&ms=N)
//             the connection is cut halfway    norange   answers 200 with the whole file to a Range request
//   flaky     the first request for a path is cut halfway, later ones are whole
//   capped    answers 206 with at most 100 kB, whatever is asked for (?bytes=N)
//   busy      the first request for a path is told to come again after a second (429 and Retry-After)
//   cut       the first request that reaches byte ?at=N is cut there
//   stall     the first request for a path brings half and then nothing, for ever
//   shortened the first answer for a path says that it is half as long as it should be, and is
//   nolength  sent without a length, and without ranges       gzip      compressed, without ranges
//   changing  like flaky, and later answers have another ETag
//   signed    leads to an address that is good for one request, and whose answers are cut halfway while there are two
// Addresses with another query are other paths. With ?csp=POLICY a path is served with this content security policy.
// `server.requests` lists what was asked: { method, path, range, status, sent }. While `server.down(path)` is true, a
// request for that path gets no answer. After `server.allow(n)` the requests that come for `slow` paths share n bytes at that
// pace, and what is beyond them drips, as does what older requests still have to get: so a test stops or kills a page at a byte,
// however busy the machine is.
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize, resolve, sep } from "node:path";
import { Readable } from "node:stream";
import { pathToFileURL } from "node:url";
import { createGzip } from "node:zlib";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".css": "text/css",
  ".json": "application/json",
  ".wasm": "application/wasm",
  ".svg": "image/svg+xml",
  ".png": "image/png",
};

/** What drips, and how often: enough that nobody takes the connection for dead. */
const DRIP = 16;
const DRIP_MS = 100;

/**
 * @param {{ mounts?: Record<string, string>, port?: number, isolated?: boolean | "pages", cors?: boolean,
 *   headers?: Record<string, string> }} options
 *   mounts: URL prefix -> folder, the longest prefix wins; isolated: send COOP and COEP (needed for threads), with pages only
 *   or with all; cors: let pages of other origins read; headers: more of them
 */
export async function serve({
  mounts = { "/": "." },
  port = 0,
  isolated = true,
  cors = true,
  headers: more = {},
} = {}) {
  /** @type {{ method: string, path: string, range: string | undefined, status: number, sent: number }[]} */
  const requests = [];
  const state = { down: (/** @type {string} */ _) => false, allowed: { bytes: Number.POSITIVE_INFINITY } };
  /** @type {Set<string>} */
  const seen = new Set();
  const roots = Object.entries(mounts)
    .map(([prefix, dir]) => ({ prefix: prefix.endsWith("/") ? prefix : `${prefix}/`, dir: resolve(dir) }))
    .sort((a, b) => b.prefix.length - a.prefix.length);

  /** @param {string} path */
  async function find(path) {
    const root = roots.find((r) => path.startsWith(r.prefix));
    if (!root) return null;
    let file = normalize(join(root.dir, path.slice(root.prefix.length)));
    if (file !== root.dir && !file.startsWith(root.dir + sep)) return null;
    let info = await stat(file).catch(() => null);
    if (info?.isDirectory()) {
      file = join(file, "index.html");
      info = await stat(file).catch(() => null);
    }
    return info?.isFile() ? { file, size: info.size, etag: `"${info.size}-${Math.floor(info.mtimeMs)}"` } : null;
  }

  const server = createServer(async (req, res) => {
    const url = new URL(req.url ?? "/", "http://localhost");
    const range = req.headers.range;
    const method = req.method ?? "GET";
    const [, fault = "", path = ""] = /^\/fault\/(\w+)(\/.*)$/.exec(decodeURIComponent(url.pathname)) ?? [
      null,
      "",
      decodeURIComponent(url.pathname),
    ];
    if (state.down(path)) return void res.destroy();
    const request = { method, path: url.pathname, range, status: 0, sent: 0 };
    const begin = (/** @type {number} */ status, /** @type {Record<string, string | number>} */ headers = {}) => {
      requests.push(Object.assign(request, { status }));
      res.writeHead(status, {
        ...((isolated === true || (isolated && path.endsWith(".html"))) && {
          "Cross-Origin-Opener-Policy": "same-origin",
          "Cross-Origin-Embedder-Policy": "require-corp",
          "Cross-Origin-Resource-Policy": "cross-origin",
        }),
        ...(cors && {
          "Access-Control-Allow-Origin": "*",
          "Access-Control-Allow-Headers": "Range, If-Range",
          "Access-Control-Expose-Headers": "Content-Range, Content-Length, ETag, Accept-Ranges, Retry-After",
        }),
        "Cache-Control": "no-store",
        ...more,
        ...(url.searchParams.has("csp") && { "Content-Security-Policy": url.searchParams.get("csp") ?? "" }),
        ...headers,
      });
    };
    const send = (
      /** @type {number} */ status,
      /** @type {Record<string, string | number>} */ headers = {},
      text = "",
    ) => {
      begin(status, headers);
      res.end(text);
    };
    if (method === "OPTIONS") return send(204);
    if (path === "/favicon.ico") return send(204); // browsers ask by themselves
    const found = fault === "404" || (method !== "GET" && method !== "HEAD") ? null : await find(path);
    if (!found) return send(404, {}, "not found");

    const asked = fault === "cut" ? `${url.pathname}${url.search}` : url.pathname;
    const first = !seen.has(asked);
    if (fault === "signed") {
      return send(302, { Location: `/fault/expiring${path}?signature=${requests.length}` });
    }
    if (fault === "expiring") {
      if (seen.has(url.search)) return send(403, {}, "this address has expired");
      seen.add(url.search);
    }
    if (fault !== "cut") seen.add(asked);
    if (fault === "busy" && first) return send(429, { "Retry-After": 1 }, "busy");

    const { file, size } = found;
    const etag = fault === "changing" && first ? '"before"' : found.etag;
    let [start, end, status] = [0, size - 1, 200];
    const ranged = !["norange", "nolength", "gzip"].includes(fault);
    const match = ranged && /^bytes=(\d*)-(\d*)$/.exec(range ?? "");
    const stale = req.headers["if-range"] !== undefined && req.headers["if-range"] !== etag;
    if (match && (match[1] || match[2]) && !stale) {
      start = match[1] ? Number(match[1]) : Math.max(0, size - Number(match[2]));
      if (match[1] && match[2]) end = Math.min(end, Number(match[2]));
      status = 206;
      if (start > end) return send(416, { "Content-Range": `bytes */${size}` });
    }
    if (fault === "capped") {
      status = 206;
      end = Math.min(end, start + Number(url.searchParams.get("bytes") ?? 100_000) - 1);
    }
    const shortened = fault === "shortened" && first;
    const length = shortened ? Math.floor((end - start + 1) / 2) : end - start + 1;
    begin(status, {
      "Content-Type": TYPES[/** @type {keyof typeof TYPES} */ (extname(file))] ?? "application/octet-stream",
      ...(fault === "gzip" && { "Content-Encoding": "gzip" }),
      ...(fault !== "gzip" && fault !== "nolength" && { "Content-Length": length }),
      ETag: etag,
      ...(ranged && { "Accept-Ranges": "bytes" }),
      ...(status === 206 && { "Content-Range": `bytes ${start}-${end}/${size}` }),
    });
    if (method === "HEAD" || length === 0) return void res.end();

    const halved = fault === "truncate" || (first && ["flaky", "changing", "expiring", "stall"].includes(fault));
    const at = Number(url.searchParams.get("at"));
    const reached = fault === "cut" && first && start <= at && at <= end;
    if (reached) seen.add(asked);
    const cut = halved ? Math.floor(length / 2) : reached ? at - start : length;
    const chunk = fault === "slow" ? Number(url.searchParams.get("bytes") ?? 65536) : 65536 * 4;
    const pause = fault === "slow" ? Number(url.searchParams.get("ms") ?? 50) : 0;
    const { allowed } = state;
    const source = cut > 0 ? createReadStream(file, { start, end: start + cut - 1, highWaterMark: chunk }) : [];
    async function* body() {
      let seed = 1;
      for await (const part of source) {
        if (fault === "garbage") {
          // The same bytes each time, and nothing like a GGUF header.
          for (let i = 0; i < part.length; i++) {
            seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
            part[i] = seed >>> 24;
          }
        }
        if (fault !== "slow") {
          request.sent += part.length;
          yield part;
          continue;
        }
        for (let from = 0; from < part.length; ) {
          const drips = allowed !== state.allowed || allowed.bytes <= 0;
          const to = drips ? from + DRIP : Math.min(part.length, from + allowed.bytes);
          const some = part.subarray(from, to);
          allowed.bytes -= some.length;
          request.sent += some.length;
          yield some;
          from += some.length;
          await new Promise((done) => setTimeout(done, drips ? DRIP_MS : pause));
        }
      }
    }
    const out = Readable.from(body(), { objectMode: false, highWaterMark: chunk });
    res.on("close", () => out.destroy());
    out.on("error", () => res.destroy());
    if (fault === "gzip") return void out.pipe(createGzip()).pipe(res);
    out.pipe(res, { end: cut === length });
    // Wait until the client has read what there is: browsers drop what is unread at a break, so it would see none of it.
    if (cut < length && fault !== "stall") out.on("end", () => setTimeout(() => res.destroy(), 300));
  });

  await new Promise((done, fail) => server.once("error", fail).listen(port, "127.0.0.1", () => done(undefined)));
  const address = server.address();
  if (!address || typeof address === "string") throw new Error("no port");
  return {
    url: `http://localhost:${address.port}`,
    requests,
    allow: (/** @type {number} */ bytes) => {
      state.allowed = { bytes };
    },
    set down(/** @type {(path: string) => boolean} */ is) {
      state.down = is;
    },
    close: () =>
      new Promise((done) => {
        server.close(() => done(undefined));
        server.closeAllConnections();
      }),
  };
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [port = "8080", ...pairs] = process.argv.slice(2);
  const mounts = Object.fromEntries(pairs.map((p) => p.split("=", 2)));
  const { url } = await serve({ port: Number(port), ...(pairs.length && { mounts }) });
  console.log(url);
}
