import { describe, expect, it } from "vitest";
import {
  codeValue,
  middle,
  randomizeCodes,
  randomizeNoise,
  seeded,
  Walk,
  withValue,
} from "../src/latents";
import {
  type Code,
  type Effect,
  Fault,
  type Model,
  orderOf,
  parseModel,
  shareOf,
} from "../src/model";
import { panelsOf, panelTitle, scaleBar, toPixels } from "../src/picture";
import { fromHash, toFile, toHash, type View } from "../src/share";
import { shownBy } from "../src/treatments";

const file = { bytes: 1, sha256: "0" };

const preparation = {
  channels: "grey",
  widen_bytes: false,
  scale_bytes: false,
  ranges: [[0, 255]],
  ranges_of_plates: false,
  bytes_before_resize: true,
  change: "",
  scale: null,
  resize: "pad",
  align: "none",
  window: 0,
};

function json(): Record<string, unknown> {
  return {
    format: 3,
    name: "test",
    digest: "0123456789ab",
    dataset: "digits",
    step: 10,
    seed: 0,
    latent_dim: 9,
    param_dim: 6,
    image: {
      height: 2,
      width: 2,
      channels: 1,
      composite: null,
      channel_names: ["channel 1"],
      preparation,
    },
    codes: [
      {
        name: "cat",
        kind: "categorical",
        offset: 0,
        dim: 3,
        q_offset: 0,
        n_params: 3,
        labels: ["10", null, "9"],
        frequencies: [0.125, 0.85, 0.025],
      },
      {
        name: "uniform1",
        kind: "uniform",
        offset: 3,
        dim: 1,
        q_offset: 3,
        n_params: 1,
        trained: [-1, 1],
        allowed: [-2, 2],
        meaning: "slant",
        r2: 0.9,
      },
      {
        name: "gaussian",
        kind: "gaussian",
        offset: 4,
        dim: 1,
        q_offset: 4,
        n_params: 1,
        trained: [-2, 2],
        allowed: [-4, 4],
      },
      {
        name: "bernoulli",
        kind: "bernoulli",
        offset: 5,
        dim: 1,
        q_offset: 5,
        n_params: 1,
        labels: [null, null],
      },
      { name: "noise", kind: "noise", offset: 6, dim: 3, q_offset: 6, n_params: 0 },
    ],
    treatments: [
      {
        code: "cat",
        category: 2,
        column: "dose",
        value: "10.0",
        effect: -0.4,
        low: -0.5,
        high: -0.3,
        q: 0.01,
      },
      {
        code: "uniform1",
        category: null,
        column: "dose",
        value: "trend",
        effect: -0.1,
        low: null,
        high: null,
        q: null,
      },
    ],
    metrics: { FID: 1.5 },
    files: { "generator.onnx": file, "recognizer.onnx": file },
  };
}

const model: Model = parseModel(json());
const [cat, uniform, , bernoulli] = model.codes as [Code, Code, Code, Code];

