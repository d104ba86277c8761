// Which pictures are made next: the most urgent ones, some at a time.

import type { Latents } from "./latents";

/** What pictures are for, the most urgent first. */
export type Purpose = "picture" | "file" | "strip" | "grid";
const PURPOSES: Purpose[] = ["picture", "file", "strip", "grid"];
const MOST = 25; // pictures of one call, so that an urgent wish waits for few

interface Wish {
  latents: readonly Latents[];
  begun: boolean;
  made: Float32Array[]; // as far as they are
  done: (images: Float32Array | null) => void;
}

/**
 * Wishes for pictures, which wait until the networks are there.
 *
 * A newer wish takes the place of one for the same purpose that has not been begun; what
 * was begun is finished, or a person who drags without a pause would see nothing. Files
 * are all made.
 */
export class Queue {
  private readonly lines = new Map<Purpose, Wish[]>();
  private isOpen = false;
  private busy = false;

  constructor(
    private readonly run: (latents: readonly Latents[]) => Promise<Float32Array>,
    private readonly onFault: (error: unknown) => void,
  ) {}

  /** From now on wishes are fulfilled. */
  open(): void {
    this.isOpen = true;
    this.pump();
  }

  /** Pictures, [N, H, W, C]; null if a newer wish took its place, or it failed. */
  add(purpose: Purpose, latents: readonly Latents[]): Promise<Float32Array | null> {
    const line = this.lines.get(purpose) ?? [];
    this.lines.set(purpose, line);
    if (purpose !== "file" && line.at(-1)?.begun === false) line.pop()?.done(null);
    return new Promise((done) => {
      line.push({ latents, begun: false, made: [], done });
      this.pump();
    });
  }

  private async pump(): Promise<void> {
    if (this.busy || !this.isOpen) return;
    this.busy = true;
    for (;;) {
      const line = PURPOSES.map((one) => this.lines.get(one)).find(
        (one) => one?.length,
      );
      const wish = line?.[0];
      if (!line || !wish) break;
      wish.begun = true;
      const start = wish.made.length * MOST;
      try {
        wish.made.push(await this.run(wish.latents.slice(start, start + MOST)));
      } catch (error) {
        line.shift();
        wish.done(null);
        this.onFault(error);
        continue;
      }
      if (start + MOST >= wish.latents.length) {
        line.shift();
        wish.done(joined(wish.made));
      }
    }
    this.busy = false;
  }
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const [first] = parts;
  if (first && parts.length === 1) return first;
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let place = 0;
  for (const part of parts) {
    whole.set(part, place);
    place += part.length;
  }
  return whole;
}
