// The page: what is shown, and what a person does with it.

import { find, make } from "./dom";
import { Engine } from "./engine";
import { save, toGif, toPng } from "./files";
import { Grid } from "./grid";
import {
  argmax,
  codeValue,
  type Latents,
  middle,
  randomizeCodes,
  randomizeNoise,
  seeded,
  Walk,
  withValue,
} from "./latents";
import {
  type Code,
  Fault,
  isDiscrete,
  labelOf,
  type Model,
  mainCategory,
  parseModel,
  titleOf,
} from "./model";
import { Own, verdict } from "./own";
import { draw, drawSmooth, panelsOf, panelTitle, readImage, scaleBar } from "./picture";
import { fromHash, toFile, toHash } from "./share";
import { Sliders } from "./sliders";
import { Strip } from "./strip";
import { tableOf } from "./treatments";

const GIF_SECONDS = 4;
const GIF_FRAMES = 48;
const SHEET_STYLES = 10;
const ENLARGED = 8; // times, a picture that is shown smooth
const calm = matchMedia("(prefers-reduced-motion: reduce)");

const status = find("status");

function say(text: string, isFault = false): void {
  status.textContent = text;
  status.classList.toggle("fault", isFault);
}

function tell(error: unknown): void {
  const told = error instanceof Error ? error.message : String(error);
  say(error instanceof Fault ? told : `Something went wrong: ${told}`, true);
}

/** A row of pictures, each with a caption. */
class Panels {
  private readonly canvases: HTMLCanvasElement[] = [];
  private image: Float32Array | null = null;

  constructor(
    private readonly model: Model,
    into: HTMLElement,
    caption: string,
  ) {
    const figures = panelsOf(model).map((panel) => {
      const canvas = make("canvas", { role: "img" });
      const words = [caption, panelTitle(model, panel)].filter(Boolean).join(", ");
      canvas.setAttribute("aria-label", words || "generated picture");
      this.canvases.push(canvas);
      return make("figure", {}, canvas, make("figcaption", {}, words));
    });
    into.replaceChildren(...figures);
    const scale = scaleBar(model);
    if (scale) {
      const bar = make("span");
      bar.style.width = `${100 * scale.part}%`;
      figures[0]?.append(make("div", { class: "scale" }, bar, scale.text));
    }
  }

  /** Draws an image, or again the last one. */
  paint(smooth: boolean, image = this.image): void {
    this.image = image;
    panelsOf(this.model).forEach((panel, i) => {
      const canvas = this.canvases[i];
      if (!canvas || !image) return;
      if (smooth) drawSmooth(canvas, this.model, image, panel, ENLARGED);
      else draw(canvas, this.model, image, 0, panel);
    });
  }
}

class Page {
  private latents: Latents;
  private pinned: Latents | null = null;
  private readonly engine: Engine;
  private readonly panels: Panels;
  private beside: Panels | null = null; // what the picture is compared with
  private readonly sliders: Sliders;
  private readonly strip: Strip | null;
  private readonly grid: Grid;
  private readonly details = find<HTMLDetailsElement>("grid"); // around it
  private readonly random = Math.random;
  private walk: Walk | null = null;
  private own: Own | null = null; // a person's image, which the sliders change
  private searches = 0; // begun or stopped
  private settling = 0;

  constructor(private readonly model: Model) {
    this.latents = randomizeNoise(model, middle(model), seeded(0));
    this.engine = new Engine(model, tell);
    const several = panelsOf(model).length > 1;
    find("panels").classList.toggle("several", several);
    find("beside").classList.toggle("several", several);
    this.panels = new Panels(model, find("panels"), "");
    const set = (code: Code, value: number) => {
      this.stop();
      this.change(withValue(code, this.latents, value));
    };
    this.sliders = new Sliders(model, find("sliders"), set);
    const category = mainCategory(model);
    this.strip = category ? new Strip(model, category, find("strip"), set) : null;
    find("strip").hidden = !category;
    this.grid = new Grid(
      model,
      () => this.settle(0),
      (latents) => {
        this.stop();
        this.leaveOwn();
        this.change(latents);
      },
    );
    const treatments = find("treatments");
    treatments.hidden = model.treatments.length === 0;
    treatments.querySelector(".wide")?.append(
      tableOf(model, (code, value) => {
        this.pin(this.latents);
        set(code, value);
      }),
    );
    this.listen();
  }

  async start(): Promise<void> {
    await this.readHash();
    const bar = find<HTMLProgressElement>("progress");
    await this.engine.load((share) => {
      bar.value = share;
    });
    bar.hidden = true;
    if (!status.classList.contains("fault")) say("");
    await this.change(this.latents);
    if (this.pinned) await this.pin(this.pinned);
    document.body.dataset.ready = "true";
  }

