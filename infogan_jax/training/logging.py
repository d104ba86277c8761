"""The metrics of a run: metrics.jsonl, TensorBoard, and a progress line."""

import functools
import json
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from infogan_jax import console
from infogan_jax.config import Config
from infogan_jax.files import write_atomically

logger = logging.getLogger(__name__)

_SHORT = {"loss/discriminator": "D", "loss/generator": "G"}
_LINE_SECONDS = 10  # between lines if the output is not a terminal


class MetricsFile:
    """metrics.jsonl and TensorBoard events of a member.

    Rows beyond the step that training starts from are removed.
    """

    def __init__(self, path: Path, tensorboard: Path | None, start: int):
        """
        Args:
            path: of metrics.jsonl.
            tensorboard: folder of the events; None: none are written.
            start: the step that training starts from.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            lines = path.read_text(errors="replace").splitlines()
            kept = [line for line in lines if _step(line) <= start]
            write_atomically(path, "".join(line + "\n" for line in kept))
        self._file = path.open("a")
        self._events = None
        if tensorboard:
            from tensorboardX import SummaryWriter  # takes a second to import

            purge_step = start + 1 if start else None
            self._events = SummaryWriter(str(tensorboard), purge_step=purge_step)

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Writes the metrics of one step to both."""
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
    """Means of metrics over the steps since the last row.

    They do not depend on how many steps a compiled call takes.
    """

    def __init__(self, notes: dict[str, Any] | None = None):
        """`notes` of a checkpoint continue the row that was unfinished there."""
        # Metric -> number of steps, and the sum over them for each member.
        self._sums: dict[str, tuple[int, np.ndarray]] = {
            name: (int(count), np.array(sums, float))
            for name, (count, sums) in (notes or {}).items()
        }

    def add(self, metrics: dict[str, np.ndarray]) -> None:
        """Adds the metrics of some steps, `[M, K]` each."""
        for name, values in metrics.items():
            zeros = np.zeros(len(values))
            count, sums = self._sums.get(name, (0, zeros))
            # Step by step: a sum must not depend on where calls end.
            sums = functools.reduce(np.add, values.T.astype(float), sums)
            self._sums[name] = count + values.shape[1], sums

    def take(self) -> dict[str, np.ndarray]:
        """Returns the row, `[M]` each, and begins the next one."""
        row = {name: sums / count for name, (count, sums) in self._sums.items()}
        self._sums = {}
        return row

    def to_notes(self) -> dict[str, Any]:
        """Returns the unfinished row, as JSON can hold it."""
        return {
            name: (count, sums.tolist()) for name, (count, sums) in self._sums.items()
        }


class Progress:
    """The progress line."""

    _GROUPS = (
        ("loss", "loss/"),
        ("accuracy", "accuracy/"),
        ("I(c;G) of H(c), nats:", "mi_bound/"),
        ("I(c;x):", "mi_real/"),
    )

    def __init__(self, config: Config, upper_bounds: Mapping[str, float], start: int):
        self._total = config.steps
        self._images_per_step = config.batch_size * config.num_seeds
        self._upper_bounds = upper_bounds
        self.min_step_time = 0.0  # seconds, if known
        self._start = self._last_step = start
        self._last_line = self._last_time = time.perf_counter()
        self._width = 0

    def show(
        self,
        step: int,
        rows: list[dict[str, float]],
        input_rates: tuple[float, float] | None = None,
    ) -> None:
        """Prints the line; at most every ten seconds if the output is no terminal.

        Args:
            step: updates done.
            rows: the metrics of each member.
            input_rates: steps per second of reading, and the fraction of time waited.
        """
        now = time.perf_counter()
        first = self._last_step == self._start
        rate = (step - self._last_step) / (now - self._last_time)
        self._last_step, self._last_time = step, now
        terminal = console.is_terminal() and logger.isEnabledFor(logging.INFO)
        last = step >= self._total
        if not terminal and not last and now - self._last_line < _LINE_SECONDS:
            return
        self._last_line = now
        left = round((self._total - step) / rate)
        time_left = f"{left // 60}:{left % 60:02} left"
        if first:
            time_left = "compilation included"
        notes = ""
        if self.min_step_time:
            notes += f"{rate * self.min_step_time:.0%} of the roofline  "
        if input_rates:
            made, waited = input_rates[0] * self._images_per_step, input_rates[1]
            notes += f"input {made:,.0f} images/s, {waited:.1%} of the time waited  "
        line = (
            f"step {step:,}/{self._total:,}  {rate * self._images_per_step:,.0f} "
            f"images/s  {notes}{time_left}{self._describe(rows)}"
        )
        if not terminal:
            logger.info(line)
            return
        # Blanks overwrite the rest of a longer line before.
        end = "\n" if last else ""
        console.show("\r" + line.ljust(self._width), end)
        self._width = 0 if last else len(line)

    def _describe(self, rows: list[dict[str, float]]) -> str:
        def shown(metric: str) -> str:
            values = [row[metric] for row in rows]
            low, high = f"{min(values):.2f}", f"{max(values):.2f}"
            bound = self._upper_bounds.get(metric, math.inf)
            limit = f"/{bound:.2f}" if math.isfinite(bound) else ""
            return (low if low == high else f"{low}..{high}") + limit

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
        """Continues from an earlier step."""
        self._last_step, self._last_time = step, time.perf_counter()

    def end_line(self) -> None:
        """Ends the line, so that other output can follow."""
        if self._width:
            console.show("")
        self._width = 0


def _step(line: str) -> float:
    """The step of a line of metrics.jsonl; infinite for a line that was cut short."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return math.inf
