// Why each error comes, and what helps. What an error is stands with its code, in `crate/error.rs` and `web/src/shared/errors.ts`;
// a test compares the codes.

/** The sections of the page: their titles, and each code with a cause and a remedy. */
export const SECTIONS = /** @type {[string, Record<string, [cause: string, remedy: string]>][]} */ ([
  [
    "The download",
    {
      network: [
        "The server is down, the browser is offline, or CORS forbids the answer: browsers do not tell these apart.",
        "Open the address in `place` in a tab. If it answers there, its server must send `Access-Control-Allow-Origin`, and the page's policy must allow it in `connect-src`. What came is kept: load again to go on.",
      ],
      "http-status": [
        "The address is wrong (404), or the model is not public (401, 403).",
        "Check the address; a name such as `OWNER/REPO` needs `hf:` in front. For a model that is not public, give `headers: { Authorization: … }`.",
      ],
      "model-changed": [
        "Somebody replaced the file while it was downloaded. Bytes of two files are never mixed.",
        "Load again: it begins anew. For the Hugging Face Hub, name a revision: `hf:OWNER/REPO@REVISION:…`.",
      ],
      "bad-checksum": [
        "The download is damaged, the file is another one, or the sum that you gave is of another version.",
        "Compare `sha256` with what the publisher says. The file was not kept, so that the next load fetches it anew.",
      ],
      "not-stored": [
        "`models.download` or `models.import` found no room, or this page may not store: a private window, an origin without https.",
        "`models.estimate()` says what is free; `models.delete` makes room. `createEngine` runs the model all the same, from memory.",
      ],
      io: [
        "A file that the user chose was moved or changed after that, or the disk failed.",
        "Let the user choose it again.",
      ],
      aborted: [
        "A signal of yours stopped it: its `name` is `AbortError`, or `TimeoutError` after `AbortSignal.timeout`.",
        "Nothing is wrong: tell it apart from errors by this code, and by `cause`, the signal's reason. The engine stays usable.",
      ],
    },
  ],
  [
    "The file",
    {
      "not-gguf": [
        "The server answered with a page, such as one to sign in, or the file has another format: safetensors, ONNX.",
        "Open the address in a tab. Take a repository with GGUF files; on the hub, their names often end in `-GGUF`.",
      ],
      "gguf-version": [
        "The file is older than version 2 of the format, newer than this release knows, or for machines of the other byte order.",
        "Convert it again with current tools, or update pagelm.",
      ],
      "gguf-truncated": [
        "The upload or a download by hand was cut.",
        "Compare its size with the publisher's, and get it again.",
      ],
      "gguf-invalid": [
        "The file is damaged, or was made by a program with a fault.",
        "Get it again; if it stays so, report it to who made it. `pagelm inspect` says the same without a browser.",
      ],
      "bad-checkpoint": [
        "The folder of a Hugging Face checkpoint, which the command reads, is incomplete or damaged.",
        "Get `config.json`, `tokenizer.json` and all safetensors files again.",
      ],
      "split-file": [
        "A part of a split model is missing, cut, named otherwise, or of another model.",
        "Put all parts beside each other with their names (`…-00001-of-00003.gguf`), or give a list with all of them.",
      ],
      "missing-key": [
        "The file was converted for another architecture, or by a program that left the key in `place` out.",
        "Take another conversion of the model.",
      ],
      "wrong-key-type": ["The key in `place` was written with another type.", "Take another conversion of the model."],
      "bad-config": [
        "A value of the header does not fit the architecture, or asks for something that is not built.",
        "Take another model or conversion. If other programs run it, report it.",
      ],
      "unsupported-architecture": [
        "The model is of a family that the engine does not run.",
        "Take one of [those that run](/models/#what-runs); `canRun` says so before the download.",
      ],
      "unsupported-type": [
        "A tensor has a type that the chosen backend has no kernel for.",
        "Take another quantisation, or another `backend`.",
      ],
      "missing-tensor": [
        "The file is of another architecture than it says, or its conversion left tensors out. All of them are named.",
        "Take another conversion of the model.",
      ],
      "bad-tensor": [
        "The header contradicts the tensors: the conversion is wrong.",
        "Take another conversion of the model.",
      ],
      "unknown-content": [
        "The file holds something that this release does not know, and that may change what the model says.",
        "Update pagelm. `allowUnknown: true` runs it as if that were not there; the answers may be wrong.",
      ],
      "bad-tokenizer": [
        "The vocabulary is of a kind that is not supported, or damaged.",
        "Take another conversion. `generate` with token ids needs no tokenizer.",
      ],
    },
  ],
  [
    "This browser or machine",
    {
      "no-gpu": [
        "`backend` is `webgpu`, and the browser has no WebGPU, or no adapter; WebGPU needs https or localhost.",
        'Take `backend: "auto"`, which falls back to the CPU. `capabilities()` says what is missing.',
      ],
      "out-of-memory": [
        "Weights, cache and scratch are more than `memoryLimit`, than the 4 GB of wasm, or than the GPU gives.",
        '`canRun` gives options that fit (`best`). A smaller `contextLength`, `kvType: "q8_0"` or a smaller quantisation [take less](/memory/).',
      ],
      "device-lost": [
        "The driver was reset, the machine slept, or another page used up the GPU.",
        'This engine has ended (`engine.ended`): make a new one. The model comes from storage. If it happens again, take `backend: "cpu"`.',
      ],
      "gpu-error": [
        "A driver refused a command, mostly for want of memory.",
        "Make a new engine with less context, or on the CPU. If it stays so, report the adapter (`engine.info.adapter`).",
      ],
      "engine-not-loaded": [
        "The worker's script or a wasm file is not where it is looked for, the content security policy forbids it, or the browser is too old.",
        "The message names the address. See [bundlers](/deployment/#bundlers) and [content security policy](/deployment/#content-security-policy).",
      ],
      "worker-lost": [
        "The browser ended the worker, mostly for want of memory; or a session was in a tab that is gone, of those that share an engine.",
        "Make a new engine, with a smaller model or less context; open another session, from a snapshot if there is one.",
      ],
    },
  ],
  [
    "The request",
    {
      "invalid-argument": [
        "A parameter has a wrong value, is not known, or contradicts another; `place` is its path, such as `messages[2].content`.",
        "Correct it. Names in `generate` and `createEngine` are of JavaScript (`topK`), those of the API are OpenAI's (`top_k`).",
      ],
      "invalid-state": [
        "A call that is not possible now: on a session that is closed, for embeddings on an engine that generates, for `mtp` without its block.",
        "The message names what was missing; mostly it is an option of `createEngine`.",
      ],
      disposed: [
        "`dispose()` was called while this call waited, or before it.",
        "Make a new engine. Where it comes from a component that was left, ignore it.",
      ],
      "context-overflow": [
        "Prompt and answer are longer than `contextLength`, which is 4096 at most unless you say more.",
        "Leave out the oldest messages, or load with a larger `contextLength`, up to `engine.info.model.trainedContext`.",
      ],
      "cache-full": [
        "Sessions hold so much of the cache that nothing is left to run in.",
        "Close sessions, or load with more `cacheTokens`.",
      ],
      "empty-prompt": ["The prompt has no tokens.", "Give at least one token, or a message."],
      "token-out-of-range": [
        "A token id is not of this vocabulary: mostly it is of another model's.",
        "Make ids with `engine.tokenize` of the same engine.",
      ],
      "no-template": [
        "The file has no chat template: it is a base model.",
        "Take the model's version for chats (`Instruct`, `it`), or `generate` and `completions`.",
      ],
      "bad-template": [
        "The file's chat template does not parse, or fails with these messages.",
        "Take another conversion. `engine.render(messages)` shows what a template makes.",
      ],
      "template-raised": [
        "The model's template refuses the conversation, often its order: two messages of the user in a row, or a system message.",
        "The message has the template's own words: change the messages so.",
      ],
      "template-limit": [
        "The template ran too long, wrote too much, or is nested too deep: it may be hostile.",
        "Shorten the messages, or take a conversion from somebody whom you trust.",
      ],
      "bad-grammar": [
        "The schema or grammar has a mistake, uses a [keyword that is not supported](/tools/#json-by-a-schema), or nothing can meet it.",
        "The message names the keyword and its place. Say the same in a simpler way.",
      ],
      "degenerate-logits": [
        "Penalties, bias and grammar leave no token; or the model gave numbers that are not finite, as a damaged file or a fault of a driver does.",
        'Take them back. If it happens without them, run `models.verify(model)`, then try `backend: "cpu"`, and report it.',
      ],
      "bad-snapshot": [
        "The snapshot is damaged, or was made with another model, backend or `kvType`.",
        "Forget it, and read the prompt again.",
      ],
      "no-images": [
        "An image for an engine without `mmproj`, or for a model that reads text only.",
        "Load with [`mmproj`](/images/); `engine.info.model.images` says whether an engine sees.",
      ],
      "bad-image": [
        "The image cannot be decoded, has too many pixels, or is too narrow; `place` says which it is.",
        "Send PNG, JPEG or WebP of a usual shape.",
      ],
      internal: ["A fault of pagelm.", "Make a new engine, and report the message with your browser and model."],
    },
  ],
]);