  /** Other latents: everything follows. */
  private async change(latents: Latents): Promise<void> {
    this.latents = latents;
    this.sliders.show(latents);
    this.strip?.show(latents);
    this.compare();
    this.settle(this.walk ? 400 : 60);
    const image = await this.engine.generate("picture", [latents]);
    if (image) {
      this.panels.paint(this.smooth, this.complete(image));
      document.body.dataset.painted = String(
        Number(document.body.dataset.painted ?? 0) + 1,
      );
    }
  }

  /** Strip, grid and URL follow when there is time, and no more often than told. */
  private settle(wait: number): void {
    if (this.settling) return;
    this.settling = window.setTimeout(async () => {
      this.settling = 0;
      const { latents } = this;
      this.writeHash();
      if (this.strip) {
        const images = await this.engine.generate("strip", this.strip.wish(latents));
        if (images) this.strip.paint(images);
      }
      if (this.details.open) {
        const images = await this.engine.generate("grid", this.grid.wish(latents));
        if (images) this.grid.paint(images);
      }
    }, wait);
  }

  // The link

  private writeHash(): void {
    const { latents, pinned } = this;
    const view = { latents, pinned, grid: this.details.open, ...this.grid.axes };
    history.replaceState(null, "", toHash(this.model, view));
  }

  private async readHash(): Promise<void> {
    try {
      const asked = fromHash(this.model, location.hash);
      this.latents = asked.latents ?? this.latents;
      this.pinned = asked.pinned ?? null;
      this.details.open = asked.grid ?? false;
      if (asked.rows !== undefined && asked.columns !== undefined) {
        this.grid.setAxes(asked.rows, asked.columns);
      }
    } catch (error) {
      tell(error);
    }
  }

  // To compare

  private async pin(latents: Latents | null): Promise<void> {
    this.pinned = latents;
    const button = find("pin");
    button.setAttribute("aria-pressed", String(Boolean(latents)));
    button.textContent = latents ? "Unpin" : "Pin to compare";
    find("beside").replaceChildren();
    this.beside = null;
    this.compare();
    this.settle(0);
    if (!latents) return;
    const panels = new Panels(this.model, find("beside"), "pinned");
    this.beside = panels;
    const image = await this.engine.generate("file", [latents]);
    if (image) panels.paint(this.smooth, this.complete(image));
  }

  /** Says what the picture has other than the pinned one. */
  private compare(): void {
    const { pinned, latents } = this;
    let text = "";
    if (pinned) {
      const changes = this.model.codes.flatMap((c) => differences(c, pinned, latents));
      text = changes.length
        ? `Other than pinned: ${changes.join("; ")}`
        : "The same as pinned: now change one thing.";
    }
    find("difference").textContent = text;
  }

  // A person's image

  private async read(file: Blob): Promise<void> {
    this.stop();
    const search = this.searches; // a person who moves on, or a newer file, ends it
    const goesOn = () => this.searches === search;
    const { image, notes } = await readImage(this.model, file);
    if (!goesOn()) return;
    this.leaveOwn();
    await this.pin(null);
    this.beside = new Panels(this.model, find("beside"), "your image");
    this.beside.paint(this.smooth, image);
    const q = await this.engine.recognize(image);
    document.body.dataset.q = q.join(" ");
    const changed = notes.length ? ` Your image was changed: ${notes.join(", ")}.` : "";
    if (goesOn()) say(`Looking for your image …${changed}`);
    const own = new Own(this.model, image, this.engine);
    let start = await this.engine.startInversion(image);
    if (!goesOn()) return say("");
    for (const code of this.model.codes) {
      if (code.nParams) start = withValue(code, start, inferred(code, q));
    }
    const show = (share: number, latents: Latents) => {
      say(`Looking for your image … ${Math.round(100 * share)} %.${changed}`);
      this.change(latents).catch(tell);
    };
    const found = await own.search(start, show, goesOn);
    const picture = found && (await this.engine.generate("file", [found.latents]));
    if (!found || !picture || !goesOn()) {
      if (status.textContent?.startsWith("Looking")) say("");
      return;
    }
    own.compare(picture);
    this.own = own;
    find("own").hidden = false;
    await this.change(found.latents);
    say(`${verdict(found)}${changed}`);
  }

  /** From now on the picture is the generator's own. */
  private leaveOwn(): void {
    this.own = null;
    find("own").hidden = true;
  }

