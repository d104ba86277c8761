"""One training step of the paper's network, beside its floor and its peers.

    python -m experiments.benchmarks.step [--batch_sizes=128,1024] [--compile]

The peers are the same network and updates in PyTorch, if it is installed, with the
paper's objective and with the recommended one, and in Flax as public code has it. The
floor is that of `distributed.roofline`: its FLOPs over the rate of a product of
matrices, and Adam's bytes over that of a sum in place; measured before and after all
sides, for the machine's speed varies. It is that of our step, with the paper's
objective, in float32 and in bfloat16; all sides have one device.
"""

import dataclasses
import functools
import sys
from typing import Any

import jax
import numpy as np
from absl import app, flags

from experiments.benchmarks import ours, peers, timing
from infogan_jax import Config

FLAGS = flags.FLAGS
flags.DEFINE_list("batch_sizes", ["128"], "Images per step.")
flags.DEFINE_integer("repeats", 5, "Times each side is measured, in turn.")
flags.DEFINE_integer(
    "stretch",
    20,
    "Steps per measurement; of few, the memory that each call allocates is a part.",
)
flags.DEFINE_bool("compile", False, "Have torch.compile too, which takes a minute.")

SHAPE = (28, 28, 1)
OURS: dict[str, dict[str, Any]] = {
    "paper": {},
    "bfloat16": {"dtype": "bfloat16"},
    "every_2nd": {**ours.RECOMMENDED, "augment_every": 2},
    "recommended": ours.RECOMMENDED,
}
flags.DEFINE_list(
    "ours",
    list(OURS),
    "Of ours: the paper's objective, which all others are compared with, the same in "
    "bfloat16, and the recommended one on every second image and on all.",
)


def main(_):
    print(timing.machine())
    name, length = "ours, paper", FLAGS.stretch
    chosen = dict.fromkeys(["paper", *FLAGS.ours])
    if unknown := sorted(set(chosen) - set(OURS)):
        sys.exit(f"--ours={','.join(unknown)}: expected some of {list(OURS)}")
    for size in map(int, FLAGS.batch_sizes):
        paper = Config(batch_size=size)
        sides = {
            f"ours, {side}": ours.steps(
                dataclasses.replace(paper, **OURS[side]),
                length,
                devices=jax.devices()[:1],
            )
            for side in chosen
        }
        batches = ours.noise(size * length).reshape(length, size, *SHAPE)
        short, whole = "bfloat16" in chosen, "recommended" in chosen
        others = peers.all_of_them(size, FLAGS.compile, short, whole)
        for peer, take in others.items():
            sides[peer] = functools.partial(take, batches)
        kinds = [paper]
        if short:
            kinds.append(dataclasses.replace(paper, **OURS["bfloat16"]))
        before = [timing.step_floor(kind, SHAPE) for kind in kinds]
        times = timing.in_turn(sides, FLAGS.repeats)
        after = [timing.step_floor(kind, SHAPE) for kind in kinds]
        floor, *other = np.mean([before, after], 0)
        print(f"batch {size}")
        timing.show(times, name, length / 1e3, "ms", floor * length)
        for seconds in other:
            print(f"  floor in bfloat16: {seconds * 1e3:.3g} ms")
        each = np.median(times[name]) / length
        print(f"  5,000 updates at this rate: {5_000 * each:,.1f} s")


if __name__ == "__main__":
    app.run(main)
