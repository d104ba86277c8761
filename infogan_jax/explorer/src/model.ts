// What model.json says: the codes of a network, and what its pictures are.

import type { Preparation } from "./prepare";

export const FORMAT = 3;

export type Kind = "categorical" | "bernoulli" | "uniform" | "gaussian" | "noise";

export interface Code {
  readonly name: string;
  readonly kind: Kind;
  readonly offset: number; // of its values among the latents
  readonly dim: number;
  readonly qOffset: number; // of its parameters in Q's output
  readonly nParams: number;
  readonly labels: readonly (string | null)[]; // of a discrete code's values
  readonly frequencies: readonly number[]; // of categories; empty: all are equal
  readonly meaning: string; // measured; empty: none was found
  readonly r2: number; // of that meaning
  readonly trained: readonly [number, number];
  readonly allowed: readonly [number, number];
}

/** What a treatment does to a code, or to the frequency of one of its categories. */
export interface Effect {
  readonly code: string;
  readonly category: number | null;
  readonly treatment: string;
  readonly effect: number;
  readonly interval: readonly [number, number] | null; // of 95 %
  readonly q: number | null; // false discovery rate; null: no test is possible
}

export interface Model {
  readonly name: string;
  readonly digest: string; // of the weights
  readonly dataset: string;
  readonly step: number;
  readonly seed: number;
  readonly latentDim: number;
  readonly paramDim: number;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  // Colour of each channel; null: grey, or red, green and blue
  readonly composite: readonly (readonly number[])[] | null;
  readonly channelNames: readonly string[];
  readonly pixelSize: number | null; // micrometres
  readonly preparation: Preparation; // of a file's image
  readonly codes: readonly Code[];
  readonly treatments: readonly Effect[];
  readonly metrics: readonly (readonly [string, number])[];
  readonly files: ReadonlyMap<string, { bytes: number; sha256: string }>;
}

/** A fault of a file or of input that is told to the person as it is. */
export class Fault extends Error {}

const KINDS = ["categorical", "bernoulli", "uniform", "gaussian", "noise"];

/** The model that parsed JSON describes. Throws Fault if it is none. */
export function parseModel(json: unknown): Model {
  const about = record(json, "the file");
  if (about.format !== FORMAT) {
    throw new Fault(
      `model.json has format ${String(about.format)}; this page reads format ${FORMAT}. Export the model again.`,
    );
  }
  const image = record(about.image, "image");
  const channels = whole(image, "channels", 1);
  const latentDim = whole(about, "latent_dim", 1);
  const paramDim = whole(about, "param_dim", 0);
  const codes = list(about.codes, "codes").map(parseCode);
  check(codes.length > 0, "codes is empty");
  let [latents, params] = [0, 0];
  for (const code of codes) {
    check(
      code.offset === latents && code.qOffset === params,
      `${code.name} has gaps around it`,
    );
    latents += code.dim;
    params += code.nParams;
  }
  check(latents === latentDim && params === paramDim, "the codes do not add up");
  const files = Object.entries(record(about.files, "files")).map(([name, value]) => {
    const file = record(value, name);
    return [
      name,
      { bytes: whole(file, "bytes", 1), sha256: text(file, "sha256") },
    ] as const;
  });
  return {
    name: text(about, "name"),
    digest: text(about, "digest"),
    dataset: text(about, "dataset"),
    step: whole(about, "step", 0),
    seed: whole(about, "seed", 0),
    latentDim,
    paramDim,
    height: whole(image, "height", 1),
    width: whole(image, "width", 1),
    channels,
    composite: parseComposite(image.composite, channels),
    channelNames: parseNames(image.channel_names, channels),
    pixelSize: parsePixelSize(image.pixel_size),
    preparation: parsePreparation(record(image.preparation, "preparation")),
    codes,
    treatments: list(about.treatments ?? [], "treatments").map((value) =>
      parseEffect(value, codes),
    ),
    metrics: Object.entries(record(about.metrics, "metrics")).map(
      ([name, value]) => [name, number(value, name)] as const,
    ),
    files: new Map(files),
  };
}

function parseCode(value: unknown): Code {
  const about = record(value, "a code");
  const name = text(about, "name");
  const kind = text(about, "kind") as Kind;
  check(KINDS.includes(kind), `${name} is of kind ${kind}`);
  const dim = whole(about, "dim", 1);
  const labels = about.labels === undefined ? [] : list(about.labels, "labels");
  check(
    labels.every((label) => label === null || typeof label === "string"),
    `${name} has labels that are no words`,
  );
  if (kind === "categorical") check(labels.length === dim, `${name} lacks labels`);
  const frequencies =
    about.frequencies === undefined
      ? []
      : list(about.frequencies, "frequencies").map((f) => number(f, "a frequency"));
  check(
    frequencies.length === 0 || frequencies.length === dim,
    `${name} has ${frequencies.length} frequencies`,
  );
  const hasRange = isScalar({ kind });
  return {
    name,
    kind,
    offset: whole(about, "offset", 0),
    dim,
    qOffset: whole(about, "q_offset", 0),
    nParams: whole(about, "n_params", 0),
    labels: labels as (string | null)[],
    frequencies,
    meaning: about.meaning === undefined ? "" : text(about, "meaning"),
    r2: about.r2 === undefined ? 0 : number(about.r2, "r2"),
    trained: hasRange ? range(about.trained, name) : [-1, 1],
    allowed: hasRange ? range(about.allowed, name) : [-1, 1],
  };
}

