// The page's side of the worker.

import type { Latents } from "./latents";
import { Fault, type Model } from "./model";
import { type Purpose, Queue } from "./queue";
import type { Input, LoadTask, Reply, RunTask } from "./worker";

const GENERATOR = "generator.onnx";
const RECOGNIZER = "recognizer.onnx";
const INVERSION = ["inversion_start.onnx", "inversion_descent.onnx"] as const;
const MISFIT = "The networks do not fit model.json. Export the model again.";
const NETWORKS = [GENERATOR, RECOGNIZER];

type Settled = {
  done: (outputs: Float32Array<ArrayBuffer>[]) => void;
  fail: (fault: Fault) => void;
  progress?: (share: number) => void;
};

export class Engine {
  private readonly worker = new Worker(new URL("./worker.ts", import.meta.url), {
    type: "module",
  });
  private readonly waiting = new Map<number, Settled>();
  private readonly queue: Queue;
  private next = 0;
  private canInvert = false; // whether its networks are loaded

  constructor(
    private readonly model: Model,
    onFault: (error: unknown) => void,
  ) {
    this.queue = new Queue((latents) => this.generateNow(latents), onFault);
    this.worker.onmessage = ({ data }: MessageEvent<Reply>) => {
      const settled = this.waiting.get(data.id);
      if (!settled) return;
      if ("progress" in data) return settled.progress?.(data.progress);
      this.waiting.delete(data.id);
      if ("fault" in data) settled.fail(new Fault(data.fault));
      else settled.done(data.outputs);
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
    await this.fetch(NETWORKS, progress);
    const image = await this.generateNow([new Float32Array(this.model.latentDim)]);
    if (image.length !== this.size) throw new Fault(MISFIT);
    const q = await this.recognize(image);
    if (q.length !== this.model.paramDim) throw new Fault(MISFIT);
    this.queue.open();
  }

  /** Pictures of latents, [N, H, W, C]; null where `Queue.add` says so. */
  generate(
    purpose: Purpose,
    latents: readonly Latents[],
  ): Promise<Float32Array | null> {
    return this.queue.add(purpose, latents);
  }

  /** Parameters of Q(c|x) for one image [H, W, C]. */
  async recognize(image: Float32Array<ArrayBuffer>): Promise<Float32Array> {
    const [q] = await this.ask({ run: RECOGNIZER, inputs: [this.input(image)] });
    return q ?? new Float32Array();
  }

  /** Where the descent to an image begins. Throws Fault if that cannot be loaded. */
  async startInversion(image: Float32Array<ArrayBuffer>): Promise<Latents> {
    if (!this.canInvert) await this.fetch(INVERSION, () => {});
    this.canInvert = true;
    const inputs = [this.input(image)];
    const [latents] = await this.ask({ run: INVERSION[0], inputs });
    return latents ?? new Float32Array(this.model.latentDim);
  }

  /** See `Descent`; behind `startInversion`. */
  async descend(image: Float32Array<ArrayBuffer>, latents: Latents) {
    const noted = { values: latents, shape: [1, this.model.latentDim] };
    const inputs = [noted, this.input(image)];
    const [gradient, left] = await this.ask({ run: INVERSION[1], inputs });
    return {
      gradient: gradient ?? new Float32Array(),
      left: left?.[0] ?? Number.POSITIVE_INFINITY,
    };
  }

  private async fetch(
    names: readonly string[],
    progress: (share: number) => void,
  ): Promise<void> {
    const files = names.map((name) => {
      const about = this.model.files.get(name);
      if (!about)
        throw new Fault(`model.json does not name ${name}. Export the model again.`);
      return { name, ...about };
    });
    await this.ask({ load: files, page: document.baseURI }, progress);
  }

  private input(image: Float32Array<ArrayBuffer>): Input {
    const { width, height, channels } = this.model;
    return { values: image, shape: [1, height, width, channels] };
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
    const inputs = [{ values: input, shape: [latents.length, dim] }];
    const [images] = await this.ask({ run: GENERATOR, inputs });
    return images ?? new Float32Array();
  }

  private ask(
    task: Omit<LoadTask, "id"> | Omit<RunTask, "id">,
    progress?: (share: number) => void,
  ): Promise<Float32Array<ArrayBuffer>[]> {
    const id = this.next++;
    return new Promise((done, fail) => {
      this.waiting.set(id, progress ? { done, fail, progress } : { done, fail });
      this.worker.postMessage({ id, ...task });
    });
  }
}
