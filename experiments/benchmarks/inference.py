"""Pictures made and images read, per second, beside what the networks allow.

    python -m experiments.benchmarks.inference --flagfile=quickstart [--count=100000]

An untrained model of the flagfile, for weights do not change the time. The floor is a
network's FLOPs over the rate of a matrix product on one device.
"""

import jax
import numpy as np
from absl import app, flags

from experiments.benchmarks import timing
from infogan_jax import Trained, build_model
from infogan_jax.data import load
from infogan_jax.distributed.roofline import matmul_rate, network_costs
from infogan_jax.flags import config_from_flags, parse_flags

FLAGS = flags.FLAGS
flags.DEFINE_integer("count", 100_000, "Pictures made, and images read.")
flags.DEFINE_integer("repeats", 3, "Times each side is measured, in turn.")


def main(_):
    config, count = config_from_flags(), FLAGS.count
    images = load(config).images
    model = build_model(config, images.shape[1:])
    trained = Trained(model, model.init(jax.random.key(config.seed)))
    images = images[np.arange(count) % len(images)]
    latents = trained.sample_latents(jax.random.key(1), count)
    g, d, q = (cost or 0.0 for _, cost in network_costs(model).values())
    floors = np.array([g, d + q]) * count / matmul_rate(config.dtype)
    print(timing.machine())
    sides = {
        "generate": lambda: trained.generate(latents),
        "embed": lambda: trained.embed(images),
    }
    times = timing.in_turn(sides, FLAGS.repeats)
    for (name, seconds), floor in zip(times.items(), floors, strict=True):
        low, middle, high = count / np.percentile(seconds, [100, 50, 0])
        print(
            f"  {name:12} {middle:8,.0f} images/s ({low:,.0f} to {high:,.0f}), "
            f"{floor / np.median(seconds):.0%} of {count / floor:,.0f}"
        )


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
