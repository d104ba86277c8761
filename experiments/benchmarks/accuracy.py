"""Seconds from process start to 95 % and 98 % accuracy on MNIST's test set.

    python -m experiments.benchmarks.accuracy [--seeds=0,1,2] [--run=FLAGFILE]

A process of the program itself, evaluated every 52 steps; its metrics are watched.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_list("seeds", ["0"], "Seeds, one run each.")
flags.DEFINE_list("targets", ["0.95", "0.98"], "Accuracies; a run ends at the last.")
flags.DEFINE_string("run", "experiments/mnist.cfg", "Flagfile of the run.")
flags.DEFINE_list("flags", [], "Further flags of the run.")


def accuracies(metrics: Path) -> list[float]:
    """Those told so far, whole lines only."""
    if not metrics.exists():
        return []
    lines = metrics.read_text().split("\n")[:-1]
    found = (json.loads(line).get("eval/cat/accuracy") for line in lines)
    return [value for value in found if value is not None]


def measure(seed: str) -> dict[str, float]:
    """Target -> seconds, for those that are reached."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "infogan_jax.main",
            f"--flagfile={FLAGS.run}",
            f"--workdir={folder}/run",
            f"--seed={seed}",
            "--eval_every=52",
            "--frame_every=0",
            "--evaluators=clustering",
            *(f"--{flag}" for flag in FLAGS.flags),
        ]
        begin, reached = time.perf_counter(), {}
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while process.poll() is None and len(reached) < len(FLAGS.targets):
            time.sleep(0.1)
            best = max(accuracies(Path(folder) / "run" / "metrics.jsonl"), default=0)
            for target in FLAGS.targets:
                if best >= float(target):
                    reached.setdefault(target, time.perf_counter() - begin)
        process.terminate()
        process.wait()
        return reached


def main(_):
    for seed in FLAGS.seeds:
        reached = measure(seed)
        told = (
            f"{target} after {reached[target]:.0f} s"
            if target in reached
            else f"{target} not reached"
            for target in FLAGS.targets
        )
        print(f"seed {seed}: {', '.join(told)}", flush=True)


if __name__ == "__main__":
    app.run(main)
