// The page's side of the worker: the newest wish of each kind, one at a time.

import type { Latents } from "./latents";
import { Fault, type Model } from "./model";
import type { LoadTask, Reply, RunTask } from "./worker";

const GENERATOR = "generator.onnx";
const RECOGNIZER = "recognizer.onnx";
const MISFIT = "The networks do not fit model.json. Export the model anew.";
const NETWORKS = [GENERATOR, RECOGNIZER];
const MOST = 25; // pictures of one call, so that an urgent wish waits for few

interface Wish {
  latents: readonly Latents[];
  images: Float32Array<ArrayBuffer>; // as far as they are made
  made: number;
  done: (images: Float32Array | null) => void;
}

/** What pictures are for, the most urgent first. */
export type Purpose = "picture" | "file" | "strip" | "grid";
const PURPOSES: Purpose[] = ["picture", "file", "strip", "grid"];

type Settled = {
  done: (output: Float32Array<ArrayBuffer> | null) => void;
  fail: (fault: Fault) => void;
  progress?: (share: number) => void;
};

export class Engine {
  private readonly worker = new Worker(new URL("./worker.ts", import.meta.url), {
    type: "module",
  });
  private readonly waiting = new Map<number, Settled>();
  private readonly wishes = new Map<Purpose, Wish>();
  private busy = false;
  private next = 0;

  constructor(
    private readonly model: Model,
    private readonly onFault: (fault: Fault) => void,
  ) {
    this.worker.onmessage = ({ data }: MessageEvent<Reply>) => {
      const settled = this.waiting.get(data.id);
      if (!settled) return;
      if ("progress" in data) return settled.progress?.(data.progress);
      this.waiting.delete(data.id);
      if ("fault" in data) settled.fail(new Fault(data.fault));
      else settled.done(data.output);
    };
    this.worker.onerror = (event) => {
      for (const { fail } of this.waiting.values()) {
        fail(
          new Fault(`The networks cannot run here: ${event.message || "no worker"}.`),
        );
      }
      this.waiting.clear();
    };
  }

  /** Loads the networks. Throws Fault. */
  async load(progress: (share: number) => void): Promise<void> {
    const files = NETWORKS.map((name) => {
      const about = this.model.files.get(name);
      if (!about)
        throw new Fault(`model.json does not name ${name}. Export the model anew.`);
      return { name, ...about };
    });
    await this.ask({ load: files, page: document.baseURI }, progress);
    const image = await this.generateNow([new Float32Array(this.model.latentDim)]);
    if (image.length !== this.size) throw new Fault(MISFIT);
    const q = await this.recognize(image);
    if (q.length !== this.model.paramDim) {
      throw new Fault(MISFIT);
    }
  }

  /**
   * Pictures of latents, [N, H, W, C]; null if a newer wish for the same purpose came.
   */
  generate(
    purpose: Purpose,
    latents: readonly Latents[],
  ): Promise<Float32Array | null> {
    this.wishes.get(purpose)?.done(null);
    const images = new Float32Array(this.size * latents.length);
    return new Promise((done) => {
      this.wishes.set(purpose, { latents, images, made: 0, done });
      this.pump();
    });
  }

  /** Parameters of Q(c|x) for one image [H, W, C]. */
  async recognize(image: Float32Array<ArrayBuffer>): Promise<Float32Array> {
    const { width, height, channels } = this.model;
    const shape = [1, height, width, channels];
    const output = await this.ask({ run: RECOGNIZER, input: image, shape });
    return output ?? new Float32Array();
  }

  /** Some pictures of the most urgent wish, again and again. */
  private async pump(): Promise<void> {
    if (this.busy) return;
    this.busy = true;
    for (;;) {
      const purpose = PURPOSES.find((one) => this.wishes.has(one));
      const wish = purpose && this.wishes.get(purpose);
      if (!wish) break;
      try {
        const some = wish.latents.slice(wish.made, wish.made + MOST);
        wish.images.set(await this.generateNow(some), wish.made * this.size);
        wish.made += some.length;
      } catch (error) {
        this.wishes.delete(purpose);
        wish.done(null);
        this.onFault(error instanceof Fault ? error : new Fault(String(error)));
        continue;
      }
      if (wish.made >= wish.latents.length && this.wishes.get(purpose) === wish) {
        this.wishes.delete(purpose);
        wish.done(wish.images);
      }
    }
    this.busy = false;
  }

  private get size(): number {
    return this.model.width * this.model.height * this.model.channels;
  }

  private async generateNow(
    latents: readonly Latents[],
  ): Promise<Float32Array<ArrayBuffer>> {
    const dim = this.model.latentDim;
    const input = new Float32Array(dim * latents.length);
    latents.forEach((one, i) => {
      input.set(one, i * dim);
    });
    const shape = [latents.length, dim];
    return (await this.ask({ run: GENERATOR, input, shape })) ?? new Float32Array();
  }

  private ask(
    task: Omit<LoadTask, "id"> | Omit<RunTask, "id">,
    progress?: (share: number) => void,
  ): Promise<Float32Array<ArrayBuffer> | null> {
    const id = this.next++;
    return new Promise((done, fail) => {
      this.waiting.set(id, progress ? { done, fail, progress } : { done, fail });
      this.worker.postMessage({ id, ...task });
    });
  }
}
