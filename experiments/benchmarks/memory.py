"""Memory that training steps take at their peak, beside PyTorch, if it is installed.

    python -m experiments.benchmarks.memory

Each side is a process of its own, which takes twelve steps of the paper's network; ours
compiles them, and a second one finds them compiled.
"""

import os
import resource
import subprocess
import sys
import tempfile

import numpy as np
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_integer("batch_size", 128, "Images per step.")
flags.DEFINE_enum("side", "", ["", "ours", "pytorch"], "Set by the program itself.")
flags.DEFINE_bool("recommended", False, "Set by the program itself.")

_LENGTH, _CALLS = 4, 3
_CACHE = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


def ours() -> None:
    import dataclasses

    from experiments.benchmarks import ours
    from infogan_jax import Config

    config = Config(batch_size=FLAGS.batch_size)
    if FLAGS.recommended:
        config = dataclasses.replace(config, **ours.RECOMMENDED)
    go = ours.steps(config, _LENGTH)
    for _ in range(_CALLS):
        go()


def pytorch() -> None:
    from experiments.benchmarks.torch_peer import take_steps

    latents = 74  # of the paper's codes and noise
    take = take_steps(FLAGS.batch_size, latents, recommended=FLAGS.recommended)
    shape = (_LENGTH, FLAGS.batch_size, 28, 28, 1)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for _ in range(_CALLS):
        take(images)


def main(_):
    if FLAGS.side:
        {"ours": ours, "pytorch": pytorch}[FLAGS.side]()
        print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:,.0f} MiB")
        return
    for objective in ("norecommended", "recommended"):
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | _CACHE | {"JAX_COMPILATION_CACHE_DIR": folder}
            for side in ("ours", "ours, from the cache", "pytorch"):
                command = [sys.executable, "-m", "experiments.benchmarks.memory"]
                command += [f"--side={side.partition(',')[0]}", f"--{objective}"]
                command += [f"--batch_size={FLAGS.batch_size}"]
                done = subprocess.run(
                    command, env=environment, capture_output=True, text=True
                )
                peak = "failed" if done.returncode else done.stdout.splitlines()[-1]
                name = "recommended" if objective == "recommended" else "the paper's"
                print(f"  {name:12} {side:22} {peak}", flush=True)


if __name__ == "__main__":
    app.run(main)