describe("model.json", () => {
  it("says how frequent a category is where they differ", () => {
    expect([0, 1, 2].map((value) => shareOf(cat, value))).toEqual([
      "13 %",
      "85 %",
      "2.5 %",
    ]);
    expect(shareOf(bernoulli, 0)).toBe("");
  });

  it("becomes a model", () => {
    expect(model.codes.map((code) => code.name)).toEqual([
      "cat",
      "uniform1",
      "gaussian",
      "bernoulli",
      "noise",
    ]);
    expect(orderOf(cat)).toEqual([2, 0, 1]); // 9, 10, and one without a name
    expect(model.metrics).toEqual([["FID", 1.5]]);
    const former = json();
    delete former.treatments; // of an export made before there were any
    expect(parseModel(former).treatments).toEqual([]);
  });

  it("says what treatments do", () => {
    const [rarer, trend] = model.treatments as [Effect, Effect];
    expect(rarer).toMatchObject({ treatment: "dose, 10.0", interval: [-0.5, -0.3] });
    expect(shownBy(rarer, cat)).toBe(2);
    expect(trend).toMatchObject({ category: null, interval: null, q: null });
    expect(shownBy(trend, uniform)).toBe(-1); // downwards
    expect(shownBy(trend, { ...uniform, kind: "bernoulli" })).toBe(0);
  });

  const wrong: [string, (about: Record<string, unknown>) => void, RegExp][] = [
    [
      "format",
      (a) => Object.assign(a, { format: 1 }),
      /format 1; this page reads format 3/,
    ],
    ["no codes", (a) => Object.assign(a, { codes: [] }), /codes is empty/],
    [
      "effects",
      (a) => Object.assign(a, { treatments: [{ code: "dose" }] }),
      /a treatment is of dose, which is no code/,
    ],
    [
      "effect of a category",
      (a) => Object.assign((a.treatments as object[])[0] as object, { category: 3 }),
      /cat has no 3/,
    ],
    ["text", (a) => Object.assign(a, { name: 3 }), /name is no text/],
    ["sum", (a) => Object.assign(a, { latent_dim: 10 }), /do not add up/],
    [
      "huge",
      (a) => Object.assign(a, { latent_dim: 1e12 }),
      /latent_dim is 1000000000000/,
    ],
    [
      "gap",
      (a) => Object.assign((a.codes as object[])[1] ?? {}, { offset: 4 }),
      /gaps/,
    ],
    [
      "kind",
      (a) => Object.assign((a.codes as object[])[1] ?? {}, { kind: "odd" }),
      /kind odd/,
    ],
    [
      "frequencies",
      (a) => Object.assign((a.codes as object[])[0] ?? {}, { frequencies: [1] }),
      /1 frequencies/,
    ],
    [
      "labels",
      (a) => Object.assign((a.codes as object[])[0] ?? {}, { labels: [] }),
      /lacks labels/,
    ],
    [
      "range",
      (a) => Object.assign((a.codes as object[])[1] ?? {}, { trained: [1, 1] }),
      /is empty/,
    ],
    [
      "pixels",
      (a) => Object.assign(a.image as object, { pixel_size: -1 }),
      /pixel_size is -1/,
    ],
    [
      "names",
      (a) => Object.assign(a.image as object, { channel_names: [] }),
      /channel_names do not fit/,
    ],
    [
      "colours",
      (a) => Object.assign(a.image as object, { channels: 2 }),
      /have no colours/,
    ],
    ["files", (a) => Object.assign(a, { files: null }), /files is no object/],
  ];
  it.each(wrong)("with a wrong %s is told of", (_, change, told) => {
    const about = json();
    change(about);
    expect(() => parseModel(about)).toThrow(Fault);
    expect(() => parseModel(about)).toThrow(told);
  });

  it("with any one thing changed gives a model or a fault", () => {
    const random = seeded(4);
    const odd = [null, -1, 0.5, 1e308, "", "x", [], {}, true, ["a"], { a: 1 }];
    const pick = <T>(all: readonly T[]) => all[Math.floor(random() * all.length)] as T;
    for (let i = 0; i < 1000; i++) {
      const about = structuredClone(json());
      let place = about;
      let key = pick(Object.keys(place));
      while (random() < 0.7) {
        const inner = place[key] as Record<string, unknown> | null;
        if (typeof inner !== "object" || !inner || !Object.keys(inner).length) break;
        place = inner;
        key = pick(Object.keys(place));
      }
      if (random() < 0.2) delete place[key];
      else place[key] = pick(odd);
      const read = JSON.parse(JSON.stringify(about));
      try {
        expect(middle(parseModel(read)).every(Number.isFinite)).toBe(true);
      } catch (error) {
        expect(error).toBeInstanceOf(Fault);
      }
    }
  });

  it("that is no object is told of", () => {
    for (const value of [null, 3, [], "x"])
      expect(() => parseModel(value)).toThrow(Fault);
  });
});

