// A model into the browser's storage, without an engine.
import { PagelmError } from "../shared/errors.ts";
import type { Operations } from "../shared/protocol.ts";
import { ModelFiles, removeModel } from "./files.ts";
import { twice } from "./load.ts";
import { Meter } from "./progress.ts";
import type { Task } from "./task.ts";
import { type Started, startThreads } from "./wasm.ts";

/** Completes what is stored of a model. */
export async function download(starting: Promise<Started>, r: Operations["download"]["in"], task: Task) {
  const meter = new Meter((p) => task.pieces([p]));
  const { files: blobs, model, verify } = r;
  if (blobs) await removeModel(model);
  return twice(model, starting, async () => {
    const files = await ModelFiles.open(model, r.source, {
      write: true,
      starting,
      verify,
      ...(blobs && { blobs }),
      signal: task.signal,
      fetch: r.source.fetch && task.fetch,
      onStall: () => meter.note({ stalled: true }),
      onWait: () => meter.note({ phase: "waiting" }),
    });
    if (blobs && blobs.length !== files.feeds.length) {
      files.close();
      const message = `the model has ${files.feeds.length} files, not ${blobs.length}`;
      throw new PagelmError("invalid-argument", message, "files");
    }
    try {
      // One makes the sum.
      void startThreads(await starting, (ports) => task.threads(ports));
      for (const feed of files.feeds) {
        feed.spread = true;
        for await (const { from } of feed.pieces()) {
          meter.note({ phase: "weights", loaded: files.loaded, total: files.size, from });
          refuse(files);
        }
        // Who downloads without a load wants the file to be there.
        feed.entry?.flush();
      }
      refuse(files);
      meter.note({ phase: "ready", loaded: files.loaded, total: files.loaded });
      return { source: files.source, sha256: files.feeds.map((feed) => feed.sum ?? feed.entry?.meta.sha256 ?? null) };
    } finally {
      files.close();
    }
  });
}

/** Nothing needs to be fetched that is not stored. */
function refuse({ source }: ModelFiles): void {
  if (source.whyNotStored) throw new PagelmError("not-stored", `the model is not stored: ${source.whyNotStored}`);
}
