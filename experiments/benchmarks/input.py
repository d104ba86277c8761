"""Batches per second from ArrayRecord, without training: our threads and Grain.

    python -m experiments.benchmarks.input [--side=28] [--images=20000]

Both decode the same PNG records of the same dataset to uint8, in random order. Grain,
if it is installed, has as many threads as there are cores, or worker processes besides;
all sides run on from one measurement to the next, so that none pays for starting.
"""

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from absl import app, flags, logging

from experiments.benchmarks import synthetic, timing
from infogan_jax import Config
from infogan_jax.data import batch_indices, imaging, load

FLAGS = flags.FLAGS
flags.DEFINE_integer("images", 20_000, "Of the synthetic dataset.")
flags.DEFINE_integer("side", 28, "Of an image, in pixels.")
flags.DEFINE_integer("batch_size", 128, "Images per batch.")
flags.DEFINE_integer("stretch", 50, "Batches per measurement.")
flags.DEFINE_integer("repeats", 5, "Times each side is measured, in turn.")
flags.DEFINE_list("workers", ["1", "2"], "Processes of Grain, in turn.")


def ours(folder: str) -> Iterator[np.ndarray]:
    """Batches without end."""
    config = Config(dataset="tfds:synthetic", data_dir=folder, data_placement="stream")
    images = load(config).images
    for step in itertools.count():
        yield images[batch_indices(0, step, FLAGS.batch_size, len(images))]


def decode(record: dict) -> np.ndarray:
    return imaging.decode(record["image"], "L")


def grains(folder: str, workers: int) -> Iterator[np.ndarray]:
    """Batches without end, of as many processes; 0: threads alone."""
    import grain

    builder = tfds.builder_from_directory(f"{folder}/synthetic/1.0.0")
    skip = {"image": tfds.decode.SkipDecoding()}
    records = builder.as_data_source("train", decoders=skip)
    dataset = grain.MapDataset.source(records).shuffle(seed=0).repeat().map(decode)
    threads = grain.ReadOptions(num_threads=os.cpu_count() or 1)
    batches = dataset.to_iter_dataset(threads).batch(FLAGS.batch_size)
    if workers:
        options = grain.MultiprocessingOptions(num_workers=workers)
        batches = batches.mp_prefetch(options)
    return iter(batches)


def take(batches: Iterator[np.ndarray]) -> Callable[[], None]:
    """A call that takes the next `--stretch` batches."""

    def go():
        for batch in itertools.islice(batches, FLAGS.stretch):
            assert batch.shape == (FLAGS.batch_size, FLAGS.side, FLAGS.side, 1)

    return go


def main(_):
    logging.set_verbosity(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        synthetic.prepare(Path(folder), FLAGS.images, (FLAGS.side, FLAGS.side, 1))
        sides = {"ours, threads": take(ours(folder))}
        try:
            sides["Grain, threads"] = take(grains(folder, 0))
        except ImportError:
            print("Grain is not installed")
        else:
            for workers in map(int, FLAGS.workers):
                sides[f"Grain, processes: {workers}"] = take(grains(folder, workers))
        times = timing.in_turn(sides, FLAGS.repeats)
    print(f"{timing.machine()}: batches of {FLAGS.batch_size}, {FLAGS.side} pixels")
    timing.show(times, "ours, threads", FLAGS.stretch / 1e3, "ms")
    for name, seconds in times.items():
        rate = FLAGS.stretch * FLAGS.batch_size / np.median(seconds)
        print(f"  {name}: {rate:,.0f} images/s")


if __name__ == "__main__":
    app.run(main)
