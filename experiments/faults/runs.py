"""The runs that are harmed: small ones, real processes, and what came of them."""

import dataclasses
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

LIMIT = 180  # seconds that a command may take
# How a run is started: its flags, and how many processes
VARIANTS: dict[str, tuple[list[str], int]] = {
    "alone": ([], 1),
    "members": (["--num_seeds=2"], 1),
    "pair": ([], 2),
}
_FLAGS = {
    "architecture": "mnist_tiny",
    "augment": "digits",
    "real_mi_weight": 1.0,
    "batch_size": 16,
    "steps": 40,
    "log_every": 5,
    "checkpoint_every": 10,
    "sample_every": 20,
    "eval_every": 20,
    "evaluators": "clustering,label_free",
    "tensorboard": "false",
}


class Lost(Exception):
    """Something that should have survived did not, or was not told as it should."""

    def __init__(self, what: str, told: str = ""):
        super().__init__(what)
        self.told = told  # all that the process said


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a process ended, or several: the first that did not end well."""

    code: int
    out: str
    error: str

    @property
    def last_line(self) -> str:
        return (self.error.strip().splitlines() or [f"exit {self.code}"])[-1]

    def check_told(self) -> None:
        """Raises Lost unless it went well, or one line says what did not."""
        self.check_clean()
        if self.code and self.error.count("\n") != 1:
            raise Lost(f"exit {self.code}, and not one line", self.error)

    def check_clean(self) -> None:
        """Raises Lost if there is a traceback."""
        if "Traceback" in self.error:
            raise Lost(f"a traceback: {self.last_line}", self.error)


class Run:
    """One run in a folder of its own."""

    def __init__(self, folder: Path, variant: str, data: Path, cache: Path):
        self.folder, self.data, self._cache = folder, data, cache
        self.workdir = folder / "run"
        self._flags, self._count = VARIANTS[variant]
        self._started: list[subprocess.Popen] = []

    def start(self, *wrap: str) -> list[subprocess.Popen]:
        """Its processes, each behind the words of `wrap`."""
        command = [*wrap, sys.executable, "-m", "infogan_jax.main"]
        command += [f"--{name}={value}" for name, value in _FLAGS.items()]
        command += [f"--workdir={self.workdir}", f"--data_dir={self.data}"]
        groups: list[list[str]] = [[]]
        if self._count > 1:
            group = [f"--coordinator_address=localhost:{free_port()}"]
            group += [f"--num_processes={self._count}"]
            groups = [[*group, f"--process_id={i}"] for i in range(self._count)]
        started = [
            subprocess.Popen(
                [*command, *self._flags, *own],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "XDG_CACHE_HOME": str(self._cache)},
                start_new_session=True,  # what a signal is sent to, wrap and all
            )
            for own in groups
        ]
        self._started += started
        return started

    def end(self) -> None:
        """Ends whatever is left of its processes."""
        for process in self._started:
            send(process, signal.SIGKILL)

    def wait_for(
        self, pattern: str, count: int, processes: list[subprocess.Popen]
    ) -> None:
        """Until so many files are there, or a process has ended."""
        while all(process.poll() is None for process in processes):
            if len(list(self.workdir.glob(pattern))) >= count:
                return
            time.sleep(0.05)

    def finish(self) -> Ended:
        """The same command again, to its end."""
        return wait(self.start())

    def result(self) -> dict[str, str]:
        """A digest of each thing that a run is for.

        Raises:
            Lost: a step is logged twice, or a file is half written.
        """
        from infogan_jax.inference import weight_digest
        from infogan_jax.run.checkpoints import with_plain_key
        from infogan_jax.run.directory import Run as WorkDirectory

        found = {}
        for seed, state in enumerate(WorkDirectory.open(self.workdir).load_states()):
            found[f"state of seed {seed}"] = weight_digest(with_plain_key(state))
        for path in sorted(self.workdir.rglob("*")):
            if path.name.endswith(".part"):
                raise Lost(f"{path} was left")
            if path.name == "metrics.jsonl":
                lines = path.read_text().splitlines()
                steps = [json.loads(line)["step"] for line in lines]
                if steps != sorted(set(steps)):
                    raise Lost(f"{path}: a step is logged twice")
            is_picture = path.parent.name in ("figures", "frames")
            if is_picture or path.name in ("metrics.jsonl", "evaluation.json"):
                name = path.relative_to(self.workdir).as_posix()
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def wait(processes: list[subprocess.Popen], limit: float = LIMIT) -> Ended:
    """How they end.

    Raises:
        Lost: one does not, within so many seconds.
    """
    ends, until = [], time.monotonic() + limit
    for process in processes:
        try:
            left = max(0.1, until - time.monotonic())
            out, error = process.communicate(timeout=left)
        except subprocess.TimeoutExpired:
            for other in processes:
                send(other, signal.SIGKILL)
            raise Lost(f"did not end within {limit:.0f} s") from None
        ends.append(Ended(process.returncode, out, error))
    return next((end for end in ends if end.code), ends[0])


def send(process: subprocess.Popen, signum: signal.Signals) -> None:
    """A signal to a process, if it is still there."""
    if process.poll() is None:
        os.killpg(process.pid, signum)
