import { describe, expect, it } from "vitest";
import { Queue } from "../src/queue";

const pause = () => new Promise((done) => setTimeout(done, 0));

function many(count: number, value = 0): Float32Array<ArrayBuffer>[] {
  return Array.from({ length: count }, () => new Float32Array([value]));
}

/** A queue whose calls take until `pause` has passed, and what it was asked for. */
function made() {
  const calls: number[][] = [];
  const faults: unknown[] = [];
  const queue = new Queue(
    async (latents) => {
      calls.push(latents.map((one) => one[0] ?? 0));
      await pause();
      if (latents[0]?.[0] === -1) throw new Error("no");
      return Float32Array.from(latents, (one) => one[0] ?? 0);
    },
    (fault) => faults.push(fault),
  );
  return { queue, calls, faults };
}

describe("wishes", () => {
  it("wait until the networks are there", async () => {
    const { queue, calls } = made();
    const old = queue.add("grid", many(1, 1));
    const wish = queue.add("grid", many(1, 2));
    await pause();
    expect(calls).toEqual([]);
    queue.open();
    expect(await old).toBeNull();
    expect(await wish).toEqual(new Float32Array([2]));
    expect(calls).toEqual([[2]]);
  });

  it("that are begun are finished, however many come after them", async () => {
    const { queue, calls } = made();
    queue.open();
    const wishes = Array.from({ length: 50 }, (_, i) =>
      queue.add("picture", many(1, i)),
    );
    const found = await Promise.all(wishes);
    expect(found[0]).toEqual(new Float32Array([0]));
    expect(found[49]).toEqual(new Float32Array([49]));
    expect(found.filter(Boolean).length).toBe(2);
    expect(calls).toEqual([[0], [49]]);
  });

  it("that are urgent go between the parts of others", async () => {
    const { queue, calls } = made();
    queue.open();
    const grid = queue.add("grid", many(60, 7));
    const picture = queue.add("picture", many(1, 1));
    expect((await grid)?.length).toBe(60);
    expect(await picture).toEqual(new Float32Array([1]));
    expect(calls.map((one) => one.length)).toEqual([25, 1, 25, 10]);
  });

  it("for files are all fulfilled, in their order", async () => {
    const { queue, calls } = made();
    queue.open();
    const files = [1, 2, 3].map((value) => queue.add("file", many(1, value)));
    expect((await Promise.all(files)).every(Boolean)).toBe(true);
    expect(calls).toEqual([[1], [2], [3]]);
  });

  it("that fail are told of, and the next one is fulfilled", async () => {
    const { queue, faults } = made();
    queue.open();
    const bad = queue.add("strip", many(1, -1));
    const good = queue.add("strip", many(1, 4));
    expect(await bad).toBeNull();
    expect(await good).toEqual(new Float32Array([4]));
    expect(faults.length).toBe(1);
  });
});
