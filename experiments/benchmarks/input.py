"""Images per second from ArrayRecord, without training: ours and Grain's.

    python -m experiments.benchmarks.input [--side=28] [--images=20000]

Ours decodes in threads of the process. Grain, if it is installed, has as many threads,
or worker processes. Both read the same records in the same random order.
"""

import tempfile
from pathlib import Path

import numpy as np
from absl import app, flags

from experiments.benchmarks import synthetic, timing
from infogan_jax import Config
from infogan_jax.data import batch_indices, load

FLAGS = flags.FLAGS
flags.DEFINE_integer("images", 20_000, "Of the synthetic dataset, each read once.")
flags.DEFINE_integer("side", 28, "Of an image, in pixels.")
flags.DEFINE_integer("batch_size", 128, "Images per batch.")
flags.DEFINE_integer("repeats", 5, "Times each side is measured, in turn.")
flags.DEFINE_list("workers", ["1", "2"], "Processes of Grain, besides its threads.")


class InOrder:
    """Images one by one, in the order in which batches take them."""

    def __init__(self, images, order: np.ndarray):
        self._images, self._order = images, order

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, place: int) -> np.ndarray:
        return self._images[self._order[place : place + 1]][0]


def grain_sides(images, order: np.ndarray):
    """Name -> a call that reads all of them; none without Grain."""
    try:
        import grain
    except ImportError:
        return {}
    from absl import logging

    logging.set_verbosity(logging.ERROR)

    def reader(workers: int):
        dataset = grain.MapDataset.source(InOrder(images, order))
        batches = dataset.to_iter_dataset().batch(FLAGS.batch_size)
        if workers:
            options = grain.MultiprocessingOptions(num_workers=workers)
            batches = batches.mp_prefetch(options)

        def go():
            count = sum(len(batch) for batch in batches)
            assert count == len(order), (count, len(order))

        return go

    sides = {"Grain, threads": reader(0)}
    for workers in map(int, FLAGS.workers):
        sides[f"Grain, processes: {workers}"] = reader(workers)
    return sides


def main(_):
    size, count = FLAGS.batch_size, FLAGS.images
    batches = [batch_indices(0, step, size, count) for step in range(count // size)]
    order = np.concatenate(batches)
    with tempfile.TemporaryDirectory() as folder:
        synthetic.prepare(Path(folder), FLAGS.images, (FLAGS.side, FLAGS.side, 1))
        config = Config(dataset="tfds:synthetic", data_dir=folder, input="stream")
        images = load(config).images

        def ours():
            for batch in batches:
                images[batch]

        sides = {"ours, threads": ours, **grain_sides(images, order)}
        times = timing.in_turn(sides, FLAGS.repeats)
    print(f"{timing.machine()}: {len(order):,} images of {FLAGS.side} pixels")
    timing.show(times, "ours, threads", 1, "s")
    for name, seconds in times.items():
        print(f"  {name}: {len(order) / np.median(seconds):,.0f} images/s")


if __name__ == "__main__":
    app.run(main)
