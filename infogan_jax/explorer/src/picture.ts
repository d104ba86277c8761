// Numbers as pixels, and a person's file as numbers.

import { make } from "./dom";
import { Fault, type Model } from "./model";

export type Panel = "composite" | "colours" | number; // a number: that channel in grey

const MOST_PIXELS = 25_000_000; // of a file that is read

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
  if (model.channels !== 1 && model.channels !== 3) {
    throw new Fault(
      `This network reads images of ${model.channels} channels, which a picture file does not have.`,
    );
  }
  const url = URL.createObjectURL(file);
  try {
    const picture = new Image();
    picture.src = url;
    try {
      await new Promise((done, fail) => {
        picture.onload = done;
        picture.onerror = fail;
      });
    } catch {
      throw new Fault("The file is no picture that this browser can read.");
    }
    const [width, height] = [picture.naturalWidth, picture.naturalHeight];
    if (width * height > MOST_PIXELS) {
      // Known from the file's head, before it is unpacked
      const size = Math.round((width * height) / 1e6);
      throw new Fault(
        `The picture has ${size} megapixels; ${MOST_PIXELS / 1e6} are the most. Make it smaller.`,
      );
    }
    return shape(model, picture, width, height);
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** Padded with black to the shape of the network's images, and brought to their size. */
function shape(
  model: Model,
  picture: CanvasImageSource,
  width: number,
  height: number,
): Dropped {
  const canvas = document.createElement("canvas");
  canvas.width = model.width;
  canvas.height = model.height;
  const on = context(canvas);
  on.fillStyle = "#000";
  on.fillRect(0, 0, model.width, model.height);
  const scale = Math.min(model.width / width, model.height / height);
  const [w, h] = [width * scale, height * scale];
  on.imageSmoothingQuality = "high";
  on.drawImage(picture, (model.width - w) / 2, (model.height - h) / 2, w, h);
  const { data } = on.getImageData(0, 0, model.width, model.height);
  const image = new Float32Array(model.width * model.height * model.channels);
  let coloured = false;
  for (let i = 0; i < model.width * model.height; i++) {
    const rgb = [data[4 * i] ?? 0, data[4 * i + 1] ?? 0, data[4 * i + 2] ?? 0] as const;
    coloured ||= Math.max(...rgb) - Math.min(...rgb) > 8;
    if (model.channels === 3) {
      image.set(
        rgb.map((value) => value / 255),
        3 * i,
      );
    } else {
      image[i] = (0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]) / 255; // ITU-R 601
    }
  }
  const notes = [];
  if (width !== model.width || height !== model.height) {
    notes.push(
      `brought from ${width} × ${height} to ${model.width} × ${model.height} pixels`,
    );
  }
  if (model.channels === 1 && coloured) notes.push("colours became grey");
  if (model.channels === 3 && !coloured) notes.push("it has no colours");
  return { image, notes };
}

export function context(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
  const found = canvas.getContext("2d", { willReadFrequently: true });
  if (!found) throw new Fault("This browser cannot draw on a canvas.");
  return found;
}