const comment = (/** @type {string} */ text) => text.replace(/\s*\n\s*(\/\/\/|\*)?\s*/g, " ").trim();

/**
 * What each code means, as its table says. @param {string} rust the text of `crate/error.rs`
 * @param {string} ts the text of `web/src/shared/errors.ts`
 */
export function codes(rust, ts) {
  const found = /** @type {Map<string, string>} */ (new Map());
  const table = /kinds! \{\n(.*?)\n\}/s.exec(rust)?.[1] ?? "";
  for (const [, docs = "", code = ""] of table.matchAll(/((?: *\/\/\/.*\n)+) *\w+ = "([a-z-]+)",/g))
    found.set(code, comment(docs.replace(/^\s*\/\/\//, "")));
  for (const [, list = ""] of ts.matchAll(/_CODES = \[(.*?)\] as const/gs)) {
    for (const [, docs, code = ""] of list.matchAll(/(?:\/\*\*(.*?)\*\/\s*)?"([a-z-]+)"/gs))
      found.set(code, found.get(code) ?? comment(docs ?? ""));
  }
  return found;
}

/** The page. @param {Map<string, string>} meanings */
export function page(meanings) {
  const entry = (/** @type {[string, [string, string]]} */ [code, [cause, remedy]]) =>
    `### ${code}\n\n${meanings.get(code) ?? ""}\n\n**Cause:** ${cause}\n\n**Remedy:** ${remedy}\n`;
  const sections = SECTIONS.map(([title, of]) => `## ${title}\n\n${Object.entries(of).map(entry).join("\n")}`);
  return `---
title: Errors
description: Every code of an error, with its cause and its remedy.
---

Every error is a \`PagelmError\` with a stable \`code\`, a \`place\` (a URL, a tensor, a key, the path of a parameter) and a message that says what
was expected, what was found and what to do. Test for codes, not for messages:

\`\`\`js
import { createEngine, PagelmError } from "pagelm";

try {
  await createEngine({ model: "/models/not-there.gguf" });
} catch (error) {
  if (!(error instanceof PagelmError)) throw error;
  show(\`\${error.code} at \${error.place}: \${error.message}\`);
}
\`\`\`

Where an engine broke, \`engine.ended\` has the error that ended it.

${sections.join("\n")}`;
}
