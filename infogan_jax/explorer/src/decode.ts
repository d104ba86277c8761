// A person's file as numbers: what browsers read, and TIFF and PNG of 16 bits.

import { context } from "./dom";
import { Fault } from "./model";
import type { Raw } from "./prepare";

const MOST_PIXELS = 25_000_000; // of a file that is read
const PNG = [0x89, 0x50, 0x4e, 0x47];
const DEPTH_OF_PNG = 24; // the byte that says how many bits a value has

/** The image of a file. Throws Fault if it cannot be read. */
export async function decode(file: Blob): Promise<Raw> {
  const head = new Uint8Array(await file.slice(0, 32).arrayBuffer());
  const [first, second, third] = head;
  const isTiff =
    (first === 0x49 && second === 0x49 && (third === 42 || third === 43)) ||
    (first === 0x4d && second === 0x4d && (head[3] === 42 || head[3] === 43));
  if (isTiff) return decodeTiff(file);
  const isPng = PNG.every((byte, i) => head[i] === byte);
  if (isPng && head[DEPTH_OF_PNG] === 16) return decodeWidePng(file);
  return decodePicture(file);
}

/** Pages, and the samples of each, are channels. */
async function decodeTiff(file: Blob): Promise<Raw> {
  const { fromArrayBuffer } = await import("geotiff");
  try {
    const tiff = await fromArrayBuffer(await file.arrayBuffer());
    const count = await tiff.getImageCount();
    const pages = await Promise.all(
      Array.from({ length: count }, (_, i) => tiff.getImage(i)),
    );
    const [page] = pages;
    if (!page) throw new Error("no image");
    const [width, height] = [page.getWidth(), page.getHeight()];
    checkSize(width * height * count);
    if (pages.some((p) => p.getWidth() !== width || p.getHeight() !== height)) {
      throw new Fault("The TIFF file has pages of several sizes.");
    }
    const planes: ArrayLike<number>[] = [];
    for (const one of pages) {
      planes.push(...((await one.readRasters()) as unknown as ArrayLike<number>[]));
    }
    const channels = planes.length;
    const values = new Float64Array(width * height * channels);
    planes.forEach((plane, k) => {
      for (let i = 0; i < plane.length; i++) values[i * channels + k] = plane[i] ?? 0;
    });
    if (!values.every(Number.isFinite)) {
      throw new Fault("The TIFF file has values that are not finite.");
    }
    const isBytes = planes.every((plane) => plane instanceof Uint8Array);
    return { width, height, channels, values, isBytes };
  } catch (error) {
    if (error instanceof Fault) throw error;
    const why = error instanceof Error ? error.message : String(error);
    throw new Fault(`The TIFF file cannot be read (${why}).`);
  }
}

async function decodeWidePng(file: Blob): Promise<Raw> {
  const png = await import("fast-png");
  try {
    const { width, height, channels, data } = png.decode(await file.arrayBuffer());
    checkSize(width * height);
    return { width, height, channels, values: data, isBytes: false };
  } catch (error) {
    if (error instanceof Fault) throw error;
    throw new Fault("The PNG file is damaged.");
  }
}

/** Grey, or red, green and blue, as this browser reads it. */
async function decodePicture(file: Blob): Promise<Raw> {
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
    checkSize(width * height); // known from the file's head, before it is unpacked
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    const on = context(canvas);
    on.fillStyle = "#000"; // behind what is transparent
    on.fillRect(0, 0, width, height);
    on.drawImage(picture, 0, 0);
    const { data } = on.getImageData(0, 0, width, height);
    const values = new Uint8Array(3 * width * height);
    let isGrey = true;
    for (let i = 0; i < width * height; i++) {
      const rgb = data.subarray(4 * i, 4 * i + 3);
      values.set(rgb, 3 * i);
      isGrey &&= rgb[0] === rgb[1] && rgb[1] === rgb[2];
    }
    if (!isGrey) return { width, height, channels: 3, values, isBytes: true };
    const grey = values.filter((_, i) => i % 3 === 0);
    return { width, height, channels: 1, values: grey, isBytes: true };
  } finally {
    URL.revokeObjectURL(url);
  }
}

function checkSize(pixels: number): void {
  if (pixels > MOST_PIXELS) {
    throw new Fault(
      `The picture has ${Math.round(pixels / 1e6)} megapixels; ${MOST_PIXELS / 1e6} are the most. Make it smaller.`,
    );
  }
}
