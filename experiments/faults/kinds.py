"""The faults: each is done to a run under way, and tells what it did.

Add one as a function and a row of FAULTS. It gets the run and its processes, and leaves
none of them alive; it raises Lost for what should not have happened on the way.
"""

import contextlib
import dataclasses
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from experiments.faults.runs import Lost, Run, send, wait

_PROMPT = 60  # seconds within which one process notices the end of another
_DISK = 64  # MiB of a small disk
_TRAINING: dict[str, Any] = {
    "variants": ("pair",),
    "training": True,
    "span": (0.0, 0.2),
}
_ERRORS = "ENOSPC", "EDQUOT", "EIO", "EROFS"
# What writing comes down to; a call that only reads is not among them
_WRITES = "rename,renameat,renameat2,mkdir,mkdirat,fsync,fdatasync,pwrite64,ftruncate"

Processes = list[subprocess.Popen]


@dataclasses.dataclass(frozen=True)
class Fault:
    """What is done, to which of `runs.VARIANTS`."""

    do: Callable[[Run, Processes, random.Random], str]
    variants: tuple[str, ...] = ("alone", "members")
    span: tuple[float, float] = (0.0, 1.0)  # shares of a run between which it comes
    training: bool = False  # counted from where the loop begins, not from the start
    own_data: bool = False  # the run prepares its data itself
    disk: bool = False  # the run has a small disk of its own
    wrap: Callable[[random.Random], list[str]] | None = None  # words before the command


def kill(run: Run, processes: Processes, drawn: random.Random) -> str:
    for process in processes:
        send(process, signal.SIGKILL)
        process.communicate()
    return "killed"


def kill_twice(run: Run, processes: Processes, drawn: random.Random) -> str:
    kill(run, processes, drawn)
    again = run.start()
    time.sleep(8 * drawn.random())
    kill(run, again, drawn)
    return "killed, and soon again"


def ask(run: Run, processes: Processes, drawn, signum: signal.Signals) -> str:
    """One of them to stop."""
    asked = time.monotonic()
    send(drawn.choice(processes), signum)
    ended = wait(processes)
    took = time.monotonic() - asked
    ended.check_clean()
    told = ("all saved in", "the last checkpoint is kept", "from the last checkpoint")
    if ended.code > 0 and not any(words in ended.error for words in told):
        raise Lost(f"does not say what is saved: {ended.last_line}")
    return f"{signum.name}: exit {ended.code} after {took:.1f} s"


def interrupt_twice(run: Run, processes: Processes, drawn: random.Random) -> str:
    send(processes[0], signal.SIGINT)
    time.sleep(drawn.random())
    asked = time.monotonic()
    send(processes[0], signal.SIGINT)
    ended = wait(processes)
    ended.check_clean()
    return f"exit {ended.code}, {time.monotonic() - asked:.1f} s after the second"


def freeze(run: Run, processes: Processes, drawn: random.Random) -> str:
    send(processes[0], signal.SIGSTOP)
    time.sleep(5)
    send(processes[0], signal.SIGCONT)
    ended = wait(processes)
    if ended.code:
        raise Lost(f"did not go on: {ended.last_line}")
    return "frozen for 5 s"


def take_one(run: Run, processes: Processes, drawn, signum: signal.Signals) -> str:
    """One of two processes."""
    one = drawn.choice(processes)
    (other,) = (process for process in processes if process is not one)
    begun = time.monotonic()
    send(one, signum)
    ended = wait([other], _PROMPT)
    took = time.monotonic() - begun
    send(one, signal.SIGKILL)
    one.communicate()
    ended.check_clean()
    which = processes.index(one)
    return f"process {which}: {signum.name}; the other: exit {ended.code}, {took:.0f} s"


# Checkpoints


def harm(
    run: Run, processes: Processes, drawn, how: Callable[[Path, random.Random], None]
) -> str:
    """To a file of the newest checkpoint that has digests, of a run that was killed.

    It is killed when it has one or two. A newer one without digests goes, so that the
    harmed one counts.
    """
    folder, wanted = run.workdir / "checkpoints", drawn.randint(1, 2)
    run.wait_for("checkpoints/*/digests.json", wanted, processes)
    kill(run, processes, drawn)
    whole = [p.parent for p in folder.glob("*/digests.json")]
    newest = max(whole, key=lambda path: int(path.name))
    for other in folder.glob("*"):
        if other.name.isdigit() and int(other.name) > int(newest.name):
            shutil.rmtree(other)
    files = [p for p in sorted(newest.rglob("*")) if p.is_file()]
    path = drawn.choice([p for p in files if p.name != "digests.json"])
    how(path, drawn)
    return f"{path.relative_to(folder)}: {how.__name__}"


