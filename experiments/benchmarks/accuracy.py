"""Seconds from process start to 95 % and 98 % accuracy on MNIST's test set.

    python -m experiments.benchmarks.accuracy [--seeds=0,1,2] [--run=FLAGFILE]

A process of the program itself, evaluated every 52 steps; its metrics are watched. The
floor is that of `distributed.roofline`, of a step. No peer is beside it: the public
objectives do not come to 98 %, and ours in another library would be our own again.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import app, flags

from experiments.benchmarks import timing
from infogan_jax.run.directory import Run

FLAGS = flags.FLAGS
flags.DEFINE_list("seeds", ["0"], "Seeds, one run each.")
flags.DEFINE_list("targets", ["0.95", "0.98"], "Accuracies; a run ends at the last.")
flags.DEFINE_string("run", "experiments/mnist.cfg", "Flagfile of the run.")
flags.DEFINE_list("flags", [], "Further flags of the run.")


def accuracies(metrics: Path) -> dict[int, float]:
    """Step -> accuracy, of those told so far, whole lines only."""
    if not metrics.exists():
        return {}
    rows = map(json.loads, metrics.read_text().split("\n")[:-1])
    key = "eval/cat/accuracy"
    return {row["step"]: row[key] for row in rows if key in row}


def measure(seed: str) -> tuple[dict[str, tuple[float, int]], tuple]:
    """Target -> seconds and steps, of those reached; config and image shape."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [
            sys.executable,
            "-m",
            "infogan_jax.main",
            f"--flagfile={FLAGS.run}",
            f"--workdir={run}",
            f"--seed={seed}",
            "--eval_every=52",
            "--sample_every=0",
            "--evaluators=clustering",
            *(f"--{flag}" for flag in FLAGS.flags),
        ]
        begin = time.perf_counter()
        reached: dict[str, tuple[float, int]] = {}
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while process.poll() is None and len(reached) < len(FLAGS.targets):
            time.sleep(0.1)
            for step, accuracy in accuracies(run / "metrics.jsonl").items():
                for target in FLAGS.targets:
                    if accuracy >= float(target):
                        took = time.perf_counter() - begin
                        reached.setdefault(target, (took, step))
        if process.poll():
            sys.exit(f"seed {seed}: the run ended early; its error is above")
        process.kill()  # it has nothing to save
        process.wait()
        info = Run.open(run).info
        return reached, (info.config, info.image_shape)


def main(_):
    for seed in FLAGS.seeds:
        reached, about = measure(seed)
        told = [
            "{} after {:.0f} s, {} steps".format(target, *reached[target])
            if target in reached
            else f"{target} not reached"
            for target in FLAGS.targets
        ]
        print(f"seed {seed}: {', '.join(told)}", flush=True)
    # At the end, for the runs need the device's memory
    print(f"floor of a step: {timing.step_floor(*about) * 1e3:.1f} ms")


if __name__ == "__main__":
    app.run(main)
