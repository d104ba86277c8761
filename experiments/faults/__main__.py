"""Does a run survive? Real processes are killed, real files are harmed.

    python -m experiments.faults --trials=200 --seed=0

First one run of the small networks is left alone. Then each trial starts the same run,
does it harm at a moment that is drawn, starts the same command again until it is done,
and compares: the state, metrics.jsonl, the measures and the figures have to equal those
of the run that was left alone, byte by byte. One line per trial, a table at the end;
the exit code is 1 if anything was lost.
"""

import dataclasses
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_integer("trials", 20, "How many.")
flags.DEFINE_integer("seed", 0, "Of kinds and moments.")
flags.DEFINE_integer("parallel", 2, "Trials at a time.")
flags.DEFINE_list("kinds", None, "Only these faults; default: all.")
flags.DEFINE_string("workdir", "", "Folder of the runs; default: a temporary one.")

_RUN = {
    "architecture": "mnist_tiny",
    "warp": "digits",
    "real_weight": 1.0,
    "batch_size": 16,
    "steps": 60,
    "log_every": 5,
    "checkpoint_every": 10,
    "frame_every": 20,
    "eval_every": 30,
    "tensorboard": "false",
}
_LIMIT = 120  # seconds that a command may take
_ATTEMPTS = 5


@dataclasses.dataclass(frozen=True)
class Trial:
    number: int
    kind: str
    moment: float  # share of the time that the run takes when left alone
    random: random.Random


def command(workdir: Path, home: Path) -> list[str]:
    flags_of_run = [f"--{name}={value}" for name, value in _RUN.items()]
    return [
        *(sys.executable, "-m", "infogan_jax.main", f"--workdir={workdir}"),
        *(f"--data_dir={home / 'data'}", *flags_of_run),
    ]


def start(workdir: Path, home: Path) -> subprocess.Popen:
    return subprocess.Popen(
        command(workdir, home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(home / "cache")},
        start_new_session=True,
    )


def finish(workdir: Path, home: Path) -> tuple[int, str]:
    """The same command again; its exit code and what it said."""
    process = start(workdir, home)
    try:
        said, _ = process.communicate(timeout=_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
        return -1, f"{said}\nhung for {_LIMIT} s"
    return process.returncode, said


def result(workdir: Path) -> dict[str, str]:
    """A digest of each thing that a run is for."""
    import jax

    from infogan_jax import workdir as runs
    from infogan_jax.evaluation.inference import digest

    (state,) = runs.load_states(workdir)
    found = {"state": digest(state.replace(key=jax.random.key_data(state.key)))}
    for path in sorted(workdir.rglob("*")):
        name = path.relative_to(workdir).as_posix()
        is_result = name.startswith(("figures/", "frames/")) or name in (
            "metrics.jsonl",
            "evaluation.json",
        )
        if is_result and path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


# The faults: each is done to a run under way, and tells what it did


def kill(process, workdir: Path, trial: Trial) -> str:
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return "killed"


def kill_twice(process, workdir: Path, trial: Trial) -> str:
    """And once more, soon after the next start."""
    kill(process, workdir, trial)
    again = start(workdir, workdir.parent)
    time.sleep(8 * trial.random.random())
    kill(again, workdir, trial)
    return "killed twice"


def terminate(process, workdir: Path, trial: Trial) -> str:
    return _politely(process, signal.SIGTERM)


def interrupt(process, workdir: Path, trial: Trial) -> str:
    return _politely(process, signal.SIGINT)


def _politely(process, signum: signal.Signals) -> str:
    process.send_signal(signum)
    asked = time.monotonic()
    process.communicate(timeout=_LIMIT)
    took = time.monotonic() - asked
    return f"{signum.name}: exit {process.returncode} after {took:.1f} s"


def _newest(workdir: Path) -> Path | None:
    whole = [p.parent for p in (workdir / "checkpoints").glob("*/digests.json")]
    return max(whole, key=lambda p: int(p.name), default=None)


def _harm(process, workdir: Path, trial: Trial, how: Callable[[Path], None]) -> str:
    """To a file of the newest checkpoint that has digests, of a run that was killed.

    The newest one of all may have none yet; it goes, so that the harmed one counts.
    """
    kill(process, workdir, trial)
    folder = _newest(workdir)
    if folder is None:
        return "killed before a checkpoint was there to harm"
    for other in (workdir / "checkpoints").glob("*"):
        if other.name.isdigit() and int(other.name) > int(folder.name):
            shutil.rmtree(other)
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    path = trial.random.choice([p for p in files if p.name != "digests.json"])
    how(path)
    return f"{path.relative_to(workdir)}: {how.__name__}"


def cut(process, workdir: Path, trial: Trial) -> str:
    def cut_short(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])

    return _harm(process, workdir, trial, cut_short)