describe("latents", () => {
  it("have a value for each code", () => {
    const start = middle(model);
    expect(Array.from(start)).toEqual([1, 0, 0, 0, 0, 0, 0, 0, 0]);
    const third = withValue(cat, start, 2);
    expect(Array.from(third.slice(0, 3))).toEqual([0, 0, 1]);
    expect(codeValue(cat, third)).toBe(2);
    expect(codeValue(uniform, withValue(uniform, start, -1.5))).toBe(-1.5);
    expect(start[0]).toBe(1); // unchanged
  });

  it("are drawn from the prior, each kind by itself", () => {
    const random = seeded(3);
    const start = withValue(cat, middle(model), 1);
    let mean = 0;
    for (let i = 0; i < 400; i++) {
      const codes = randomizeCodes(model, start, random);
      expect(codeValue(cat, codes)).toBe(1);
      expect(Array.from(codes.slice(6))).toEqual([0, 0, 0]);
      expect(Math.abs(codeValue(uniform, codes))).toBeLessThanOrEqual(1);
      expect([0, 1]).toContain(codeValue(bernoulli, codes));
      const noise = randomizeNoise(model, start, random);
      expect(Array.from(noise.slice(0, 6))).toEqual(Array.from(start.slice(0, 6)));
      mean += (noise[6] ?? 0) / 400;
    }
    expect(Math.abs(mean)).toBeLessThan(0.1); // 3.5 standard errors
  });

  it("walk smoothly from where they are, and stay in range", () => {
    const start = withValue(
      uniform,
      randomizeNoise(model, middle(model), seeded(1)),
      1.8,
    );
    const walk = new Walk(model, start, true, true, seeded(2));
    walk.at(0).forEach((value, i) => {
      expect(value).toBeCloseTo(start[i] ?? 0, 4);
    });
    let before = walk.at(0);
    for (let t = 0.02; t < 60; t += 0.02) {
      const now = walk.at(t);
      now.forEach((value, i) => {
        expect(Math.abs(value - (before[i] ?? 0))).toBeLessThan(0.06);
        expect(Math.abs(value)).toBeLessThanOrEqual(i === 3 ? 1.81 : 2.001);
      });
      expect(Array.from(now.slice(0, 3))).toEqual([1, 0, 0]);
      before = now;
    }
    const still = new Walk(model, start, false, false, seeded(2)).at(7);
    expect(still).toEqual(start);
  });
});

describe("links", () => {
  const latents = randomizeNoise(
    model,
    withValue(uniform, withValue(cat, middle(model), 2), 0.25),
    seeded(5),
  );
  const view: View = {
    latents,
    pinned: middle(model),
    grid: true,
    rows: "cat",
    columns: "uniform1",
  };

  it("give back what they were made of", () => {
    const found = fromHash(model, toHash(model, view));
    expect(found.latents).toEqual(latents);
    expect(found.pinned).toEqual(view.pinned);
    expect(found).toMatchObject({ grid: true, rows: "cat", columns: "uniform1" });
    expect(fromHash(model, "")).toEqual({});
  });

  it.each([
    ["#model=ffff", /of another model/],
    ["#z=cat:1", /of another model/],
    ["#model=0123456789ab&z=cat:3", /cat cannot be 3/],
    ["#model=0123456789ab&z=cat:0.5", /cat cannot be/],
    ["#model=0123456789ab&z=cat:", /cat cannot be/],
    ["#model=0123456789ab&z=uniform1:2.5", /uniform1 cannot be 2.5/],
    ["#model=0123456789ab&z=uniform1:NaN", /uniform1 cannot be NaN/],
    ["#model=0123456789ab&z=dog:1", /no code is called dog/],
    ["#model=0123456789ab&z=noise:AA", /another length/],
    ["#model=0123456789ab&z=noise:%00%01", /cannot be read/],
    ["#model=0123456789ab&z=<script>", /no code is called/],
  ])("that are wrong, such as %s, are told of", (hash, told) => {
    expect(() => fromHash(model, hash)).toThrow(Fault);
    expect(() => fromHash(model, hash)).toThrow(told);
  });

  it("and any text at all gives a view or a fault", () => {
    const random = seeded(9);
    const letters = "#&=:% model0123456789abz cat noise-_.~Infinity";
    for (let i = 0; i < 2000; i++) {
      const length = Math.floor(60 * random());
      const text = Array.from(
        { length },
        () => letters[Math.floor(random() * letters.length)],
      ).join("");
      for (const hash of [text, `#model=0123456789ab&z=${text}`]) {
        try {
          const { latents: found } = fromHash(model, hash);
          if (found) expect(found.every(Number.isFinite)).toBe(true);
        } catch (error) {
          expect(error).toBeInstanceOf(Fault);
        }
      }
    }
  });

  it("files hold the numbers and whose they are", () => {
    const content = JSON.parse(toFile(model, [latents]));
    expect(content.digest).toBe("0123456789ab");
    expect(content.latents[0]).toEqual(Array.from(latents));
  });
});

