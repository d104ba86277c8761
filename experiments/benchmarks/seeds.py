"""Ten seeds at once against one: the half-width network, the recommended objective.

python -m experiments.benchmarks.seeds [--members=10]
"""

from typing import Any

import jax
from absl import app, flags

from experiments.benchmarks import ours, timing
from infogan_jax import Config
from infogan_jax.distributed.devices import give_members_cores

FLAGS = flags.FLAGS
flags.DEFINE_integer("members", 10, "Seeds at once.")
flags.DEFINE_integer("repeats", 5, "Times each side is measured, in turn.")
flags.DEFINE_integer("stretch", 10, "Steps per measurement.")


def main(_):
    give_members_cores(FLAGS.members)
    config: dict[str, Any] = {"architecture": "mnist_half", **ours.RECOMMENDED}
    many = Config(**config, num_seeds=FLAGS.members)
    sides = {
        "one seed, one device": ours.steps(
            Config(**config), FLAGS.stretch, devices=jax.devices()[:1]
        ),
        f"{FLAGS.members} seeds, all devices": ours.steps(many, FLAGS.stretch),
    }
    print(timing.machine())
    times = timing.in_turn(sides, FLAGS.repeats)
    floor = timing.step_floor(Config(**config), (28, 28, 1)) * FLAGS.stretch
    timing.show(times, "one seed, one device", FLAGS.stretch / 1e3, "ms", floor)


if __name__ == "__main__":
    app.run(main)
