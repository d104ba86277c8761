"""Does a run survive? Real processes are killed, real files and disks are harmed.

    python -m experiments.faults --trials=200 --seed=0

First each variant of a small run is left alone. Then each trial starts the same run,
does it harm at a moment that is drawn, starts the same command again until it is done,
and compares: the state, metrics.jsonl, the measures and the figures have to equal those
of the run that was left alone, byte by byte. One line per trial, a table at the end;
the exit code is 1 if anything was lost.
"""

import contextlib
import dataclasses
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from absl import app, flags, logging

from experiments.faults.kinds import FAULTS, available, small_disk
from experiments.faults.runs import VARIANTS, Lost, Run
from infogan_jax.errors import first_line

FLAGS = flags.FLAGS
flags.DEFINE_integer("trials", 20, "How many.")
flags.DEFINE_integer("seed", 0, "Of kinds and moments.")
flags.DEFINE_integer("parallel", 2, "Trials at a time.")
flags.DEFINE_list("kinds", None, "Only these faults; default: all.")
flags.DEFINE_string("workdir", "", "Folder of the runs; default: a temporary one.")


@dataclasses.dataclass(frozen=True)
class Alone:
    """A run that was left alone."""

    seconds: float
    result: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Trial:
    number: int
    kind: str
    variant: str
    seed: float


@dataclasses.dataclass(frozen=True)
class Outcome:
    did: str
    seconds: float  # from the fault to the end of the run
    lost: str = ""


def leave_alone(home: Path, variant: str) -> Alone:
    for folder in (home / f"warming_{variant}", home / f"alone_{variant}"):
        shutil.rmtree(folder, ignore_errors=True)
        run = Run(folder, variant, home / "data", home / "cache")
        begun = time.monotonic()
        ended = run.finish()
        if ended.code:
            sys.exit(f"left alone, a run ended with {ended.code}:\n{ended.error}")
    return Alone(time.monotonic() - begun, run.result())


def attempt(trial: Trial, home: Path, alone: Alone) -> Outcome:
    """One trial, to its end."""
    fault, drawn = FAULTS[trial.kind], random.Random(trial.seed)
    folder = home / f"trial_{trial.number}"
    folder.mkdir()
    data = folder / "data" if fault.own_data else home / "data"
    run = Run(folder, trial.variant, data, home / "cache")
    did, begun = "", time.monotonic()
    with contextlib.ExitStack() as stack:
        if fault.disk:
            run.workdir = stack.enter_context(small_disk(folder / "disk")) / "run"
        try:
            processes = run.start(*(fault.wrap(drawn) if fault.wrap else []))
            if fault.training:
                run.wait_for("**/metrics.jsonl", 1, processes)
            # Two trials at a time are slower each
            slowed = 1.3 if FLAGS.parallel > 1 else 1.0
            time.sleep(drawn.uniform(*fault.span) * alone.seconds * slowed)
            did = fault.do(run, processes, drawn)
            begun = time.monotonic()
            did += _recover(run)
            found = run.result()
            differs = {
                name
                for name in {*alone.result, *found}
                if alone.result.get(name) != found.get(name)
            }
            if differs:
                raise Lost(f"other than left alone: {sorted(differs)[:4]}")
        except Lost as lost:
            (folder / "told.txt").write_text(lost.told)
            return Outcome(did, time.monotonic() - begun, str(lost))
        except Exception as error:  # what was not foreseen is counted as lost, too
            (folder / "told.txt").write_text(traceback.format_exc())
            what = f"{type(error).__name__} {first_line(error)}"
            return Outcome(did, time.monotonic() - begun, what)
        finally:
            run.end()
    shutil.rmtree(folder)
    return Outcome(did, time.monotonic() - begun)


def _recover(run: Run) -> str:
    """The same command, until the run is done; what else it took."""
    ended = run.finish()
    if not ended.code:
        return ""
    # A run whose only checkpoint was damaged says so, and starts over when told.
    if "no checkpoint can be used" not in ended.error:
        raise Lost(f"exit {ended.code}: {ended.last_line}")
    shutil.rmtree(run.workdir)
    return "; no other was there, started over" + _recover(run)


def main(argv: list[str]) -> None:
    del argv
    logging.set_verbosity(logging.ERROR)  # Orbax has much to say
    # What a shell starts in the background ignores it, and so would the runs
    signal.signal(signal.SIGINT, signal.default_int_handler)
    kinds, left_out = available()
    if FLAGS.kinds:
        if unknown := sorted(set(FLAGS.kinds) - set(kinds)):
            sys.exit(f"--kinds={','.join(unknown)}: expected some of {kinds}")
        kinds, left_out = FLAGS.kinds, []
    home = Path(FLAGS.workdir or tempfile.mkdtemp(prefix="faults_")).absolute()
    home.mkdir(parents=True, exist_ok=True)
    drawn = random.Random(FLAGS.seed)
    trials = []
    for number in range(FLAGS.trials):
        kind = drawn.choice(kinds)
        variant = drawn.choice(FAULTS[kind].variants)
        trials.append(Trial(number, kind, variant, drawn.random()))
    used = {trial.variant for trial in trials}
    alone = {name: leave_alone(home, name) for name in VARIANTS if name in used}
    for name, one in alone.items():
        print(f"left alone, {name}: {one.seconds:.1f} s", flush=True)
    for reason in left_out:
        print(f"left out: {reason}")
    table: dict[str, list[Outcome]] = {}
    with ThreadPoolExecutor(FLAGS.parallel) as pool:
        outcomes = pool.map(lambda t: attempt(t, home, alone[t.variant]), trials)
        for trial, found in zip(trials, outcomes, strict=True):
            table.setdefault(trial.kind, []).append(found)
            lost = f"  LOST: {found.lost}" if found.lost else ""
            print(
                f"{trial.number:3} {trial.kind}, {trial.variant}: {found.did}; "
                f"done {found.seconds:.1f} s later{lost}",
                flush=True,
            )
    print("fault            trials  lost  recovery, median s")
    for kind, rows in sorted(table.items()):
        lost_rows = sum(bool(row.lost) for row in rows)
        seconds = float(np.median([row.seconds for row in rows]))
        print(f"{kind:16} {len(rows):6}  {lost_rows:4}  {seconds:.1f}")
    losses = sum(bool(row.lost) for rows in table.values() for row in rows)
    print(f"{losses} of {FLAGS.trials} lost" + (f"; see {home}" if losses else ""))
    sys.exit(bool(losses))


if __name__ == "__main__":
    app.run(main)