describe("pictures", () => {
  const grey = new Float32Array([0, 0.5, 1, 2, 0.25, 0.25, 0.25, 0.25]);

  it("are grey for one channel", () => {
    expect(panelsOf(model)).toEqual(["composite"]);
    const pixels = toPixels(model, grey, 0);
    expect(Array.from(pixels.slice(0, 8))).toEqual([0, 0, 0, 255, 128, 128, 128, 255]);
    expect(Array.from(pixels.slice(8))).toEqual([
      255, 255, 255, 255, 255, 255, 255, 255,
    ]);
    expect(toPixels(model, grey, 1)[0]).toBe(64);
  });

  it("have a scale bar of a round length where the size of pixels is known", () => {
    expect(model.pixelSize).toBeNull();
    expect(scaleBar(model)).toBeNull();
    // 20.8 um wide, of which half is 10.4
    expect(scaleBar({ pixelSize: 0.65, width: 32 })).toEqual({
      text: "10 µm",
      part: 10 / 20.8,
    });
    expect(scaleBar({ pixelSize: 0.01, width: 64 })?.text).toBe("0.2 µm");
  });

  it("add up coloured channels", () => {
    const about = json();
    about.image = {
      height: 1,
      width: 1,
      channels: 2,
      composite: [
        [255, 0, 0],
        [0, 0, 255],
      ],
      channel_names: ["absorbance", "stain"],
      preparation,
    };
    const two = parseModel(about);
    expect(panelsOf(two)).toEqual([0, 1, "composite"]);
    expect(panelsOf(two).map((panel) => panelTitle(two, panel))).toEqual([
      "absorbance",
      "stain",
      "composite",
    ]);
    const image = new Float32Array([0.2, 0.8]);
    expect(Array.from(toPixels(two, image, 0))).toEqual([51, 0, 204, 255]);
    expect(Array.from(toPixels(two, image, 0, 1))).toEqual([204, 204, 204, 255]);
  });

  it("show red, green and blue together, and the composite if it has more", () => {
    const about = json();
    const names = ["red", "green", "blue", "stain"];
    const rgb = [
      [255, 0, 0],
      [0, 255, 0],
      [0, 0, 255],
    ];
    const panels = (stain: number[]) => {
      const composite = [...rgb, stain];
      const image = { height: 1, width: 1, channels: 4, composite };
      about.image = { ...image, channel_names: names, preparation };
      const four = parseModel(about);
      return panelsOf(four).map((panel) => panelTitle(four, panel));
    };
    expect(panels([0, 0, 0])).toEqual(["colours", "stain"]);
    expect(panels([0, 255, 0])).toEqual(["colours", "stain", "composite"]);
  });
});
