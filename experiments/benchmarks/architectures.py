"""Every architecture for one shape of image: parameters, FLOPs, a step and its floor.

python -m experiments.benchmarks.architectures [--image_size=32] [--base_channels=16]

A step is that of the objective of `malaria_cpu.cfg`, on noise; the floor is that of
`distributed.roofline`. Those that cannot make such images are left out.
"""

from typing import Any

import jax
import numpy as np
from absl import app, flags

from experiments.benchmarks import ours, timing
from infogan_jax import Config, build_model
from infogan_jax.core.models import ARCHITECTURES
from infogan_jax.distributed.roofline import network_costs

FLAGS = flags.FLAGS
flags.DEFINE_list("architectures", None, "Some of them, by name; default: all.")
flags.DEFINE_integer("image_size", 32, "Side of the images, pixels.")
flags.DEFINE_integer("channels", 4, "Channels of the images.")
flags.DEFINE_integer("base_channels", 16, "Channels at full resolution.")
flags.DEFINE_integer("batch_size", 64, "Images per step.")
flags.DEFINE_integer("repeats", 3, "Times each side is measured, in turn.")
flags.DEFINE_integer("stretch", 4, "Steps per measurement.")

_OBJECTIVE: dict[str, Any] = {
    "codes": "cat:2,uniform:2,noise:62",
    "augment": "cells:gain=0.4:shift=0.15:scale=0.3",
    "augment_every": 1,
    "gan_weight": 4.0,
    "real_mi_weight": 1.0,
    "consistency_fraction": 1.0,
    "entropy_weight": 4.0,
    "equivariance_weight": 0.1,
    "prior_weight": 0.1,
}


def main(_):
    shape = (FLAGS.image_size, FLAGS.image_size, FLAGS.channels)
    configs = {}
    for name in FLAGS.architectures or ARCHITECTURES:
        own = "mnist" in name  # widths of its own
        config = Config(
            architecture=name,
            base_channels=0 if own else FLAGS.base_channels,
            batch_size=FLAGS.batch_size,
            **_OBJECTIVE,
        )
        try:
            build_model(config, shape)
        except ValueError as error:
            print(f"  {name:42} left out: {error}")
            continue
        configs[name] = config
    print(timing.machine())
    first = jax.devices()[:1]
    sides = {
        name: ours.steps(config, FLAGS.stretch, shape, first)
        for name, config in configs.items()
    }
    times = timing.in_turn(sides, FLAGS.repeats)
    print("| architecture | parameters of G, D, Q | MFLOP each | ms a step | floor |")
    print("|---|---|---|---|---|")
    for name, seconds in times.items():
        costs = network_costs(build_model(configs[name], shape)).values()
        parameters = ", ".join(f"{count / 1e3:,.0f} k" for count, _ in costs)
        flops = ", ".join(f"{(flops or 0) / 1e6:.1f}" for _, flops in costs)
        low, middle, high = np.percentile(seconds, [0, 50, 100]) * 1e3 / FLAGS.stretch
        floor = timing.step_floor(configs[name], shape) * 1e3
        print(
            f"| {name} | {parameters} | {flops} "
            f"| {middle:.0f} ({low:.0f} to {high:.0f}) | {floor:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    app.run(main)