def cut(path: Path, drawn: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if len(content) > 1 else b"xx")


def empty(path: Path, drawn: random.Random) -> None:
    path.write_bytes(b"" if path.stat().st_size else b"x")


def flip(path: Path, drawn: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[drawn.randrange(len(content))] ^= 1
    path.write_bytes(content or b"x")


def lose(path: Path, drawn: random.Random) -> None:
    path.unlink()


# Disks


def fill(run: Run, processes: Processes, drawn: random.Random) -> str:
    filler = run.workdir.parent / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(2**16))
    ended = wait(processes)
    filler.unlink()
    ended.check_told()
    return f"full: {ended.last_line}"


def read_only(run: Run, processes: Processes, drawn: random.Random) -> str:
    kill(run, processes, drawn)
    disk = str(run.workdir.parent)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    ended = run.finish()
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    ended.check_told()
    return f"read-only: {ended.last_line}"


def gone(run: Run, processes: Processes, drawn: random.Random) -> str:
    if not run.workdir.exists():
        kill(run, processes, drawn)
        return "killed before a directory was there to lose"
    aside = run.folder / "aside"
    run.workdir.rename(aside)
    ended = wait(processes)
    if run.workdir.exists():
        shutil.rmtree(run.workdir)
    aside.rename(run.workdir)
    ended.check_told()
    return f"gone: {ended.last_line}"


def fail(run: Run, processes: Processes, drawn: random.Random) -> str:
    ended = wait(processes)
    ended.check_told()
    return f"a write failed: {ended.last_line}"


def _failing(drawn: random.Random) -> list[str]:
    """One of the calls that write fails."""
    error, when = drawn.choice(_ERRORS), drawn.randrange(1, 400)
    return _traced(f"error={error}:when={when}")


def slow(run: Run, processes: Processes, drawn: random.Random) -> str:
    ended = wait(processes)
    if ended.code:
        raise Lost(f"did not end well: {ended.last_line}")
    return "a slow disk"


def _slowed(drawn: random.Random) -> list[str]:
    """All calls that write wait."""
    return _traced("delay_enter=50ms")


def _traced(what: str) -> list[str]:
    words = ["strace", "--follow-forks", "--seccomp-bpf", "--output=/dev/null"]
    return [*words, f"--trace={_WRITES}", f"--inject={_WRITES}:{what}"]


FAULTS = {
    "kill": Fault(kill),
    "kill_preparing": Fault(kill, span=(0.1, 0.7), own_data=True),
    "kill_twice": Fault(kill_twice),
    "terminate": Fault(partial(ask, signum=signal.SIGTERM)),
    "interrupt": Fault(partial(ask, signum=signal.SIGINT)),
    "interrupt_twice": Fault(interrupt_twice),
    "freeze": Fault(freeze),
    "kill_one": Fault(partial(take_one, signum=signal.SIGKILL), **_TRAINING),
    "freeze_one": Fault(partial(take_one, signum=signal.SIGSTOP), **_TRAINING),
    "terminate_one": Fault(partial(ask, signum=signal.SIGTERM), **_TRAINING),
    "cut": Fault(partial(harm, how=cut)),
    "empty": Fault(partial(harm, how=empty)),
    "flip": Fault(partial(harm, how=flip)),
    "lose": Fault(partial(harm, how=lose)),
    "gone": Fault(gone),
    "fill": Fault(fill, disk=True),
    "read_only": Fault(read_only, disk=True),
    "fail": Fault(fail, wrap=_failing),
    "slow": Fault(slow, wrap=_slowed),
}


def available() -> tuple[list[str], list[str]]:
    """Names of the faults that this machine can do, and why others are left out."""
    names, left_out = list(FAULTS), []
    if os.geteuid() != 0:
        names = [name for name in names if not FAULTS[name].disk]
        left_out.append("disks of their own need root")
    if not shutil.which("strace"):
        names = [name for name in names if FAULTS[name].wrap is None]
        left_out.append("calls that fail or are slow need strace")
    return names, left_out


@contextlib.contextmanager
def small_disk(folder: Path):
    """A tmpfs, for as long as it is needed."""
    folder.mkdir()
    size = f"size={_DISK}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
