// From a person's image to the latents that the generator makes it of.

import type { Latents } from "./latents";

const STEPS = 200; // as --mode=edit takes
const RATE = 0.05; // of Adam at first; it falls to 0 as a cosine
const [BETA1, BETA2, EPSILON] = [0.9, 0.999, 1e-8];

/** The gradient by which latents come closer to an image, and what is missing still. */
export type Descent = (
  latents: Latents,
) => Promise<{ gradient: Latents; left: number }>;

export interface Found {
  latents: Latents;
  left: number; // the squared error over that of the mean picture
}

/**
 * The latents after all steps; null if it was stopped.
 *
 * @param bounds of each latent
 * @param tell is given what there is so far; it returns whether to go on
 */
export async function descend(
  start: Latents,
  descent: Descent,
  bounds: readonly (readonly [number, number])[],
  tell: (share: number, latents: Latents) => boolean,
): Promise<Found | null> {
  const within = (value: number, i: number) => {
    const [low, high] = bounds[i] ?? [value, value];
    return Math.min(high, Math.max(low, value));
  };
  const latents = start.map(within);
  const mean = new Float64Array(latents.length);
  const square = new Float64Array(latents.length);
  for (let step = 1; step <= STEPS; step++) {
    const { gradient } = await descent(latents);
    const rate = (RATE / 2) * (1 + Math.cos((Math.PI * (step - 1)) / STEPS));
    for (let i = 0; i < latents.length; i++) {
      const slope = gradient[i] ?? 0;
      const first = BETA1 * (mean[i] ?? 0) + (1 - BETA1) * slope;
      const second = BETA2 * (square[i] ?? 0) + (1 - BETA2) * slope ** 2;
      [mean[i], square[i]] = [first, second];
      const scale = Math.sqrt(second / (1 - BETA2 ** step)) + EPSILON;
      const moved = (latents[i] ?? 0) - (rate * first) / (1 - BETA1 ** step) / scale;
      latents[i] = within(moved, i);
    }
    if (!tell(step / STEPS, latents.slice())) return null;
  }
  const { left } = await descent(latents);
  return { latents, left };
}
