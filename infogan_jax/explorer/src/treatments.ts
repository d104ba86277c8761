// What treatments do to codes, as a table; a click on a row shows it on the picture.

import { make } from "./dom";
import { type Code, type Effect, labelOf, type Model, titleOf } from "./model";

/** The effects in a table. `onChange` gets a code and the value that shows its effect. */
export function tableOf(
  model: Model,
  onChange: (code: Code, value: number) => void,
): HTMLTableElement {
  const heads = ["", "effect", "95 % interval", "q", "shown by"];
  const header = make("tr", {}, ...heads.map((head) => make("th", {}, head)));
  const rows = model.treatments.flatMap((effect) => {
    const code = model.codes.find(({ name }) => name === effect.code);
    return code ? [row(effect, code, onChange)] : [];
  });
  return make("table", {}, make("thead", {}, header), make("tbody", {}, ...rows));
}

function row(
  effect: Effect,
  code: Code,
  onChange: (code: Code, value: number) => void,
): HTMLTableRowElement {
  const { category, interval, q } = effect;
  const button = make(
    "button",
    { type: "button", onclick: () => onChange(code, shownBy(effect, code)) },
    category === null ? titleOf(code) : labelOf(code, category),
  );
  const numbers = [
    signed(effect.effect),
    interval ? `${signed(interval[0])} to ${signed(interval[1])}` : "–",
    q === null ? "no test possible" : q.toPrecision(2),
  ];
  const line = make(
    "tr",
    {},
    make("th", {}, effect.treatment),
    ...numbers.map((text) => make("td", {}, text)),
    make("td", {}, button),
  );
  line.classList.toggle("sure", q !== null && q <= 0.05);
  return line;
}

/** A code's value that shows what changes: a category, an end of a code's range. */
export function shownBy(effect: Effect, code: Code): number {
  if (effect.category !== null) return effect.category;
  if (code.kind === "bernoulli") return effect.effect > 0 ? 1 : 0;
  return code.trained[effect.effect > 0 ? 1 : 0];
}

function signed(number: number): string {
  const text = Math.abs(number).toFixed(3);
  return (number < 0 ? "−" : "+") + text;
}
