// Numbers as pixels, and a person's file as the network takes it.

import { decode } from "./decode";
import { context, make } from "./dom";
import { Fault, type Model } from "./model";
import { Misfit, prepare } from "./prepare";

export type Panel = "composite" | "colours" | number; // a number: that channel in grey

/** The panels that together show one image, as the program's figures have them. */
export function panelsOf({ channels, composite, channelNames }: Model): Panel[] {
  if (!composite) return ["composite"]; // grey, or red, green and blue
  const isRgb = channelNames.slice(0, 3).join() === "red,green,blue"; // none of its own
  const first = isRgb ? 3 : 0;
  const others = Array.from({ length: channels - first }, (_, k) => first + k);
  const panels: Panel[] = isRgb ? ["colours", ...others] : others;
  const isShown = composite.slice(first).some((colour) => colour.some(Boolean));
  return isRgb && !isShown ? panels : [...panels, "composite"];
}

/**
 * The length of a scale bar, in micrometres: 1, 2 or 5 times a power of ten, and at most
 * half of a picture; and which part of the picture that is.
 */
export function scaleBar({ pixelSize, width }: Pick<Model, "pixelSize" | "width">) {
  if (!pixelSize) return null;
  const whole = pixelSize * width;
  const power = 10 ** Math.floor(Math.log10(whole / 2));
  const length = Math.max(
    ...[0.5, 1, 2, 5].map((n) => n * power).filter((n) => n <= whole / 2),
  );
  return { text: `${Number(length.toPrecision(1))} µm`, part: length / whole };
}

/** What to call a panel. */
export function panelTitle(model: Model, panel: Panel): string {
  if (typeof panel === "number") return model.channelNames[panel] ?? "";
  return panelsOf(model).length > 1 ? panel : "";
}

/**
 * One of several images as red, green, blue and alpha.
 *
 * @param images values in [0, 1], [N, H, W, C]
 * @param index which one
 */
export function toPixels(
  model: Model,
  images: Float32Array,
  index: number,
  panel: Panel = "composite",
): Uint8ClampedArray<ArrayBuffer> {
  const { channels, composite } = model;
  const count = model.width * model.height;
  const pixels = new Uint8ClampedArray(4 * count);
  const start = index * count * channels;
  for (let i = 0; i < count; i++) {
    for (let part = 0; part < 3; part++) {
      let value = 0;
      if (typeof panel === "number") {
        value = 255 * level(images, start + i * channels + panel);
      } else if (composite && panel === "composite") {
        for (let k = 0; k < channels; k++) {
          const weight = (composite[k]?.[part] ?? 0) / 255;
          value += weight * Math.round(255 * level(images, start + i * channels + k));
        }
      } else {
        value = 255 * level(images, start + i * channels + (channels === 1 ? 0 : part));
      }
      pixels[4 * i + part] = value; // rounds and clips
    }
    pixels[4 * i + 3] = 255;
  }
  return pixels;
}

function level(images: Float32Array, place: number): number {
  return Math.min(1, Math.max(0, images[place] ?? 0));
}

/** A canvas for an image that is a choice, and so has its words elsewhere. */
export function blank(model: Model): HTMLCanvasElement {
  const canvas = make("canvas", { "aria-hidden": "true" });
  [canvas.width, canvas.height] = [model.width, model.height];
  return canvas;
}

/** Draws one of several images; the canvas gets the size of the image. */
export function draw(
  canvas: HTMLCanvasElement,
  model: Model,
  images: Float32Array,
  index = 0,
  panel: Panel = "composite",
): void {
  resize(canvas, model.width, model.height);
  const pixels = toPixels(model, images, index, panel);
  const data = new ImageData(pixels, model.width, model.height);
  context(canvas).putImageData(data, 0, 0);
}

/** Draws one image smoothly, `zoom` times as large, which browsers do better than CSS. */
export function drawSmooth(
  canvas: HTMLCanvasElement,
  model: Model,
  image: Float32Array,
  panel: Panel,
  zoom: number,
): void {
  const tile = document.createElement("canvas");
  draw(tile, model, image, 0, panel);
  resize(canvas, zoom * model.width, zoom * model.height);
  const on = context(canvas);
  on.imageSmoothingQuality = "high";
  on.drawImage(tile, 0, 0, canvas.width, canvas.height);
}

function resize(canvas: HTMLCanvasElement, width: number, height: number): void {
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
}

/** Several images as one canvas, row by row, `zoom` times as large. */
export function sheet(
  model: Model,
  images: Float32Array,
  count: number,
  columns: number,
  zoom: number,
  smooth: boolean,
  gap = 2,
): HTMLCanvasElement {
  const [width, height] = [model.width * zoom, model.height * zoom];
  const canvas = document.createElement("canvas");
  canvas.width = columns * (width + gap) - gap;
  canvas.height = Math.ceil(count / columns) * (height + gap) - gap;
  const whole = context(canvas);
  whole.fillStyle = "#fff";
  whole.fillRect(0, 0, canvas.width, canvas.height);
  whole.imageSmoothingEnabled = smooth;
  whole.imageSmoothingQuality = "high";
  const tile = document.createElement("canvas");
  for (let i = 0; i < count; i++) {
    draw(tile, model, images, i);
    const [x, y] = [
      (i % columns) * (width + gap),
      Math.floor(i / columns) * (height + gap),
    ];
    whole.drawImage(tile, x, y, width, height);
  }
  return canvas;
}

export interface Dropped {
  image: Float32Array<ArrayBuffer>; // [H, W, C] in [0, 1]
  notes: string[]; // what had to be changed
}

/** A file as the network takes images. Throws Fault if it cannot be one. */
export async function readImage(model: Model, file: Blob): Promise<Dropped> {
  const raw = await decode(file);
  const how = model.preparation;
  const [has, wanted] = [raw.channels, how.ranges.length];
  const notes = [];
  if (raw.width !== model.width || raw.height !== model.height) {
    notes.push(
      `brought from ${raw.width} × ${raw.height} to ${model.width} × ${model.height} pixels`,
    );
  }
  // Browsers do not say whether a picture of 8 bits was stored in grey or in colours
  let channels = how.channels;
  const isOpen = ["", "grey", "rgb"].includes(channels) && raw.isBytes;
  if (isOpen && has === 3 && wanted === 1) {
    channels = "grey";
    notes.push("colours became grey");
  } else if (isOpen && has === 1 && wanted === 3) {
    channels = "rgb";
    notes.push("it has no colours");
  }
  if (how.rangesOfPlates) {
    notes.push("black and white are those of all plates together, not of its own");
  }
  try {
    const bytes = prepare({ ...how, channels }, model.height, raw);
    return { image: Float32Array.from(bytes, (byte) => byte / 255), notes };
  } catch (error) {
    if (error instanceof Misfit) throw new Fault(error.message);
    throw error;
  }
}
