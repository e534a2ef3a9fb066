// Pictures that go with the next message: picked, pasted or dropped, and removable until it is sent.

/** Thumbnails of pictures. */
export function thumbnails(pictures: Blob[]): HTMLElement[] {
  return pictures.map((picture) => {
    const image = Object.assign(new Image(), { alt: "Picture", src: URL.createObjectURL(picture) });
    const done = () => URL.revokeObjectURL(image.src);
    image.addEventListener("load", done);
    image.addEventListener("error", done);
    return image;
  });
}

export class Pictures {
  #shelf: HTMLElement;
  #all: Blob[] = [];

  constructor(shelf: HTMLElement) {
    this.#shelf = shelf;
  }

  /** Takes those of the files that are pictures; whether there were some. */
  add(files: Iterable<File> | undefined): boolean {
    const found = [...(files ?? [])].filter(({ type }) => type.startsWith("image/"));
    this.#all.push(...found);
    this.#show();
    return found.length > 0;
  }

  /** What there is; nothing is left. */
  take(): Blob[] {
    const all = this.#all;
    this.#all = [];
    this.#show();
    return all;
  }

  #show(): void {
    this.#shelf.hidden = this.#all.length === 0;
    const buttons = thumbnails(this.#all).map((thumbnail, i) => {
      const button = Object.assign(document.createElement("button"), { type: "button", title: "Remove" });
      button.setAttribute("aria-label", `Remove picture ${i + 1}`);
      button.append(thumbnail);
      button.addEventListener("click", () => {
        this.#all.splice(i, 1);
        this.#show();
      });
      return button;
    });
    this.#shelf.replaceChildren(...buttons);
  }
}
