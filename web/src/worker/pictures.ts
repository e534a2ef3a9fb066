// The images of a request, as pixels.
import type { Picture } from "#bindings";
import { errorData } from "../shared/errors.ts";
import type { Attached } from "../shared/protocol.ts";

/** Pixels of the largest canvas that every browser makes; larger images are made smaller. */
const MOST_PIXELS = 1 << 24;

/** What the page put into the request instead of a URL. */
const ATTACHED = "attached:";

/** Pixels, or the reason why there are none. */
export type Decoded = { image: ImageData } | { problem: string };

export async function decode(picture: Picture, attached: Attached[], signal: AbortSignal): Promise<Decoded> {
  try {
    return { image: await pixels(await fileOf(picture, attached, signal)) };
  } catch (e) {
    return { problem: errorData(e).message };
  }
}

async function fileOf({ bytes, url }: Picture, attached: Attached[], signal: AbortSignal): Promise<Attached> {
  if (bytes) return new Blob([bytes]);
  if (url!.startsWith(ATTACHED)) {
    const image = attached[Number(url!.slice(ATTACHED.length))];
    if (!image) throw new Error(`there is no ${url}`);
    return image;
  }
  const response = await fetch(url!, { signal });
  if (!response.ok) throw new Error(`its server answers ${response.status} ${response.statusText}`);
  return response.blob();
}

/** As it is meant to be seen, in the numbers of the file: models are trained without colour profiles. */
async function pixels(file: Attached): Promise<ImageData> {
  if (file instanceof ImageData) return file;
  const bitmap =
    file instanceof Blob
      ? await createImageBitmap(file, { premultiplyAlpha: "none", colorSpaceConversion: "none" })
      : file;
  const scale = Math.min(1, Math.sqrt(MOST_PIXELS / (bitmap.width * bitmap.height)));
  const side = (length: number) => Math.max(1, Math.floor(length * scale));
  const [width, height] = [side(bitmap.width), side(bitmap.height)];
  const context = new OffscreenCanvas(width, height).getContext("2d")!;
  context.drawImage(bitmap, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}
