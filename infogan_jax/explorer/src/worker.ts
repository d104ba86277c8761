// The networks, in a thread of their own, so that dragging never waits for them.

import runtime from "onnxruntime-web/ort-wasm-simd-threaded.wasm?url";
import * as ort from "onnxruntime-web/wasm";

export interface NetworkFile {
  name: string;
  bytes: number;
  sha256: string;
}

/** Loads networks from next to the page. */
export interface LoadTask {
  id: number;
  load: NetworkFile[];
  page: string; // URL
}

export interface Input {
  values: Float32Array;
  shape: number[];
}

/** Runs one of them. */
export interface RunTask {
  id: number;
  run: string; // name of its file
  inputs: Input[];
}

export type Task = LoadTask | RunTask;

export type Reply =
  | { id: number; outputs: Float32Array<ArrayBuffer>[] }
  | { id: number; progress: number } // share of the bytes, from 0 to 1
  | { id: number; fault: string };

const sessions = new Map<string, ort.InferenceSession>();

ort.env.wasm.numThreads = 1; // more of them need headers that few web hosts send
ort.env.logLevel = "error";

/** A file next to the page, with its progress told. Throws if it is not whole. */
async function download(
  url: string,
  expected: NetworkFile | null,
  tell: (received: number) => void,
): Promise<Uint8Array<ArrayBuffer>> {
  const name = expected?.name ?? "onnxruntime";
  // Names of networks stay when a model is exported again; that of the runtime does not.
  const cache = expected ? "no-cache" : "default";
  const response = await fetch(url, { cache }).catch(() => null);
  if (!response?.ok || !response.body) {
    throw new Error(
      `${name} could not be loaded (${response?.status ?? "no answer"}).`,
    );
  }
  const parts: Uint8Array<ArrayBuffer>[] = [];
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read().catch(() => {
      throw new Error(`${name} was cut short. Load the page again.`);
    });
    if (done) break;
    parts.push(value);
    tell(value.length);
  }
  const content = new Uint8Array(await new Blob(parts).arrayBuffer());
  if (expected) {
    if (content.length !== expected.bytes) {
      throw new Error(
        `${name} has ${content.length} bytes, model.json says ${expected.bytes}: it was cut short, or is of another export. Export the model again.`,
      );
    }
    // Where a page came over plain HTTP from elsewhere, browsers offer no digest.
    if (crypto.subtle) {
      const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
      const hex = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join(
        "",
      );
      if (hex !== expected.sha256) {
        throw new Error(
          `${name} does not fit model.json: it is damaged, or of another export. Export the model again.`,
        );
      }
    }
  }
  return content;
}

async function load(task: LoadTask): Promise<void> {
  const isFirst = !ort.env.wasm.wasmBinary;
  const all = task.load.reduce((sum, file) => sum + file.bytes, isFirst ? 14e6 : 0);
  let received = 0;
  const tell = (more: number) => {
    received += more;
    post({ id: task.id, progress: Math.min(1, received / all) });
  };
  const [binary, ...models] = await Promise.all([
    isFirst ? download(runtime, null, tell) : null,
    ...task.load.map((file) =>
      download(new URL(file.name, task.page).href, file, tell),
    ),
  ]);
  if (binary) ort.env.wasm.wasmBinary = binary.buffer;
  for (const [i, file] of task.load.entries()) {
    const model = models[i];
    if (!model) continue;
    sessions.set(file.name, await ort.InferenceSession.create(model));
  }
}

async function run(task: RunTask): Promise<Float32Array<ArrayBuffer>[]> {
  const session = sessions.get(task.run);
  if (!session) throw new Error(`${task.run} is not loaded`);
  const feeds = task.inputs.map(({ values, shape }, i) => [
    session.inputNames[i],
    new ort.Tensor("float32", values, shape),
  ]);
  const results = await session.run(Object.fromEntries(feeds));
  return session.outputNames.map((name) => {
    const values = results[name]?.data as Float32Array<ArrayBuffer>;
    return values.slice(); // a view of the runtime's memory otherwise
  });
}

function post(reply: Reply, transfer: Transferable[] = []): void {
  self.postMessage(reply, { transfer });
}

self.onmessage = async ({ data: task }: MessageEvent<Task>) => {
  try {
    if ("load" in task) {
      await load(task);
      post({ id: task.id, outputs: [] });
    } else {
      const outputs = await run(task);
      post(
        { id: task.id, outputs },
        outputs.map((output) => output.buffer),
      );
    }
  } catch (error) {
    post({
      id: task.id,
      fault: error instanceof Error ? error.message : String(error),
    });
  }
};