function parseEffect(value: unknown, codes: readonly Code[]): Effect {
  const about = record(value, "a treatment");
  const name = text(about, "code");
  const code = codes.find((one) => one.name === name);
  check(code !== undefined, `a treatment is of ${name}, which is no code`);
  const { category, low, high, q } = about;
  const isOfCategory = category !== null;
  if (isOfCategory) {
    check(whole(about, "category", 0) < code.dim, `${name} has no ${category}`);
  }
  const hasInterval = low !== null && high !== null;
  return {
    code: name,
    category: isOfCategory ? number(category, "category") : null,
    treatment: `${text(about, "column")}, ${text(about, "value")}`,
    effect: number(about.effect, "effect"),
    interval: hasInterval ? [number(low, "low"), number(high, "high")] : null,
    q: q === null ? null : number(q, "q"),
  };
}

function parseComposite(value: unknown, channels: number) {
  if (value === null || value === undefined) {
    check(channels === 1 || channels === 3, `${channels} channels have no colours`);
    return null;
  }
  const colours = list(value, "composite").map((colour) =>
    list(colour, "a colour").map((part) => number(part, "a colour")),
  );
  check(
    colours.length === channels && colours.every((colour) => colour.length === 3),
    "composite does not fit the channels",
  );
  return colours;
}

function parseNames(value: unknown, channels: number) {
  const names = list(value, "channel_names");
  check(
    names.length === channels && names.every((name) => typeof name === "string"),
    "channel_names do not fit the channels",
  );
  return names as string[];
}

function parsePixelSize(value: unknown): number | null {
  if (value === null || value === undefined) return null;
  const size = number(value, "pixel_size");
  check(size > 0, `pixel_size is ${size}`);
  return size;
}

function parsePreparation(about: Record<string, unknown>): Preparation {
  const flag = (name: string) => {
    check(typeof about[name] === "boolean", `${name} is neither true nor false`);
    return about[name];
  };
  const ranges = list(about.ranges, "ranges");
  check(ranges.length > 0, "ranges is empty");
  return {
    channels: text(about, "channels"),
    widenBytes: flag("widen_bytes"),
    scaleBytes: flag("scale_bytes"),
    ranges: ranges.map((ends) => {
      const [low, high] = list(ends, "a range of values");
      return [number(low, "black"), number(high, "white")] as const;
    }),
    rangesOfPlates: flag("ranges_of_plates"),
    bytesBeforeResize: flag("bytes_before_resize"),
    change: text(about, "change"),
    scale: about.scale === null ? null : number(about.scale, "scale"),
    resize: text(about, "resize"),
    align: text(about, "align"),
    window: whole(about, "window", 0),
  };
}

/** The code that the strip of pictures stands for: the first categorical one. */
export function mainCategory(model: Model): Code | undefined {
  return model.codes.find((code) => code.kind === "categorical");
}

/** Whether a code has a slider: a number from a range. */
export function isScalar({ kind }: Pick<Code, "kind">): boolean {
  return kind === "uniform" || kind === "gaussian";
}

/** Whether a code has a few values, numbered from 0. */
export function isDiscrete({ kind }: Pick<Code, "kind">): boolean {
  return kind === "categorical" || kind === "bernoulli";
}

/** How many values a discrete code has. */
export function valueCount(code: Code): number {
  return code.kind === "bernoulli" ? 2 : code.dim;
}

/** What to call a code. */
export function titleOf(code: Code): string {
  return code.meaning || code.name;
}

/** What to call a value of a discrete code. */
export function labelOf(code: Code, value: number): string {
  return code.labels[value] ?? `${code.name} ${value}`;
}

/** How frequent a category is, such as "12 %"; empty if all are equally frequent. */
export function shareOf(code: Code, value: number): string {
  const share = code.frequencies[value];
  if (share === undefined) return "";
  return `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
}

/** Values of a discrete code, those with class names first and in their order. */
export function orderOf(code: Code): number[] {
  const compare = new Intl.Collator("en", { numeric: true }).compare;
  return Array.from({ length: valueCount(code) }, (_, k) => k).sort((a, b) => {
    const [x, y] = [code.labels[a], code.labels[b]];
    if (x && y) return compare(x, y) || a - b;
    return Number(!x) - Number(!y) || a - b;
  });
}

function check(isRight: boolean, what: string): asserts isRight {
  if (!isRight)
    throw new Fault(`model.json is damaged: ${what}. Export the model again.`);
}

function record(value: unknown, what: string): Record<string, unknown> {
  check(
    typeof value === "object" && value !== null && !Array.isArray(value),
    `${what} is no object`,
  );
  return value as Record<string, unknown>;
}

function list(value: unknown, what: string): unknown[] {
  check(Array.isArray(value), `${what} is no list`);
  return value;
}

function text(from: Record<string, unknown>, name: string): string {
  const value = from[name];
  check(typeof value === "string", `${name} is no text`);
  return value;
}

function number(value: unknown, what: string): number {
  check(typeof value === "number" && Number.isFinite(value), `${what} is no number`);
  return value;
}

function whole(from: Record<string, unknown>, name: string, least: number): number {
  const value = number(from[name], name);
  check(
    Number.isInteger(value) && value >= least && value < 2 ** 31,
    `${name} is ${value}`,
  );
  return value;
}

function range(value: unknown, name: string): [number, number] {
  const [low, high] = list(value, `the range of ${name}`);
  const ends = [number(low, name), number(high, name)] as [number, number];
  check(ends[0] < ends[1], `the range of ${name} is empty`);
  return ends;
}
