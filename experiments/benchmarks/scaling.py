"""Time and memory as work grows: a table for each way in which it can.

    python -m experiments.benchmarks.scaling [--axes=batch,size,..]

Each row is a process of its own, for its peak of memory. Rows of `images` stream a
synthetic dataset from ArrayRecord; all others train on noise in memory.
`base_channels` is of dcgan at 32 pixels, `steps` is the length of one compiled call of
the smallest networks.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags, logging

FLAGS = flags.FLAGS
AXES = {
    "batch": [32, 64, 128, 256, 512],
    "size": [28, 32, 64, 96, 128],
    "base_channels": [8, 16, 32, 64],
    "codes": [2, 10, 100, 1000],
    "num_seeds": [1, 2, 4, 8],
    "devices": [1, 2, 4, 8],
    "steps": [10, 100, 1000, 10_000],
    "images": [10**3, 10**4, 10**5, 10**6, 10**7],
}
flags.DEFINE_list("axes", list(AXES), "What grows.")
flags.DEFINE_string("architecture", "mnist_half", "Networks.")
flags.DEFINE_integer("most_images", 10**6, "The longest row of `images`.")
flags.DEFINE_integer("stretch", 10, "Steps per measurement.")
flags.DEFINE_integer("repeats", 5, "Measurements of each row.")
flags.DEFINE_string("row", "", "One row, AXIS=VALUE; set by the program itself.")


def measure(axis: str, value: int) -> dict:
    """Milliseconds a step and MiB at the peak, and of images what preparing took.

    Nothing, if there are not so many devices.
    """
    if axis == "devices":
        os.environ["JAX_NUM_CPU_DEVICES"] = str(value)
    import jax

    from experiments.benchmarks import ours
    from infogan_jax import Config

    every: dict[str, dict[str, Any]] = {
        "batch": {"batch_size": value},
        "codes": {"codes": f"cat:{value},uniform:2,noise:62"},
        "num_seeds": {"num_seeds": value},
        "steps": {"architecture": "mnist_tiny", "batch_size": 16},
        "base_channels": {"architecture": "dcgan", "base_channels": value},
    }
    changes = every.get(axis, {})
    usual = {"architecture": FLAGS.architecture, **ours.RECOMMENDED}
    config = Config(**{**usual, **changes})
    side = {"size": value, "base_channels": 32}.get(axis, 28)
    length = value if axis == "steps" else FLAGS.stretch
    found = {}
    if axis == "images":
        found, go = streamed(value)
    else:
        devices = jax.devices()
        if axis == "devices":
            if len(devices) < value:
                return {}
            devices = devices[:value]
        go = ours.steps(config, length, (side, side, 1), devices)
    go()
    times = []
    for _ in range(FLAGS.repeats):
        begin = time.perf_counter()
        go()
        times.append((time.perf_counter() - begin) / length)
    found = {"ms a step": np.median(times) * 1e3, **found}
    found["MiB of the host"] = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    )
    told = jax.local_devices()[0].memory_stats() or {}  # CPU devices tell nothing
    if "peak_bytes_in_use" in told:
        found["MiB of a device"] = told["peak_bytes_in_use"] / 2**20
    return found


def streamed(count: int):
    """Batches read from disk, without training, so that reading shows."""
    from experiments.benchmarks import synthetic
    from infogan_jax import Config
    from infogan_jax.data import batch_indices, load

    folder = tempfile.TemporaryDirectory()
    begin = time.perf_counter()
    synthetic.prepare(Path(folder.name), count, (28, 28, 1))
    prepared = time.perf_counter() - begin
    config = Config(
        dataset="tfds:synthetic", data_dir=folder.name, data_placement="stream"
    )
    images, step = load(config).images, iter(range(10**9))

    def go(keep=folder):
        for _ in range(FLAGS.stretch):
            images[batch_indices(0, next(step), config.batch_size, count)]

    return {"us to prepare an image": prepared / count * 1e6}, go


def main(_):
    logging.set_verbosity(logging.ERROR)  # tfds has much to say
    if FLAGS.row:
        axis, value = FLAGS.row.split("=")
        print(json.dumps(measure(axis, int(value))))
        return
    for axis in FLAGS.axes:
        for value in AXES[axis]:
            if axis == "images" and value > FLAGS.most_images:
                continue
            command = [sys.executable, "-m", "experiments.benchmarks.scaling"]
            command += [f"--row={axis}={value}", f"--architecture={FLAGS.architecture}"]
            command += [f"--stretch={FLAGS.stretch}", f"--repeats={FLAGS.repeats}"]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                sys.exit(f"{axis} {value}: stopped; its error is above")
            found = json.loads(done.stdout.splitlines()[-1])
            shown = ", ".join(f"{v:,.1f} {name}" for name, v in found.items())
            shown = shown or "not so many here"
            print(f"{axis:8} {value:>10,}  {shown}", flush=True)


if __name__ == "__main__":
    app.run(main)
