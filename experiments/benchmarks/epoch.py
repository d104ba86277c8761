"""An epoch of 60,000 images through the paper's network, data included.

    python -m experiments.benchmarks.epoch [--batch_size=128] [--images=60000]

Ours with the images on the device and streamed from ArrayRecord; the peers take batches
from the host's memory. The floor is that of `distributed.roofline`, for all steps.
"""

import functools
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging

from experiments.benchmarks import peers, synthetic, timing
from infogan_jax import Config, build_model, make_train_step
from infogan_jax.data import Stream, batch_indices, load
from infogan_jax.distributed import devices

FLAGS = flags.FLAGS
flags.DEFINE_integer("batch_size", 128, "Images per step.")
flags.DEFINE_integer("images", 60_000, "Of the synthetic dataset.")
flags.DEFINE_integer("repeats", 3, "Epochs of each side, in turn.")
flags.DEFINE_integer("stretch", 13, "Steps of a compiled call.")
flags.DEFINE_bool("compile", False, "Have torch.compile too, which takes a minute.")

SHAPE = (28, 28, 1)


def ours(images, streamed: bool, rates: list[str]):
    """A call that takes an epoch, and notes in `rates` how fast it read."""
    config = Config(batch_size=FLAGS.batch_size)
    mesh = devices.make_mesh(jax.devices()[:1])  # peers have one
    length = FLAGS.stretch
    model = build_model(config, SHAPE)
    step = make_train_step(model)
    run = devices.make_multi_step(step, mesh, length, streamed=streamed)
    state = [devices.replicate(model.init(jax.random.key(0)), mesh)]
    n = len(images)
    steps = n // FLAGS.batch_size
    resident = None if streamed else devices.replicate(jnp.asarray(images), mesh)

    def take(begin, end):
        each = [batch_indices(0, i, FLAGS.batch_size, n) for i in range(begin, end)]
        batches = np.array(each)
        if not streamed:
            return resident, batches
        return devices.load_batches(images, batches, mesh, length, 1), batches

    stream = Stream(take)

    @functools.cache
    def compiled():
        return run.lower(state[0], *take(0, min(length, steps))).compile()

    def go():
        stream.rates()  # of this epoch alone
        for begin in range(0, steps, length):
            end = min(begin + length, steps)
            arrays, batches = stream.get(begin, end)
            if end < steps:  # nothing is read while others are measured
                stream.prefetch(end, min(end + length, steps))
            state[0], *metrics = compiled()(state[0], arrays, batches)
            jax.block_until_ready(metrics)
        made, waited = stream.rates()
        rates.append(
            f"read {made * FLAGS.batch_size:,.0f} images/s, {waited:.1%} waited"
        )

    return go


def main(_):
    logging.set_verbosity(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        synthetic.prepare(Path(folder), FLAGS.images, SHAPE)
        config = Config(
            dataset="tfds:synthetic", data_dir=folder, data_placement="stream"
        )
        stored = load(config).images
        images = stored[:]
        name, rates = "ours, resident", list[str]()
        sides = {
            name: ours(images, False, []),
            "ours, streamed": ours(stored, True, rates),
        }
        steps = len(images) // FLAGS.batch_size
        batches = images[: steps * FLAGS.batch_size].reshape(steps, -1, *SHAPE)
        for peer, take in peers.all_of_them(FLAGS.batch_size, FLAGS.compile).items():
            sides[peer] = functools.partial(take, batches)
        times = timing.in_turn(sides, FLAGS.repeats)
        floor = steps * timing.step_floor(Config(batch_size=FLAGS.batch_size), SHAPE)
    print(f"{timing.machine()}: an epoch of {len(images):,} images")
    timing.show(times, name, 1, "s", floor)
    print(f"  100 epochs at this rate: {100 * np.median(times[name]):,.0f} s")
    print(f"  streamed: {rates[-1]}")


if __name__ == "__main__":
    app.run(main)
