import { describe, expect, it } from "vitest";
import { descend } from "../src/invert";
import { Misfit, type Preparation, prepare, type Raw, round } from "../src/prepare";
import fixture from "./prepared.json";

interface Case {
  name: string;
  how: Preparation;
  side: number;
  raw: Raw;
  expected: number[];
}

// Written and checked by tests/test_standalone.py
const cases = fixture as unknown as Case[];

describe("an image is prepared as Python does it", () => {
  for (const { name, how, side, raw, expected } of cases) {
    it(name, () => {
      expect(Array.from(prepare(how, side, raw))).toEqual(expected);
    });
  }

  it("but not with other channels", () => {
    const [first] = cases;
    if (!first) throw new Error("no case");
    const how = { ...first.how, ranges: [[0, 1] as const] };
    expect(() => prepare(how, first.side, first.raw)).toThrow(Misfit);
  });

  it("nor one of another scale", () => {
    const [first] = cases;
    if (!first) throw new Error("no case");
    const { how, side, raw } = first;
    const field = { ...how, window: 12 };
    expect(() => prepare(field, side, raw)).toThrow(/a field of view/);
    const bytes = { ...raw, isBytes: true };
    expect(() => prepare(how, side, bytes)).toThrow(/values from \d+ to \d+/);
  });

  it("halves are rounded to even numbers", () => {
    expect([0.5, 1.5, 2.5, 2.4999, 3.6].map(round)).toEqual([0, 2, 2, 2, 4]);
  });
});

describe("the descent", () => {
  const aim = [0.5, -0.25, 0];
  const bowl = async (latents: Float32Array<ArrayBuffer>) => {
    const gradient = latents.map((value, i) => 2 * (value - (aim[i] ?? 0)));
    return { gradient, left: gradient.reduce((sum, slope) => sum + slope ** 2, 0) };
  };

  const bounds = aim.map(() => [-1, 1] as const);

  it("stays within bounds", async () => {
    const tight = aim.map(() => [-0.3, 0.3] as const);
    const found = await descend(Float32Array.of(2, 0, 0), bowl, tight, () => true);
    expect(found?.latents[0]).toBeCloseTo(0.3, 5);
    expect(found?.latents[1]).toBeCloseTo(-0.25, 2);
  });

  it("comes to the bottom", async () => {
    const start = Float32Array.of(-1, 1, 0);
    const found = await descend(start, bowl, bounds, () => true);
    found?.latents.forEach((value, i) => {
      expect(value).toBeCloseTo(aim[i] ?? 0, 2);
    });
    expect(found?.left).toBeLessThan(1e-3);
    expect(Array.from(start)).toEqual([-1, 1, 0]);
  });

  it("ends where it is stopped", async () => {
    let steps = 0;
    const start = Float32Array.of(1, 1, 1);
    const stopped = await descend(start, bowl, bounds, () => ++steps < 7);
    expect([stopped, steps]).toEqual([null, 7]);
  });
});
