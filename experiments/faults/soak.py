"""Does a long run stay as it began? Memory, open files and the cost of a step.

    python -m experiments.faults.soak --minutes=120

A run of the small networks, with checkpoints, frames, events and evaluations, is
watched from outside. The cost of a step is processor time, so that a machine with other
work to do shows no drift that is not the run's own.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_float("minutes", 120, "How long.")
flags.DEFINE_float("every", 30, "Seconds between looks.")
flags.DEFINE_string("workdir", "", "Of the run; default: a temporary folder.")

_RUN = {
    "architecture": "mnist_tiny",
    "augment": "digits",
    "real_mi_weight": 1.0,
    "batch_size": 32,
    "steps": 2**31 - 1,
    "checkpoint_every": 500,
    "sample_every": 500,
    "eval_every": 5000,
}
_SETTLED = 0.25  # share of the time after which memory has to be flat
_PARTS = 6  # rows of the table


def main(argv: list[str]) -> None:
    del argv
    workdir = Path(FLAGS.workdir or tempfile.mkdtemp(prefix="soak_"))
    command = [sys.executable, "-m", "infogan_jax.main", f"--workdir={workdir}"]
    command += [f"--{name}={value}" for name, value in _RUN.items()]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    process, looks = psutil.Process(run.pid), []
    end = time.monotonic() + 60 * FLAGS.minutes
    while time.monotonic() < end and run.poll() is None:
        time.sleep(FLAGS.every)
        if step := _last_step(workdir / "metrics.jsonl"):
            with process.oneshot():
                times, memory = process.cpu_times(), process.memory_info().rss
                seconds = times.user + times.system
                counts = process.num_fds(), process.num_threads()
            looks.append((step, seconds, memory / 2**20, *counts))
    run.terminate()
    code = run.wait()
    if code != 128 + 15:
        sys.exit(f"the run ended by itself, with {code}")
    steps, seconds, memory, files, threads = np.array(looks).T
    cost = np.diff(seconds) / np.diff(steps) * 1e3
    print(f"{steps[-1]:,.0f} steps in {FLAGS.minutes:g} minutes, in {_PARTS} parts:")
    print("to step  ms of processor a step  MiB  open files  threads")
    for part in np.array_split(np.arange(1, len(steps)), _PARTS):
        print(
            f"{steps[part[-1]]:9,.0f} {np.median(cost[part - 1]):8.2f} "
            f"{np.median(memory[part]):8.0f} {files[part].max():6.0f} "
            f"{threads[part].max():6.0f}",
            flush=True,
        )
    settled = np.arange(len(steps)) >= _SETTLED * len(steps)
    hour = 3600 / FLAGS.every
    for name, values in {
        "memory, MiB": memory,
        "ms a step": np.r_[cost[0], cost],
    }.items():
        slope = np.polyfit(np.flatnonzero(settled), values[settled], 1)[0] * hour
        print(f"{name}: {slope:+.3g} an hour, {slope / values[-1]:+.2%}")


def _last_step(path: Path) -> int:
    """Of the last whole line; 0 if there is none yet."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = file.read().split(b"\n")[:-1]
    return json.loads(lines[-1])["step"] if lines else 0


if __name__ == "__main__":
    app.run(main)
