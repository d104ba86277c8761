// A table of pictures along two codes.

import { find, make } from "./dom";
import { type Latents, randomizeNoise, seeded, withValue } from "./latents";
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
import { blank, draw } from "./picture";

const STYLES = "styles"; // an axis along which the noise changes
const STEPS = 7; // of a continuous code
const STYLE_COUNT = 8;
const MOST = 20; // rows or columns

interface Stop {
  label: string;
  change: (latents: Latents) => Latents;
}

export class Grid {
  private readonly rows = find<HTMLSelectElement>("rows");
  private readonly columns = find<HTMLSelectElement>("columns");
  private readonly body = find("cells");
  private cells: { canvas: HTMLCanvasElement; latents: Latents }[] = [];
  private shape = "";

  constructor(
    private readonly model: Model,
    onAxes: () => void,
    private readonly onPick: (latents: Latents) => void,
  ) {
    const axes: [string, string][] = [
      ...model.codes
        .filter((code) => code.kind !== "noise")
        .map((code): [string, string] => [code.name, axisTitle(code)]),
      [STYLES, "styles (noise)"],
    ];
    for (const select of [this.rows, this.columns]) {
      select.replaceChildren(
        ...axes.map(([name, title]) => make("option", { value: name }, title)),
      );
      select.addEventListener("change", () => {
        this.keepApart(select === this.rows ? this.columns : this.rows);
        onAxes();
      });
    }
    const scalars = model.codes.filter(isScalar).map((code) => code.name);
    const [first = STYLES, second = STYLES] = scalars;
    const category = mainCategory(model)?.name;
    this.setAxes(category ?? first, category ? first : second);
  }

  /** Along both axes one code would mean nothing: the other one gives way. */
  private keepApart(other: HTMLSelectElement): void {
    if (this.rows.value !== this.columns.value) return;
    const free = Array.from(other.options).find((one) => one.value !== other.value);
    if (free) other.value = free.value;
  }

  get axes(): { rows: string; columns: string } {
    return { rows: this.rows.value, columns: this.columns.value };
  }

  /** Chooses the axes, where the model has them. */
  setAxes(rows: string, columns: string): void {
    for (const [select, name] of [
      [this.rows, rows],
      [this.columns, columns],
    ] as const) {
      const known = Array.from(select.options).some((option) => option.value === name);
      if (known) select.value = name;
    }
    this.keepApart(this.columns);
  }

  /** Latents of all pictures, row by row. */
  wish(latents: Latents): Latents[] {
    const down = this.stops(this.rows.value);
    const across = this.stops(this.columns.value);
    const shape = JSON.stringify([
      down.map((s) => s.label),
      across.map((s) => s.label),
    ]);
    if (shape !== this.shape) this.build(down, across);
    this.shape = shape;
    const all = down.flatMap((row) =>
      across.map((column) => column.change(row.change(latents))),
    );
    all.forEach((one, i) => {
      const cell = this.cells[i];
      if (cell) cell.latents = one;
    });
    return all;
  }

  paint(images: Float32Array): void {
    this.cells.forEach(({ canvas }, i) => {
      draw(canvas, this.model, images, i);
    });
  }

  private build(down: Stop[], across: Stop[]): void {
    this.cells = [];
    const head = make("tr", {}, make("td"));
    for (const stop of across) head.append(make("th", { scope: "col" }, stop.label));
    const lines = down.map((row) => {
      const line = make("tr", {}, make("th", { scope: "row" }, row.label));
      for (const column of across) {
        const canvas = blank(this.model);
        const cell = { canvas, latents: new Float32Array() };
        this.cells.push(cell);
        const label = `take ${row.label}, ${column.label}`;
        const pick = () => this.onPick(cell.latents);
        const button = make(
          "button",
          { type: "button", "aria-label": label, onclick: pick },
          canvas,
        );
        line.append(make("td", {}, button));
      }
      return line;
    });
    this.body.replaceChildren(head, ...lines);
  }

  private stops(name: string): Stop[] {
    const code = this.model.codes.find((one) => one.name === name);
    if (!code) {
      const random = seeded(1);
      return Array.from({ length: STYLE_COUNT }, (_, i) => {
        const style = randomizeNoise(
          this.model,
          new Float32Array(this.model.latentDim),
          random,
        );
        return {
          label: `style ${i + 1}`,
          change: (from) => this.withNoise(from, style),
        };
      });
    }
    if (isDiscrete(code)) {
      return orderOf(code)
        .slice(0, MOST)
        .map((value) => ({
          label: labelOf(code, value),
          change: (from) => withValue(code, from, value),
        }));
    }
    const [low, high] = code.allowed;
    return Array.from({ length: STEPS }, (_, i) => {
      const value = low + (i * (high - low)) / (STEPS - 1);
      const label = Number(value.toFixed(2)).toString().replace("-", "−");
      return { label, change: (from) => withValue(code, from, value) };
    });
  }

  private withNoise(from: Latents, style: Latents): Latents {
    const latents = from.slice();
    for (const code of this.model.codes) {
      if (code.kind !== "noise") continue;
      latents.set(style.subarray(code.offset, code.offset + code.dim), code.offset);
    }
    return latents;
  }
}

function axisTitle(code: Code): string {
  return code.meaning ? `${titleOf(code)} (${code.name})` : code.name;
}
