// Categories as a strip of pictures: what each would make of the present latents.

import { make } from "./dom";
import { codeValue, type Latents, withValue } from "./latents";
import { type Code, labelOf, type Model, orderOf, shareOf } from "./model";
import { blank, draw } from "./picture";

export class Strip {
  private readonly order: number[];
  private readonly inputs: HTMLInputElement[] = [];
  private readonly canvases: HTMLCanvasElement[] = [];

  constructor(
    private readonly model: Model,
    private readonly code: Code,
    into: HTMLElement,
    onChange: (code: Code, value: number) => void,
  ) {
    this.order = orderOf(code);
    into.setAttribute("aria-label", `category (${code.name})`);
    into.style.setProperty("--count", String(this.order.length));
    for (const value of this.order) {
      const input = make("input", {
        type: "radio",
        name: code.name,
        value: String(value),
        class: "hidden",
        onchange: () => onChange(code, value),
      });
      const canvas = blank(model);
      const thumbnail = new Image();
      thumbnail.onload = () => {
        // Until the network is there
        if (!canvas.dataset.live) canvas.getContext("2d")?.drawImage(thumbnail, 0, 0);
      };
      thumbnail.src = `thumbnails/${value}.png`;
      const name = make("span", {}, labelOf(code, value));
      const label = make("label", { class: "category" }, input, canvas, name);
      const share = shareOf(code, value);
      if (share) label.append(make("small", { class: "hint" }, share));
      into.append(label);
      this.inputs.push(input);
      this.canvases.push(canvas);
    }
  }

  /** Latents of the strip's pictures. */
  wish(latents: Latents): Latents[] {
    return this.order.map((value) => withValue(this.code, latents, value));
  }

  show(latents: Latents): void {
    const now = codeValue(this.code, latents);
    this.order.forEach((value, i) => {
      const input = this.inputs[i];
      if (input) input.checked = value === now;
    });
  }

  paint(images: Float32Array): void {
    this.canvases.forEach((canvas, i) => {
      canvas.dataset.live = "true";
      draw(canvas, this.model, images, i);
    });
  }
}
