// Latents and views as text: in the URL, and in files that --mode=generate reads.

import { codeValue, type Latents, middle, NOISE_STEPS, withValue } from "./latents";
import { Fault, isDiscrete, type Model, valueCount } from "./model";

const LATENTS_FORMAT = "infogan_jax latents 1";

/** What a page shows. */
export interface View {
  latents: Latents;
  pinned: Latents | null;
  grid: boolean;
  rows: string; // of the grid: the name of a code, or of STYLES
  columns: string;
}

/** The part of a URL behind #. */
export function toHash(model: Model, view: View): string {
  const fields = new URLSearchParams({ model: model.digest });
  fields.set("z", toText(model, view.latents));
  if (view.pinned) fields.set("pinned", toText(model, view.pinned));
  if (view.grid) {
    fields.set("rows", view.rows);
    fields.set("columns", view.columns);
  }
  return `#${fields}`;
}

/** Changes of a view that a hash asks for. Throws Fault if it is of another model. */
export function fromHash(model: Model, hash: string): Partial<View> {
  const fields = new URLSearchParams(hash.replace(/^#/, ""));
  if (![...fields.keys()].length) return {};
  const digest = fields.get("model");
  if (digest !== model.digest) {
    throw new Fault(
      "The link is of another model, so it was left aside; ask for one of this model.",
    );
  }
  const found: Partial<View> = {};
  const [z, pinned] = [fields.get("z"), fields.get("pinned")];
  if (z !== null) found.latents = fromText(model, z);
  if (pinned !== null) found.pinned = fromText(model, pinned);
  const [rows, columns] = [fields.get("rows"), fields.get("columns")];
  if (rows !== null && columns !== null)
    Object.assign(found, { grid: true, rows, columns });
  return found;
}

function toText(model: Model, latents: Latents): string {
  return model.codes
    .map((code) => {
      if (code.kind === "noise") {
        const part = latents.subarray(code.offset, code.offset + code.dim);
        return `${code.name}:${packNoise(part)}`;
      }
      return `${code.name}:${Number(codeValue(code, latents).toFixed(4))}`;
    })
    .join(" ");
}

function fromText(model: Model, text: string): Latents {
  let latents = middle(model);
  for (const item of text.split(" ")) {
    const colon = item.indexOf(":");
    const [name, value] = [item.slice(0, colon), item.slice(colon + 1)];
    const code = model.codes.find((known) => known.name === name);
    if (!code) throw badLink(`no code is called ${name}`);
    if (code.kind === "noise") {
      latents.set(unpackNoise(value, code.dim), code.offset);
      continue;
    }
    const parsed = value === "" ? Number.NaN : Number(value);
    const [low, high] = code.allowed;
    const isRight = isDiscrete(code)
      ? Number.isInteger(parsed) && parsed >= 0 && parsed < valueCount(code)
      : parsed >= low && parsed <= high;
    if (!isRight) throw badLink(`${name} cannot be ${value.slice(0, 20)}`);
    latents = withValue(code, latents, parsed);
  }
  return latents;
}

function packNoise(values: Float32Array): string {
  const steps = Int16Array.from(values, (value) =>
    Math.max(-NOISE_STEPS, Math.min(NOISE_STEPS, Math.round(value * NOISE_STEPS))),
  );
  const bytes = new Uint8Array(steps.buffer);
  const text = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
  return text.replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

function unpackNoise(text: string, dim: number): Float32Array {
  let binary: string;
  try {
    binary = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  } catch {
    throw badLink("its noise cannot be read");
  }
  if (binary.length !== 2 * dim) throw badLink("its noise is of another length");
  const bytes = Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
  return Float32Array.from(new Int16Array(bytes.buffer), (step) => step / NOISE_STEPS);
}

function badLink(why: string): Fault {
  return new Fault(`The link is damaged, so it was left aside: ${why}.`);
}

/** A file of latents for `--mode=generate --latents=FILE`. */
export function toFile(model: Model, latents: readonly Latents[]): string {
  const content = {
    format: LATENTS_FORMAT,
    digest: model.digest,
    latents: latents.map((one) => Array.from(one)),
  };
  return `${JSON.stringify(content)}\n`;
}
