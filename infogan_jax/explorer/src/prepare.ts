// An image of any size and scale as the networks take it, step by step as in Python.

export interface Preparation {
  readonly channels: string; // grey, rgb, numbers of channels, or empty: as they are
  readonly widenBytes: boolean; // to 16 bits, as other images of the run have
  readonly scaleBytes: boolean; // between black and white, too
  readonly ranges: readonly (readonly [number, number])[]; // black and white
  readonly rangesOfPlates: boolean; // each plate had ranges of its own in training
  readonly bytesBeforeResize: boolean;
  readonly change: string; // what a dataset makes of its images; or empty
  readonly scale: number | null; // of the sides; null: as `resize` says
  readonly resize: string; // pad, crop or stretch
  readonly align: string; // none, centre or axis
  readonly window: number; // side of the largest training image; 0: not known
}

/** An image as a file has it. */
export interface Raw {
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  readonly values: ArrayLike<number>; // [height, width, channels]
  readonly isBytes: boolean;
}

interface Grid extends Raw {
  readonly values: Float64Array;
}

/** Why an image cannot be prepared. */
export class Misfit extends Error {}

/** The image as bytes from 0 to 255, [side, side, C]. Throws Misfit. */
export function prepare(how: Preparation, side: number, raw: Raw): Float64Array {
  let image = chooseChannels(raw, how.channels);
  const wanted = how.ranges.length;
  if (image.channels !== wanted) {
    const has = `${image.channels} channel${image.channels > 1 ? "s" : ""}`;
    throw new Misfit(`The image has ${has}; this network reads ${wanted}.`);
  }
  if (how.widenBytes && image.isBytes) {
    image = { ...image, values: image.values.map((v) => 257 * v), isBytes: false };
  }
  check(image, how);
  if (!image.isBytes || how.scaleBytes) {
    const values = image.values.map((value, i) => {
      const [low, high] = how.ranges[i % wanted] ?? [0, 255];
      const part = (Math.fround(value) - low) / Math.max(high - low, 1e-12);
      return Math.fround(clip(255 * part, 0, 255));
    });
    image = { ...image, values, isBytes: false };
  }
  if (how.bytesBeforeResize) image = toBytes(image);
  if (how.change) image = change(image, how.change);
  return align(toBytes(resized(image, side, how)), how.align).values;
}

const FIELD = 2; // times as long as the largest training image is no image of one cell

/** Throws Misfit if an image is of another kind or scale. */
function check({ width, height, values, isBytes }: Grid, how: Preparation): void {
  if (how.window && Math.max(width, height) > FIELD * how.window) {
    throw new Misfit(
      `The image has ${width} × ${height} pixels, where ${how.window} or less are expected: this is a field of view, no cell.`,
    );
  }
  const areBytes = how.ranges.every(([low, high]) => low === 0 && high === 255);
  let [lowest, highest] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  let isWhole = true;
  for (const value of values) {
    lowest = Math.min(lowest, value);
    highest = Math.max(highest, value);
    isWhole &&= Number.isInteger(value);
  }
  const isFraction = !isWhole && highest <= 1;
  const isSame = isBytes
    ? areBytes || how.scaleBytes
    : !areBytes || (lowest >= 0 && highest <= 255 && !isFraction);
  if (!isSame) {
    const ranges = how.ranges.map(([low, high]) => `${low} to ${high}`).join(", ");
    throw new Misfit(
      `The image has values from ${lowest} to ${highest}; this network reads ${ranges}.`,
    );
  }
}

