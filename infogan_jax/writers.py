"""What a run says while it trains: a progress line, metrics.jsonl, TensorBoard."""

import json
import math
import os
import sys
import time
from pathlib import Path

from infogan_jax.config import Config
from infogan_jax.latents import Spec

_QUIET = 10  # seconds between lines where the output is not a terminal


def write_atomically(path: Path, content: str | bytes) -> None:
    """The whole file or none of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content if isinstance(content, bytes) else content.encode())
    os.replace(part, path)


class Writer:
    """Metrics of a run from a step on; lines of a former life beyond it go."""

    def __init__(self, workdir: Path, config: Config, spec: Spec, start: int):
        self._total = config.steps
        self._batch_size = config.batch_size
        self._ceilings = {code.name: code.ceiling() for code in spec}
        path = workdir / "metrics.jsonl"
        if path.exists():
            kept = [
                line for line in path.read_text().splitlines() if _step(line) <= start
            ]
            write_atomically(path, "".join(line + "\n" for line in kept))
        self._file = path.open("a")
        self._events = None
        if config.tensorboard:
            from tensorboardX import SummaryWriter  # a second to import

            self._events = SummaryWriter(
                str(workdir / "tensorboard"), purge_step=start + 1 if start else None
            )
        self._start = start
        self._last_line = self._last_time = time.perf_counter()
        self._last_step = start
        self._width = 0

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Metrics of one step to both files."""
        self._file.write(json.dumps({"step": step, **metrics}) + "\n")
        self._file.flush()
        if self._events:
            for name, value in metrics.items():
                self._events.add_scalar(name, value, step)

    def progress(self, step: int, metrics: dict[str, float]) -> None:
        """The line that tells where training stands."""
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
        line = (
            f"step {step:,}/{self._total:,}  {rate * self._batch_size:,.0f} images/s  "
            f"{time_left} | {self._describe(metrics)}"
        )
        end = "" if terminal and not last else "\n"
        # Over the line before, blanks over what is left of it.
        print(("\r" if terminal else "") + line.ljust(self._width), end=end, flush=True)
        self._width = len(line) if terminal else 0

    def _describe(self, metrics: dict[str, float]) -> str:
        def bound(name, ceiling):
            roof = f"/{ceiling:.2f}" if math.isfinite(ceiling) else ""
            return f"{metrics[name]:.2f}{roof}"

        parts = [
            f"loss D {metrics['loss/discriminator']:.2f} "
            f"G {metrics['loss/generator']:.2f}"
        ]
        for title, prefix in (
            ("I(c;G) of H(c), nats", "information/"),
            ("I(c;x)", "information_real/"),
        ):
            names = [name for name in metrics if name.startswith(prefix)]
            shown = [
                f"{name.removeprefix(prefix)} "
                f"{bound(name, self._ceilings[name.removeprefix(prefix)])}"
                for name in names
            ]
            if shown:
                parts.append(f"{title}: {' '.join(shown)}")
        return " | ".join(parts)

    def close(self) -> None:
        if self._width:
            print(flush=True)
        self._file.close()
        if self._events:
            self._events.close()


def _step(line: str) -> float:
    """The step of a line of metrics; a line cut short by a kill counts as the last."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf
