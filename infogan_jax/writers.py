"""What a run says while it trains: a progress line, metrics.jsonl, TensorBoard."""

import contextlib
import functools
import json
import math
import os
import sys
import time
from pathlib import Path

import numpy as np

from infogan_jax.config import Config

_SHORT = {"loss/discriminator": "D", "loss/generator": "G"}
_QUIET = 10  # seconds between lines where the output is not a terminal


def write_atomically(path: Path, content: str | bytes | memoryview) -> None:
    """The whole file or none of it.

    Raises:
        OSError: it cannot be written; what is there stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    # What a path may hold that is not Unicode is written as it looks
    is_text = isinstance(content, str)
    try:
        part.write_bytes(
            content.encode(errors="backslashreplace") if is_text else content
        )
        os.replace(part, path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def sweep(folder: Path) -> None:
    """Removes what `write_atomically` had begun when its process was killed."""
    for part in folder.rglob(".*.part"):
        part.unlink(missing_ok=True)


def next_name(path: Path) -> Path:
    """`PATH.1`, `PATH.2` or so on: the first that is not there."""
    number = 1
    while (found := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    return found


class MetricsFile:
    """metrics.jsonl and TensorBoard events of a run from a step on.

    Lines of a former life beyond that step go.
    """

    def __init__(self, folder: Path, tensorboard: bool, start: int):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.jsonl"
        if path.exists():
            lines = path.read_text(errors="replace").splitlines()
            kept = [line for line in lines if _step(line) <= start]
            write_atomically(path, "".join(line + "\n" for line in kept))
        self._file = path.open("a")
        self._events = None
        if tensorboard:
            from tensorboardX import SummaryWriter  # a second to import

            self._events = SummaryWriter(
                str(folder / "tensorboard"), purge_step=start + 1 if start else None
            )

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Metrics of one step to both."""
        self._file.write(json.dumps({"step": step, **metrics}) + "\n")
        self._file.flush()
        if self._events:
            for name, value in metrics.items():
                self._events.add_scalar(name, value, step)

    def close(self) -> None:
        self._file.close()
        if self._events:
            self._events.close()


class Means:
    """Means of metrics over the steps since the last row, whichever calls took them."""

    def __init__(self, notes: dict | None = None):
        """`notes`: those of the run's former life, in the midst of a row."""
        # metric -> number of steps, and the sum over them of each replica
        self._sums = {
            name: (int(count), np.array(sums, float))
            for name, (count, sums) in (notes or {}).items()
        }

    def add(self, metrics: dict[str, np.ndarray]) -> None:
        """Of some steps, `[R, K]` each."""
        for name, values in metrics.items():
            count, sums = self._sums.get(name, (0, 0.0))
            # One step after the other, so that it does not matter where calls end
            sums = functools.reduce(np.add, values.T.astype(float), sums)
            self._sums[name] = count + values.shape[1], sums

    def take(self) -> dict[str, np.ndarray]:
        """The row, `[R]` each; the next one begins here."""
        row = {name: sums / count for name, (count, sums) in self._sums.items()}
        self._sums = {}
        return row

    def notes(self) -> dict:
        """What a later life needs to end the row that has begun, as JSON can hold."""
        return {
            name: (count, sums.tolist()) for name, (count, sums) in self._sums.items()
        }


class Progress:
    """The line that tells where training stands."""

    _GROUPS = (
        ("loss", "loss/"),
        ("accuracy", "accuracy/"),
        ("I(c;G) of H(c), nats:", "information/"),
        ("I(c;x):", "information_real/"),
    )

    def __init__(self, config: Config, ceilings: dict[str, float], start: int):
        self._total = config.steps
        self._images_per_step = config.batch_size * config.seeds
        self._ceilings = ceilings
        self.floor = 0.0  # seconds per step, where it is known
        self._start = self._last_step = start
        self._last_line = self._last_time = time.perf_counter()
        self._width = 0

    def show(
        self,
        step: int,
        rows: list[dict[str, float]],
        input_rates: tuple[float, float] | None = None,
    ) -> None:
        """Says it, at most every ten seconds where nobody watches.

        Args:
            step: updates done.
            rows: the metrics of each replica.
            input_rates: steps per second of reading, and the share of time waited.
        """
        now = time.perf_counter()
        first = self._last_step == self._start
        rate = (step - self._last_step) / (now - self._last_time)
        self._last_step, self._last_time = step, now
        terminal = sys.stdout.isatty()
        last = step >= self._total
        if not terminal and not last and now - self._last_line < _QUIET:
            return
        self._last_line = now
        left = round((self._total - step) / rate)
        time_left = f"{left // 60}:{left % 60:02} left"
        if first:
            time_left = "compilation included"
        notes = ""
        if self.floor:
            notes += f"{rate * self.floor:.0%} of the floor  "
        if input_rates:
            made, waited = input_rates[0] * self._images_per_step, input_rates[1]
            notes += f"input {made:,.0f} images/s, {waited:.1%} of the time waited  "
        line = (
            f"step {step:,}/{self._total:,}  {rate * self._images_per_step:,.0f} "
            f"images/s  {notes}{time_left}{self._describe(rows)}"
        )
        end = "" if terminal and not last else "\n"
        # Over the line before, blanks over what is left of it.
        print(("\r" if terminal else "") + line.ljust(self._width), end=end, flush=True)
        self._width = len(line) if terminal else 0

    def _describe(self, rows) -> str:
        def shown(metric):
            values = [row[metric] for row in rows]
            low, high = f"{min(values):.2f}", f"{max(values):.2f}"
            ceiling = self._ceilings.get(metric, math.inf)
            roof = f"/{ceiling:.2f}" if math.isfinite(ceiling) else ""
            return (low if low == high else f"{low}..{high}") + roof

        parts = ""
        for title, prefix in self._GROUPS:
            metrics = [metric for metric in rows[0] if metric.startswith(prefix)]
            words = [
                f"{_SHORT.get(m, m.removeprefix(prefix))} {shown(m)}" for m in metrics
            ]
            if words:
                parts += f" | {title} {' '.join(words)}"
        return parts

    def go_back(self, step: int) -> None:
        """Training has returned to a former step."""
        self._last_step, self._last_time = step, time.perf_counter()

    def close(self) -> None:
        """Ends the line, for others to write."""
        if self._width:
            print(flush=True)
        self._width = 0


def _step(line: str) -> float:
    """The step of a line of metrics; a line cut short by a kill counts as the last."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return math.inf