function chooseChannels(raw: Raw, wanted: string): Grid {
  const { width, height, channels } = raw;
  const count = width * height;
  const at = (i: number, k: number) => raw.values[i * channels + k] ?? 0;
  const made = (size: number, value: (i: number, k: number) => number): Grid => ({
    ...raw,
    channels: size,
    values: Float64Array.from({ length: count * size }, (_, j) =>
      value(Math.floor(j / size), j % size),
    ),
  });
  if (wanted === "rgb" && channels === 1) return made(3, (i) => at(i, 0));
  if (wanted === "grey" && channels === 3) {
    // ITU-R 601
    return made(1, (i) =>
      round(0.299 * at(i, 0) + 0.587 * at(i, 1) + 0.114 * at(i, 2)),
    );
  }
  if (wanted && wanted !== "grey" && wanted !== "rgb") {
    const places = wanted.split(",").map((number) => Number(number) - 1);
    if (places.some((place) => place >= channels)) {
      throw new Misfit(
        `The image has ${channels} channels; this network reads number ${wanted}.`,
      );
    }
    return made(places.length, (i, k) => at(i, places[k] ?? 0));
  }
  return made(channels, at);
}

/** To the nearest whole number, halves to the even one, as Python and NumPy do. */
export function round(value: number): number {
  const up = Math.round(value);
  return up - value === 0.5 && up % 2 !== 0 ? up - 1 : up;
}

function clip(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}

function toBytes(image: Grid): Grid {
  return { ...image, values: image.values.map(round), isBytes: true };
}

// Size, by Lanczos' filter as Pillow has it

