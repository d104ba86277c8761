// The page's side of the worker.

import type { Latents } from "./latents";
import { Fault, type Model } from "./model";
import { type Purpose, Queue } from "./queue";
import type { LoadTask, Reply, RunTask } from "./worker";

const GENERATOR = "generator.onnx";
const RECOGNIZER = "recognizer.onnx";
const MISFIT = "The networks do not fit model.json. Export the model again.";
const NETWORKS = [GENERATOR, RECOGNIZER];

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
  private readonly queue: Queue;
  private next = 0;

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
        throw new Fault(`model.json does not name ${name}. Export the model again.`);
      return { name, ...about };
    });
    await this.ask({ load: files, page: document.baseURI }, progress);
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
    const { width, height, channels } = this.model;
    const shape = [1, height, width, channels];
    const output = await this.ask({ run: RECOGNIZER, input: image, shape });
    return output ?? new Float32Array();
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
