// Pictures that go with the next message: picked, pasted or dropped, and removable until it is sent.
import { signal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";

export const pictures = signal<Blob[]>([]);

/** Takes those of the files that are pictures; whether there were some. */
export function addPictures(files: Iterable<File> | undefined): boolean {
  const found = [...(files ?? [])].filter(({ type }) => type.startsWith("image/"));
  pictures.value = [...pictures.value, ...found];
  return found.length > 0;
}

/** What there is; nothing is left. */
export function takePictures(): Blob[] {
  const all = pictures.value;
  pictures.value = [];
  return all;
}

export function Thumbnail({ picture }: { picture: Blob }) {
  const url = useMemo(() => URL.createObjectURL(picture), [picture]);
  useEffect(() => () => URL.revokeObjectURL(url), [url]);
  return <img alt="Attached" src={url} />;
}

export function Shelf() {
  return (
    <div id="pictures" class="pictures" hidden={pictures.value.length === 0}>
      {pictures.value.map((picture, i) => (
        <button
          key={i}
          type="button"
          title="Remove"
          aria-label={`Remove picture ${i + 1}`}
          onClick={() => {
            pictures.value = pictures.value.filter((_, at) => at !== i);
          }}
        >
          <Thumbnail picture={picture} />
        </button>
      ))}
    </div>
  );
}
