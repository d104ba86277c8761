"""All benchmarks in one command, sized for the machine.

    python -m experiments.benchmarks [--output=FOLDER]

Each is a process of its own, and a script that can be run alone. What it prints goes to
FOLDER/NAME.txt as well. One that fails keeps no other from running; the exit code is
then 1.
"""

import subprocess
import sys
from pathlib import Path

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("output", "runs/benchmarks", "Folder of what they print.")
flags.DEFINE_list("only", [], "Some of them, by name; default: all.")

ON_CPU = {
    "step": [],
    "epoch": ["--images=6656"],
    "input": [],
    "seeds": [],
    "accuracy": [],
    "scaling": [],
    "inference": ["--flagfile=quickstart"],
}
ON_ACCELERATOR = {
    "step": ["--batch_sizes=128,1024", "--stretch=100", "--compile"],
    "epoch": ["--stretch=52", "--repeats=10"],
    "input": [],
    "seeds": ["--stretch=200"],
    "options": ["--stretch=200"],
    "accuracy": ["--seeds=0,1,2"],
    "scaling": ["--architecture=mnist", "--stretch=100"],
    "inference": ["--flagfile=quickstart"],
}


def has_accelerator() -> bool:
    """Asked of another process, for this one must not take its memory."""
    asked = "import jax; print(jax.default_backend())"
    command = [sys.executable, "-c", asked]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit("jax finds no device; its error is above")
    return done.stdout.strip() != "cpu"


def main(_):
    benchmarks = ON_ACCELERATOR if has_accelerator() else ON_CPU
    if unknown := sorted(set(FLAGS.only) - set(benchmarks)):
        sys.exit(f"--only={','.join(unknown)}: expected some of {list(benchmarks)}")
    folder, failed = Path(FLAGS.output), []
    folder.mkdir(parents=True, exist_ok=True)
    for name in FLAGS.only or benchmarks:
        module = f"experiments.benchmarks.{name}"
        command = [sys.executable, "-m", module, *benchmarks[name]]
        print(f"\n$ {' '.join(['python', *command[1:]])}", flush=True)
        with (folder / f"{name}.txt").open("w") as file:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            for line in process.stdout or ():
                print(line, end="", flush=True)
                file.write(line)
        if process.wait():
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    app.run(main)