  /** A picture with what the generator cannot make of a person's image, if asked for. */
  private complete(picture: Float32Array): Float32Array {
    const isWanted = find<HTMLInputElement>("keep-missing").checked;
    return isWanted && this.own ? this.own.complete(picture) : picture;
  }

  // Moving

  private stop(): void {
    this.walk = null;
    this.searches += 1;
    const button = find("move");
    button.setAttribute("aria-pressed", "false");
    button.textContent = "Start";
    find("rate").textContent = "";
  }

  private async move(): Promise<void> {
    this.stop();
    if (find<HTMLSelectElement>("moving").value !== "codes") this.leaveOwn();
    const walk = this.newWalk();
    this.walk = walk;
    const button = find("move");
    button.setAttribute("aria-pressed", "true");
    button.textContent = "Stop";
    let [seconds, last, shown, since] = [0, performance.now(), 0, performance.now()];
    while (this.walk === walk) {
      // Those who want no motion get a new picture each second.
      await (calm.matches ? delay(1000) : nextFrame());
      if (this.walk !== walk) return;
      const now = performance.now();
      seconds += (this.speed() * Math.min(now - last, 1000)) / 1000;
      last = now;
      await this.change(walk.at(seconds));
      shown += 1;
      if (now - since > 1000) {
        find("rate").textContent =
          `${Math.round((1000 * shown) / (now - since))} pictures/s`;
        [shown, since] = [0, now];
      }
    }
  }

  private newWalk(): Walk {
    const what = find<HTMLSelectElement>("moving").value;
    const [codes, noise] = [what !== "noise", what !== "codes"];
    return new Walk(this.model, this.latents, codes, noise, this.random);
  }

  /** Whether pictures are enlarged smoothly, or as pixels. */
  private get smooth(): boolean {
    return find<HTMLSelectElement>("enlargement").value === "smooth";
  }

  /** Times the pace of a walk. */
  private speed(): number {
    return 2 ** find<HTMLInputElement>("speed").valueAsNumber;
  }

  // Files

  private async sheetLatents(): Promise<{ all: Latents[]; columns: number }> {
    const { latents } = this;
    if (this.details.open) {
      const all = this.grid.wish(latents);
      return { all, columns: find("cells").querySelectorAll("th[scope=col]").length };
    }
    const styles = Array.from({ length: SHEET_STYLES }, () =>
      randomizeNoise(
        this.model,
        randomizeCodes(this.model, latents, this.random),
        this.random,
      ),
    );
    const columns = styles.map((style) => this.strip?.wish(style) ?? [style]);
    const all = columns[0]?.flatMap((_, row) => columns.flatMap((c) => c[row] ?? []));
    return { all: all ?? [], columns: SHEET_STYLES };
  }

  private async saveSheet(): Promise<void> {
    const { all, columns } = await this.sheetLatents();
    const images = await this.engine.generate("file", all);
    if (images)
      save(
        await toPng(this.model, images, all.length, columns, this.smooth),
        this.file("sheet", "png"),
      );
  }

  private async savePng(): Promise<void> {
    const image = await this.engine.generate("file", [this.latents]);
    if (image)
      save(
        await toPng(this.model, this.complete(image), 1, 1, this.smooth),
        this.file("picture", "png"),
      );
  }

  private async saveGif(): Promise<void> {
    say("Making the animation…");
    const walk = this.newWalk();
    const speed = this.speed();
    const path = Array.from({ length: GIF_FRAMES }, (_, i) =>
      walk.at((i * speed * GIF_SECONDS) / GIF_FRAMES),
    );
    const images = await this.engine.generate("file", path);
    // Other noise is another cell
    const isSame = find<HTMLSelectElement>("moving").value === "codes";
    const shown = images && isSame ? this.complete(images) : images;
    if (shown)
      save(
        toGif(this.model, shown, path.length, this.smooth),
        this.file("moving", "gif"),
      );
    say("");
  }

  private saveLatents(): void {
    const text = toFile(this.model, [this.latents]);
    save(new Blob([text], { type: "application/json" }), this.file("latents", "json"));
  }

  private file(what: string, suffix: string): string {
    const name = this.model.name.replace(/[^\w-]+/g, "_") || "model";
    return `${name}_${what}.${suffix}`;
  }

  private async copyLink(): Promise<void> {
    this.writeHash();
    try {
      await navigator.clipboard.writeText(location.href);
      const less = this.own ? ", as the generator makes it" : "";
      say(`The link is copied; it shows just this${less}.`);
    } catch {
      say("The link is in the address bar; this browser does not let a page copy it.");
    }
  }

