// A person's own image: the generator makes it again, and then it follows the sliders.

import type { Engine } from "./engine";
import { descend, type Found } from "./invert";
import type { Latents } from "./latents";
import { isScalar, type Model } from "./model";

const SHOWN_EVERY = 0.05; // of the search
const MOST_LEFT = 0.25; // of an image; one with more is of another kind

export class Own {
  private missing: Float32Array | null = null; // what the generator could not make

  /** What a slider, and a link, can hold; noise is trained from -1 to 1. */
  private readonly bounds: [number, number][];

  constructor(
    model: Model,
    private readonly image: Float32Array<ArrayBuffer>,
    private readonly engine: Engine,
  ) {
    this.bounds = model.codes.flatMap((code) => {
      const [low, high] = isScalar(code) ? code.allowed : [-1, 1];
      return Array.from({ length: code.dim }, () => [low, high] as [number, number]);
    });
  }

  /**
   * Searches from where `Engine.startInversion` begins; null if it was stopped.
   *
   * @param show is given, now and then, the part that is done and what there is
   * @param goesOn says whether to go on
   */
  search(
    start: Latents,
    show: (share: number, latents: Latents) => void,
    goesOn: () => boolean,
  ): Promise<Found | null> {
    let shown = 0;
    return descend(
      start,
      (latents) => this.engine.descend(this.image, latents),
      this.bounds,
      (share, latents) => {
        if (goesOn() && share - shown >= SHOWN_EVERY) {
          shown = share;
          show(share, latents);
        }
        return goesOn();
      },
    );
  }

  /** Keeps what a picture of the generator lacks of the image. */
  compare(picture: Float32Array): void {
    this.missing = this.image.map((value, i) => value - (picture[i] ?? 0));
  }

  /** Pictures, one behind the other, with what the generator cannot make added. */
  complete(pictures: Float32Array): Float32Array {
    const { missing } = this;
    if (!missing) return pictures;
    return pictures.map((value, i) =>
      Math.min(1, Math.max(0, value + (missing[i % missing.length] ?? 0))),
    );
  }
}

/** What to say of an image that was searched for. */
export function verdict({ left }: Found): string {
  const percent = left > 1 ? "all" : `${Math.round(100 * left)} %`;
  return left > MOST_LEFT
    ? `The generator cannot make your image: ${percent} of it is missing. What the sliders change is another one.`
    : `This is your image as the generator makes it; ${percent} of it is missing. Now change it by the sliders.`;
}
