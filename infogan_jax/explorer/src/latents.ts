// Vectors of latents: values of codes, draws from the prior, and a walk through it.

import { type Code, isScalar, type Model } from "./model";

export type Latents = Float32Array<ArrayBuffer>;
export type Random = () => number; // from [0, 1)

export const NOISE_STEPS = 32767; // noise lies on these steps, so that a URL can hold it

/** The latents that everything starts from: the first category, codes and noise at 0. */
export function middle(model: Model): Latents {
  const latents = new Float32Array(model.latentDim);
  for (const code of model.codes) {
    if (code.kind === "categorical") latents[code.offset] = 1;
  }
  return latents;
}

/** The value of a code: a number, or the index of a category; noise has none. */
export function codeValue(code: Code, latents: Latents): number {
  if (code.kind !== "categorical") return latents[code.offset] ?? 0;
  return argmax(latents.subarray(code.offset, code.offset + code.dim));
}

/** The place of the largest number. */
export function argmax(values: Float32Array): number {
  return values.indexOf(Math.max(...values));
}

/** The same latents with another value of one code. */
export function withValue(code: Code, latents: Latents, value: number): Latents {
  const changed = latents.slice();
  if (code.kind === "categorical") {
    changed.fill(0, code.offset, code.offset + code.dim);
    changed[code.offset + value] = 1;
  } else {
    changed[code.offset] = value;
  }
  return changed;
}

/** New continuous and two-valued codes; categories and noise stay. */
export function randomizeCodes(model: Model, from: Latents, random: Random): Latents {
  let latents = from;
  for (const code of model.codes) {
    if (code.kind === "categorical" || code.kind === "noise") continue;
    const [low, high] = code.trained;
    let value = Math.round(1000 * (low + random() * (high - low))) / 1000;
    if (code.kind === "bernoulli") value = random() < 0.5 ? 0 : 1;
    if (code.kind === "gaussian") value = Math.round(1000 * gaussian(random)) / 1000;
    latents = withValue(code, latents, value);
  }
  return latents;
}

/** New noise; codes stay. */
export function randomizeNoise(model: Model, from: Latents, random: Random): Latents {
  const latents = from.slice();
  for (const place of noisePlaces(model)) {
    latents[place] = Math.round((2 * random() - 1) * NOISE_STEPS) / NOISE_STEPS;
  }
  return latents;
}

/** The same numbers every time: mulberry32, a public-domain generator. */
export function seeded(seed: number): Random {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function noisePlaces(model: Model): number[] {
  return model.codes
    .filter((code) => code.kind === "noise")
    .flatMap((code) => Array.from({ length: code.dim }, (_, i) => code.offset + i));
}

function gaussian(random: Random): number {
  const radius = Math.sqrt(-2 * Math.log(1 - random()));
  return radius * Math.cos(2 * Math.PI * random());
}

/**
 * A smooth walk without an end from where it starts.
 *
 * Each number goes to and fro at a pace of its own, evenly between its ends, so that at
 * any time uniform codes and noise are as if drawn from their prior, within which a walk
 * from point to point would spend its time near the middle.
 */
export class Walk {
  private readonly places: number[] = [];
  private readonly centre: number[] = [];
  private readonly reach: number[] = [];
  private readonly phase: number[] = []; // of a triangle wave, in periods
  private readonly pace: number[] = []; // periods per second

  constructor(
    model: Model,
    private readonly start: Latents,
    codes: boolean,
    noise: boolean,
    random: Random,
  ) {
    for (const code of model.codes) {
      if (!(codes && isScalar(code)) && !(noise && code.kind === "noise")) continue;
      const [low, high] = code.trained;
      for (let i = 0; i < code.dim; i++) {
        const value = start[code.offset + i] ?? 0;
        // From a slider beyond the trained range the walk begins there, and returns.
        const [from, to] = [Math.min(low, value), Math.max(high, value)];
        const centre = (from + to) / 2;
        const reach = (to - from) / 2;
        const rising = ((value - centre) / reach + 1) / 4; // the wave rises to 1/2
        this.places.push(code.offset + i);
        this.centre.push(centre);
        this.reach.push(reach);
        this.phase.push(random() < 0.5 ? rising : 1 - rising);
        this.pace.push((code.kind === "noise" ? 0.05 : 0.12) * (0.6 + 0.8 * random()));
      }
    }
  }

  /** The latents after so many seconds. */
  at(seconds: number): Latents {
    const latents = this.start.slice();
    this.places.forEach((place, i) => {
      const time = (this.phase[i] ?? 0) + (this.pace[i] ?? 0) * seconds;
      const wave = triangle(time);
      latents[place] = (this.centre[i] ?? 0) + (this.reach[i] ?? 1) * wave;
    });
    return latents;
  }
}

/** From -1 at 0 up to 1 at 1/2 and back at 1. */
function triangle(time: number): number {
  const part = time - Math.floor(time);
  return part < 0.5 ? 4 * part - 1 : 3 - 4 * part;
}
