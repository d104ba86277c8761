"""One training step of the paper's network, beside its floor and its peers.

    python -m experiments.benchmarks.step [--batch_sizes=128,1024] [--compile]

The peers are the same network and updates in PyTorch, if it is installed, and in Flax
as public code has it. The floor is that of `infogan_jax.floor`: the step's FLOPs over
the rate of a product of matrices, and Adam's bytes over the rate of a copy.
"""

import jax
import numpy as np
from absl import app, flags

from experiments.benchmarks import ours, peers, timing
from infogan_jax import Config, init_state
from infogan_jax.floor import adam_bytes, copy_rate, matmul_rate

FLAGS = flags.FLAGS
flags.DEFINE_list("batch_sizes", ["128"], "Images per step.")
flags.DEFINE_integer("repeats", 7, "Times each side is measured, in turn.")
flags.DEFINE_integer("stretch", 5, "Steps per measurement.")
flags.DEFINE_bool("compile", False, "Have torch.compile too, which takes a minute.")

SHAPE = (28, 28, 1)


def forward_flops() -> int:
    """Of one image through G, which are about those through D."""
    generator = 74 * 1024 + 1024 * 6272 + 49 * 128 * 16 * 64 + 196 * 64 * 16
    discriminator = 196 * 64 * 16 + 49 * 128 * 16 * 64 + 6272 * 1024 + 1024 * 129
    return generator + discriminator


# G forward and backward 3; D on real and on fake 3 each; D for G, inputs only, 2.
PASSES = 11


def theirs(take, batch_size: int):
    """A call that takes `--stretch` steps of a peer."""
    images = ours.noise(FLAGS.stretch * batch_size)
    return None if take is None else lambda: take(images)


def mine(batch_size: int, **changes):
    return ours.steps(Config(batch_size=batch_size, **changes), FLAGS.stretch)


def main(_):
    print(timing.machine())
    state = jax.eval_shape(lambda k: init_state(k, Config(), SHAPE), jax.random.key(0))
    bytes_moved = adam_bytes(state)
    half_warped = {**ours.RECOMMENDED, "warp_every": 2}
    for size in map(int, FLAGS.batch_sizes):
        name = "ours, the paper's objective"
        product, copy = matmul_rate(), copy_rate()
        sides = {
            name: mine(size),
            "ours in bfloat16": mine(size, dtype="bfloat16"),
            "ours, every 2nd image warped": mine(size, **half_warped),
            "ours, the recommended objective": mine(size, **ours.RECOMMENDED),
            "PyTorch, eager": theirs(peers.pytorch(size), size),
            "Flax as usual": theirs(peers.flax_as_usual(size), size),
        }
        if FLAGS.compile:
            compiled = peers.pytorch(size, compiled=True)
            sides["PyTorch, torch.compile"] = theirs(compiled, size)
        times = timing.in_turn(sides, FLAGS.repeats)
        product, copy = (product + matmul_rate()) / 2, (copy + copy_rate()) / 2
        floor = PASSES * forward_flops() * size / product + bytes_moved / copy
        print(
            f"batch {size}: floor {floor * 1e3:.1f} ms a step, of {product / 1e9:,.0f} "
            f"GFLOP/s and {copy / 1e9:,.0f} GB/s"
        )
        timing.show(times, name, FLAGS.stretch / 1e3, "ms")
        print(
            f"  floor over ours: {floor * FLAGS.stretch / np.median(times[name]):.0%}"
        )


if __name__ == "__main__":
    app.run(main)