def flip(process, workdir: Path, trial: Trial) -> str:
    def a_bit_flipped(path: Path) -> None:
        content = bytearray(path.read_bytes())
        if content:
            content[trial.random.randrange(len(content))] ^= 1
        path.write_bytes(content or b"x")

    return _harm(process, workdir, trial, a_bit_flipped)


def lose(process, workdir: Path, trial: Trial) -> str:
    return _harm(process, workdir, trial, Path.unlink)


FAULTS = {
    function.__name__: function
    for function in (kill, kill_twice, terminate, interrupt, cut, flip, lose)
}


def attempt(trial: Trial, home: Path, expected: dict, duration: float) -> dict:
    """One trial, to its end."""
    folder = home / f"trial_{trial.number}"
    folder.mkdir()
    for name in ("data", "cache"):
        (folder / name).symlink_to(home / name)
    workdir = folder / "run"
    process = start(workdir, folder)
    time.sleep(trial.moment * duration)
    did = FAULTS[trial.kind](process, workdir, trial)
    begun, lost = time.monotonic(), ""
    for _ in range(_ATTEMPTS):
        code, said = finish(workdir, folder)
        if code == 0:
            break
        # A run whose only checkpoint was harmed says so and begins anew when told.
        if "no checkpoint can be used" in said:
            did += "; no other was there, begun anew"
            shutil.rmtree(workdir)
            continue
        lost = f"exit {code}: {said.splitlines()[-1] if said else ''}"
    else:
        lost = lost or "never done"
    if code == 0:
        found = result(workdir)
        other = [n for n in {*expected, *found} if expected.get(n) != found.get(n)]
        lost = f"other than left alone: {sorted(other)[:4]}" if other else ""
        steps = [
            json.loads(line)["step"]
            for line in (workdir / "metrics.jsonl").read_text().splitlines()
        ]
        if steps != sorted(set(steps)):
            lost = "a step is logged twice"
    if not lost:
        shutil.rmtree(folder)
    seconds = time.monotonic() - begun
    return {"trial": trial, "did": did, "lost": lost, "seconds": seconds}


def main(argv: list[str]) -> None:
    del argv
    kinds = FLAGS.kinds or sorted(FAULTS)
    home = Path(FLAGS.workdir or tempfile.mkdtemp(prefix="faults_")).absolute()
    home.mkdir(parents=True, exist_ok=True)
    for name in ("data", "cache"):
        (home / name).mkdir(exist_ok=True)
    for name in ("warming", "alone"):  # the first one fills the cache
        shutil.rmtree(home / name, ignore_errors=True)
        begun = time.monotonic()
        code, said = finish(home / name, home)
        if code:
            sys.exit(f"the run that is left alone ended with {code}:\n{said}")
    duration = time.monotonic() - begun
    expected = result(home / "alone")
    print(f"left alone: {duration:.1f} s, {len(expected)} results", flush=True)
    drawn = random.Random(FLAGS.seed)
    trials = [
        Trial(n, drawn.choice(kinds), drawn.random(), random.Random(drawn.random()))
        for n in range(FLAGS.trials)
    ]
    # Two at a time take about twice as long each
    slow = duration * min(FLAGS.parallel, 2) * 0.8
    table: dict[str, list[dict]] = {}
    with ThreadPoolExecutor(FLAGS.parallel) as pool:
        for row in pool.map(lambda t: attempt(t, home, expected, slow), trials):
            trial = row["trial"]
            table.setdefault(trial.kind, []).append(row)
            print(
                f"{trial.number:3} {trial.kind:10} at {trial.moment:4.0%}: "
                f"{row['did']}; recovered in {row['seconds']:.1f} s"
                + (f"  LOST: {row['lost']}" if row["lost"] else ""),
                flush=True,
            )
    print("fault        trials  lost  recovery, median s")
    for kind, rows in sorted(table.items()):
        lost = sum(bool(row["lost"]) for row in rows)
        seconds = float(np.median([row["seconds"] for row in rows]))
        print(f"{kind:12} {len(rows):6}  {lost:4}  {seconds:.1f}")
    losses = sum(bool(row["lost"]) for rows in table.values() for row in rows)
    print(f"{losses} of {FLAGS.trials} lost" + (f"; see {home}" if losses else ""))
    sys.exit(bool(losses))


if __name__ == "__main__":
    app.run(main)