  private listen(): void {
    const on = (id: string, action: () => unknown) => {
      find(id).addEventListener("click", async () => {
        try {
          await action();
        } catch (error) {
          tell(error);
        }
      });
    };
    on("randomize-codes", () => {
      this.stop();
      return this.change(randomizeCodes(this.model, this.latents, this.random));
    });
    on("randomize-noise", () => {
      this.stop();
      this.leaveOwn();
      return this.change(randomizeNoise(this.model, this.latents, this.random));
    });
    on("move", () => (this.walk ? this.stop() : this.move()));
    on("pin", () => this.pin(this.pinned ? null : this.latents));
    on("save-png", () => this.savePng());
    on("save-sheet", () => this.saveSheet());
    on("save-gif", () => this.saveGif());
    on("save-latents", () => this.saveLatents());
    on("copy", () => this.copyLink());
    find("moving").addEventListener("change", () => {
      if (this.walk) this.move();
    });
    find("keep-missing").addEventListener("change", () => this.change(this.latents));
    find("enlargement").addEventListener("change", () => {
      document.body.classList.toggle("pixels", !this.smooth);
      this.panels.paint(this.smooth);
      this.beside?.paint(this.smooth);
    });
    this.details.addEventListener("toggle", () => {
      this.settle(0);
    });
    window.addEventListener("hashchange", async () => {
      await this.readHash();
      this.stop();
      this.leaveOwn();
      await this.change(this.latents);
      await this.pin(this.pinned);
    });
    const take = (files: FileList | null | undefined) => {
      const file = files?.[0];
      if (file) this.read(file).catch(tell);
    };
    const input = find<HTMLInputElement>("file");
    input.addEventListener("change", () => {
      take(input.files);
      input.value = ""; // so that the same file can be read again
    });
    document.addEventListener("dragover", (event) => {
      event.preventDefault();
      document.body.classList.add("dropping");
    });
    document.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) document.body.classList.remove("dropping");
    });
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      document.body.classList.remove("dropping");
      take(event.dataTransfer?.files);
    });
  }
}

function differences(code: Code, before: Latents, now: Latents): string[] {
  const part = (latents: Latents) =>
    latents.subarray(code.offset, code.offset + code.dim);
  const [a, b] = [part(before), part(now)];
  if (a.every((value, i) => Math.abs(value - (b[i] ?? 0)) < 1e-4)) return [];
  if (code.kind === "noise") return ["other noise"];
  const [was, is] = [codeValue(code, before), codeValue(code, now)];
  if (isDiscrete(code)) {
    return [`${labelOf(code, was)} → ${labelOf(code, is)}`];
  }
  return [`${titleOf(code)} ${was.toFixed(2)} → ${is.toFixed(2)}`];
}

/** The value of a code that Q finds most probable, within what a slider allows. */
function inferred(code: Code, q: Float32Array): number {
  const part = q.subarray(code.qOffset, code.qOffset + code.nParams);
  if (code.kind === "categorical") return argmax(part);
  const first = part[0] ?? 0;
  if (code.kind === "bernoulli") return first > 0 ? 1 : 0;
  return Math.min(code.allowed[1], Math.max(code.allowed[0], first));
}

function nextFrame(): Promise<unknown> {
  return new Promise((done) => requestAnimationFrame(done));
}

function delay(milliseconds: number): Promise<unknown> {
  return new Promise((done) => setTimeout(done, milliseconds));
}

async function start(): Promise<void> {
  if (typeof WebAssembly !== "object") {
    throw new Fault("This browser has no WebAssembly, which the networks need.");
  }
  say("Loading the networks…");
  const response = await fetch("model.json", { cache: "no-cache" }).catch(() => null);
  if (!response?.ok) {
    throw new Fault("model.json could not be loaded. Export the model again.");
  }
  const json = await response.json().catch(() => {
    throw new Fault("model.json is damaged: it is no JSON. Export the model again.");
  });
  const model = parseModel(json);
  document.title = `${model.name} · InfoGAN explorer`;
  find("name").textContent = model.name;
  const measured = model.metrics.map(([name, value]) => `${name} ${value.toFixed(3)}`);
  find("about").textContent = [
    `An InfoGAN found these by itself in ${model.dataset}, without a label.`,
    measured.length ? `Measured afterwards: ${measured.join(", ")}.` : "",
  ].join(" ");
  find("footer").textContent =
    `Seed ${model.seed}, step ${model.step.toLocaleString("en")}, weights ${model.digest}. Everything runs in this browser; nothing leaves it.`;
  const page = new Page(model);
  document.querySelector("main")?.removeAttribute("hidden");
  await page.start();
}

start().catch((error) => {
  tell(error);
  find("progress").hidden = true;
});
