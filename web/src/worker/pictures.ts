// The images of a request, as pixels.
import type { Picture } from "#bindings";
import type { Attached } from "../shared/protocol.ts";

/** The sides of the largest canvas that every browser makes; larger images are made smaller. */
const LONGEST = 4096;

/** As it is meant to be seen, in the numbers of the file: models are trained without colour profiles. */
export async function decode(picture: Picture, attached: Attached[], signal: AbortSignal): Promise<ImageData> {
  const file = await fileOf(picture, attached, signal);
  if (file instanceof ImageData) return file;
  const plain = { premultiplyAlpha: "none", colorSpaceConversion: "none" } as const;
  const image = file instanceof Blob ? await createImageBitmap(file, plain) : file;
  const scale = Math.max(1, image.width / LONGEST, image.height / LONGEST);
  const width = Math.ceil(image.width / scale);
  const height = Math.ceil(image.height / scale);
  const context = new OffscreenCanvas(width, height).getContext("2d")!;
  context.drawImage(image, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

async function fileOf({ bytes, url }: Picture, attached: Attached[], signal: AbortSignal): Promise<Attached> {
  if (url === null) return new Blob([bytes]);
  const given = attached[Number(url.replace("attached:", ""))];
  if (given) return given;
  const answer = await fetch(url, { signal });
  // What a server sends in place of an image is none.
  if (!answer.ok) throw Error(`HTTP ${answer.status}`);
  return answer.blob();
}
