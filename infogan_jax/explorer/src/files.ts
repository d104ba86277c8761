// What a person takes home: a picture, a sheet, an animation, the latents.

import { applyPalette, GIFEncoder, quantize } from "gifenc";
import { context } from "./dom";
import type { Model } from "./model";
import { sheet } from "./picture";

const SIDE = 256; // pixels of a saved picture, at least

function zoom(model: Model, side: number): number {
  return Math.max(1, Math.round(side / model.height));
}

/** Hands a file to the browser's downloads. */
export function save(content: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** One picture, or several row by row, as PNG. */
export async function toPng(
  model: Model,
  images: Float32Array,
  count: number,
  columns: number,
  smooth: boolean,
): Promise<Blob> {
  const scale = zoom(model, count === 1 ? SIDE : 64);
  const canvas = sheet(model, images, count, columns, scale, smooth);
  const blob = await new Promise<Blob | null>((done) =>
    canvas.toBlob(done, "image/png"),
  );
  if (!blob) throw new Error("this browser could not write a PNG");
  return blob;
}

/** Pictures one after the other, and back again, as an animation without an end. */
export function toGif(
  model: Model,
  images: Float32Array,
  count: number,
  smooth: boolean,
): Blob {
  const gif = GIFEncoder();
  const scale = zoom(model, SIDE / 2);
  const size = model.width * model.height * model.channels;
  const forth = Array.from({ length: count }, (_, i) => {
    const one = images.subarray(i * size, (i + 1) * size);
    const canvas = sheet(model, one, 1, 1, scale, smooth);
    const { width, height } = canvas;
    const { data } = context(canvas).getImageData(0, 0, width, height);
    const palette = quantize(data, 256);
    return { index: applyPalette(data, palette), width, height, palette };
  });
  for (const frame of [...forth, ...forth.slice(1, -1).reverse()]) {
    const { index, width, height, palette } = frame;
    gif.writeFrame(index, width, height, { palette, delay: 60 });
  }
  gif.finish();
  return new Blob([gif.bytes()], { type: "image/gif" });
}
