// A slider for each continuous code, and buttons for the values of further codes.

import { make } from "./dom";
import { codeValue, type Latents } from "./latents";
import {
  type Code,
  isDiscrete,
  isScalar,
  labelOf,
  type Model,
  mainCategory,
  orderOf,
  titleOf,
} from "./model";

export type OnChange = (code: Code, value: number) => void;

/** What shows the codes of latents, and tells when a person moves one. */
export class Sliders {
  private readonly showers: ((latents: Latents) => void)[] = [];

  constructor(model: Model, into: HTMLElement, onChange: OnChange) {
    for (const code of model.codes.filter(isScalar)) {
      into.append(this.slider(code, onChange));
    }
    const strip = mainCategory(model);
    for (const code of model.codes.filter(isDiscrete)) {
      if (code !== strip) into.append(this.choice(code, onChange));
    }
  }

  show(latents: Latents): void {
    for (const shower of this.showers) shower(latents);
  }

  private slider(code: Code, onChange: OnChange): HTMLElement {
    const [low, high] = code.allowed;
    const id = `slider-${code.name}`;
    const reset = () => onChange(code, 0);
    const input = make("input", {
      type: "range",
      id,
      min: String(low),
      max: String(high),
      step: "0.01",
      title: "double click, or Delete: back to 0",
      "aria-describedby": `${id}-range`,
      oninput: () => onChange(code, input.valueAsNumber),
      ondblclick: reset,
      onkeydown: (event) => {
        if (["Delete", "Backspace"].includes((event as KeyboardEvent).key)) reset();
      },
    });
    const share = (value: number) => `${(100 * (value - low)) / (high - low)}%`;
    const range = make("div", { class: "trained" });
    range.style.setProperty("--from", share(code.trained[0]));
    range.style.setProperty("--to", share(code.trained[1]));
    const output = make("output", { for: id });
    const name = code.meaning ? make("small", {}, ` ${code.name}`) : "";
    this.showers.push((latents) => {
      const value = codeValue(code, latents);
      input.value = String(value);
      output.value = value.toFixed(2).replace("-", "−");
    });
    const trained = `trained from ${code.trained[0]} to ${code.trained[1]}`;
    const found = code.meaning
      ? `; explains ${code.meaning} with R² ${code.r2.toFixed(2)}`
      : "";
    return make(
      "div",
      { class: "slider" },
      make("label", { for: id }, titleOf(code), name),
      output,
      input,
      range,
      make("small", { id: `${id}-range`, class: "hint" }, trained + found),
    );
  }

  private choice(code: Code, onChange: OnChange): HTMLElement {
    const box = make("fieldset", { class: "choice" }, make("legend", {}, code.name));
    const inputs = orderOf(code).map((value) => {
      const input = make("input", {
        type: "radio",
        name: code.name,
        value: String(value),
        onchange: () => onChange(code, value),
      });
      box.append(make("label", {}, input, ` ${labelOf(code, value)}`));
      return { input, value };
    });
    this.showers.push((latents) => {
      const now = Math.round(codeValue(code, latents));
      for (const { input, value } of inputs) input.checked = value === now;
    });
    return box;
  }
}
