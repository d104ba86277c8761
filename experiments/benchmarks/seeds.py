"""Ten seeds at once against one: the half-width network, the recommended objective.

python -m experiments.benchmarks.seeds [--replicas=10]
"""

import jax
from absl import app, flags

from experiments.benchmarks import ours, timing
from infogan_jax import Config, parallel

FLAGS = flags.FLAGS
flags.DEFINE_integer("replicas", 10, "Seeds at once.")
flags.DEFINE_integer("repeats", 5, "Times each side is measured, in turn.")
flags.DEFINE_integer("stretch", 10, "Steps per measurement.")


def main(_):
    parallel.give_replicas_cores(FLAGS.replicas)
    config = {"architecture": "mnist_half", **ours.RECOMMENDED}
    many = Config(**config, seeds=FLAGS.replicas)
    sides = {
        "one seed, one device": ours.steps(
            Config(**config), FLAGS.stretch, devices=jax.devices()[:1]
        ),
        f"{FLAGS.replicas} seeds, all devices": ours.steps(many, FLAGS.stretch),
    }
    print(timing.machine())
    times = timing.in_turn(sides, FLAGS.repeats)
    floor = timing.step_floor(Config(**config), (28, 28, 1)) * FLAGS.stretch
    timing.show(times, "one seed, one device", FLAGS.stretch / 1e3, "ms", floor)


if __name__ == "__main__":
    app.run(main)