function resized(image: Grid, side: number, how: Preparation): Grid {
  const { width, height } = image;
  if (width === side && height === side && (how.scale ?? 1) === 1) return image;
  let made: Grid;
  if (how.scale) {
    const factor = how.scale;
    const [w, h] = [width, height].map((n) => Math.max(1, round(n * factor))) as [
      number,
      number,
    ];
    const [left, top] = [Math.floor((w - side) / 2), Math.floor((h - side) / 2)];
    made = windowOf(lanczos(image, w, h), left, top, side);
  } else if (how.resize === "stretch") made = lanczos(image, side, side);
  else if (how.resize === "crop") {
    const short = Math.min(width, height);
    const [x, y] = [(width - short) / 2, (height - short) / 2];
    made = lanczos(image, side, side, [x, y, x + short, y + short]);
  } else {
    const w = width > height ? side : round((width / height) * side);
    const h = height > width ? side : round((height / width) * side);
    const [left, top] = [-round((side - w) / 2), -round((side - h) / 2)];
    made = windowOf(lanczos(image, w, h), left, top, side);
  }
  let [low, high] = [0, Number.NEGATIVE_INFINITY];
  for (const value of image.values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  return { ...made, values: made.values.map((v) => clip(v, low, high)) };
}

/** A square of an image; what is beyond its border is 0. */
function windowOf(image: Grid, left: number, top: number, side: number): Grid {
  const { width, height, channels } = image;
  const values = new Float64Array(side * side * channels);
  for (let row = 0; row < side; row++) {
    for (let column = 0; column < side; column++) {
      const [y, x] = [row + top, column + left];
      if (y < 0 || x < 0 || y >= height || x >= width) continue;
      for (let k = 0; k < channels; k++) {
        values[(row * side + column) * channels + k] =
          image.values[(y * width + x) * channels + k] ?? 0;
      }
    }
  }
  return { ...image, width: side, height: side, values };
}

type Box = [left: number, top: number, right: number, bottom: number];

function lanczos(image: Grid, width: number, height: number, box?: Box): Grid {
  const [left, top, right, bottom] = box ?? [0, 0, image.width, image.height];
  let made = image;
  if (width !== image.width || left !== 0 || right !== image.width)
    made = along(made, false, left, right, width);
  if (height !== image.height || top !== 0 || bottom !== image.height)
    made = along(made, true, top, bottom, height);
  return made;
}

const BITS = 2 ** 22; // by which Pillow multiplies weights of bytes

function along(
  image: Grid,
  isDown: boolean,
  from: number,
  to: number,
  size: number,
): Grid {
  const { width, height, channels, isBytes } = image;
  const length = isDown ? height : width;
  const [w, h] = isDown ? [width, size] : [size, height];
  const values = new Float64Array(w * h * channels);
  const stride = isDown ? width * channels : channels;
  const scale = (to - from) / size;
  const wide = Math.max(scale, 1);
  const support = 3 * wide;
  for (let out = 0; out < size; out++) {
    const centre = from + (out + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(length, Math.trunc(centre + support + 0.5));
    const weights: number[] = [];
    for (let i = first; i < last; i++)
      weights.push(filter((i - centre + 0.5) * (1 / wide)));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const parts = weights.map((weight) => {
      const part = total ? weight / total : weight;
      return isBytes ? Math.trunc(part * BITS + (part < 0 ? -0.5 : 0.5)) : part;
    });
    for (let other = 0; other < (isDown ? width : height); other++) {
      const start = isDown ? other * channels : other * width * channels;
      const place = isDown ? out * width + other : other * size + out;
      for (let k = 0; k < channels; k++) {
        let sum = isBytes ? BITS / 2 : 0;
        parts.forEach((part, i) => {
          sum += part * (image.values[start + (first + i) * stride + k] ?? 0);
        });
        values[place * channels + k] = isBytes
          ? clip(Math.floor(sum / BITS), 0, 255)
          : Math.fround(sum);
      }
    }
  }
  return { ...image, width: w, height: h, values };
}

function filter(x: number): number {
  return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
}

function sinc(x: number): number {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

// Place and pose

function align(image: Grid, how: string): Grid {
  if (how === "none") return image;
  const { width, height, channels } = image;
  const background = borderMedian(image);
  const bare = image.values.map((value, i) => value - (background[i % channels] ?? 0));
  const mass = new Float64Array(width * height);
  for (let i = 0; i < mass.length; i++) {
    let sum = 0;
    for (let k = 0; k < channels; k++) sum += Math.abs(bare[i * channels + k] ?? 0);
    mass[i] = sum / channels;
  }
  const [row, column, angle] = pose(mass, width, height);
  const turn = how === "axis" ? angle : 0;
  const [cos, sin] = [Math.cos(turn), Math.sin(turn)];
  const at = (y: number, x: number, k: number) =>
    y < 0 || x < 0 || y >= height || x >= width
      ? 0
      : (bare[(y * width + x) * channels + k] ?? 0);
  const values = new Float64Array(image.values.length);
  for (let i = 0; i < mass.length; i++) {
    const x = (i % width) - (width - 1) / 2;
    const y = Math.floor(i / width) - (height - 1) / 2;
    const [down, across] = [sin * x + cos * y + row, cos * x - sin * y + column];
    const [top, left] = [Math.floor(down), Math.floor(across)];
    const [dy, dx] = [down - top, across - left];
    for (let k = 0; k < channels; k++) {
      const above = (1 - dx) * at(top, left, k) + dx * at(top, left + 1, k);
      const below = (1 - dx) * at(top + 1, left, k) + dx * at(top + 1, left + 1, k);
      values[i * channels + k] = (background[k] ?? 0) + (1 - dy) * above + dy * below;
    }
  }
  return toBytes({ ...image, values });
}

/** The median of the border, of each channel; corners count twice. */
function borderMedian({ width, height, channels, values }: Grid): number[] {
  const places: number[] = [];
  for (let x = 0; x < width; x++) places.push(x, (height - 1) * width + x);
  for (let y = 0; y < height; y++) places.push(y * width, y * width + width - 1);
  return Array.from({ length: channels }, (_, k) =>
    median(places.map((place) => values[place * channels + k] ?? 0)),
  );
}

function median(values: number[]): number {
  const sorted = values.sort((a, b) => a - b);
  const [low, high] = [(sorted.length - 1) >> 1, sorted.length >> 1];
  return ((sorted[low] ?? 0) + (sorted[high] ?? 0)) / 2;
}

/** Row and column of an object's middle, and the angle of its long axis. */
function pose(mass: Float64Array, width: number, height: number) {
  const least = 0.1 * mass.reduce((most, value) => Math.max(most, value), 0);
  const bright = mass.map((value) => (value > least ? value : 0));
  const sum = (term: (y: number, x: number) => number) =>
    bright.reduce(
      (total, value, i) => total + value * term(Math.floor(i / width), i % width),
      0,
    );
  const total = sum(() => 1);
  if (!total) return [(height - 1) / 2, (width - 1) / 2, 0] as const;
  const row = sum((y) => y) / total;
  const column = sum((_, x) => x) / total;
  const moment = (p: number, q: number) =>
    sum((y, x) => (y - row) ** p * (x - column) ** q);
  const angle = 0.5 * Math.atan2(2 * moment(1, 1), moment(0, 2) - moment(2, 0));
  const [x, y] = [Math.cos(angle), Math.sin(angle)];
  const tail =
    x ** 3 * moment(0, 3) +
    3 * x ** 2 * y * moment(1, 2) +
    3 * x * y ** 2 * moment(2, 1) +
    y ** 3 * moment(3, 0);
  return [row, column, angle + (tail < 0 ? Math.PI : 0)] as const;
}

// What datasets make of their images

const CELL = 40; // the brightest channel of a pixel of a cell on black
const AZURE = [0.19, 0.972, 0.137] as const; // optical density of the stain of DNA
const FULL = [0.9, 1.5] as const; // densities that become white

function change(image: Grid, name: string): Grid {
  if (name === "stretch_bits") {
    return { ...image, values: image.values.map((value) => (value > 0 ? 255 : 0)) };
  }
  const stains = separateStains(image);
  if (name === "separate_stains") return { ...image, channels: 2, values: stains };
  if (name !== "with_dna_stain") {
    throw new Misfit(`This page cannot make ${name} of an image.`);
  }
  const values = new Float64Array(4 * image.width * image.height);
  for (let i = 0; i < values.length / 4; i++) {
    values.set(image.values.subarray(3 * i, 3 * i + 3), 4 * i);
    values[4 * i + 3] = stains[2 * i + 1] ?? 0;
  }
  return { ...image, channels: 4, values };
}

/** A stained cell on black as absorbance and DNA stain, [h, w, 2]. */
function separateStains({ width, height, values }: Grid): Float64Array {
  const bright = (y: number, x: number) => {
    if (y < 0 || x < 0 || y >= height || x >= width) return true;
    const place = 3 * (y * width + x);
    return Math.max(...values.subarray(place, place + 3)) > CELL;
  };
  const cell: number[] = [];
  for (let i = 0; i < width * height; i++) {
    const [y, x] = [Math.floor(i / width), i % width];
    const around = bright(y - 1, x) && bright(y + 1, x);
    if (around && bright(y, x - 1) && bright(y, x + 1) && bright(y, x)) cell.push(i);
  }
  const stains = new Float64Array(2 * width * height);
  if (!cell.length) return stains;
  const density = values.map((value) => -Math.log(Math.max(value, 1) / 255));
  const own = [0, 1, 2].map((k) => median(cell.map((i) => density[3 * i + k] ?? 0)));
  const moved = own.map((value) => value + 1e-3) as [number, number, number];
  const norm = Math.hypot(...moved);
  const [a, b, c] = moved.map((value) => value / norm) as [number, number, number];
  // Amounts of own colour, azure and what is across both; the second one is wanted
  const azure = secondRow([a, b, c], AZURE);
  for (const i of cell) {
    const at = density.subarray(3 * i, 3 * i + 3);
    const mean = ((at[0] ?? 0) + (at[1] ?? 0) + (at[2] ?? 0)) / 3;
    const amount = at.reduce((sum, value, k) => sum + value * (azure[k] ?? 0), 0);
    stains[2 * i] = round(255 * clip(mean / FULL[0], 0, 1));
    stains[2 * i + 1] = round(255 * clip(Math.max(0, amount) / FULL[1], 0, 1));
  }
  return stains;
}

type Vector = readonly [number, number, number];

function cross(a: Vector, b: Vector): Vector {
  return [
    a[1] * b[2] - a[2] * b[1],
    a[2] * b[0] - a[0] * b[2],
    a[0] * b[1] - a[1] * b[0],
  ];
}

function dot(a: Vector, b: Vector): number {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

/** The second column of the inverse of the matrix with rows a, b and a x b. */
function secondRow(a: Vector, b: Vector): Vector {
  const across = cross(a, b);
  const [x, y, z] = cross(across, a);
  const volume = dot(b, [x, y, z]);
  return [x / volume, y / volume, z / volume];
}
