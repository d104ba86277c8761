"""What happens between compiled calls: logs, evaluations, frames, checkpoints."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from infogan_jax.distributed import processes
from infogan_jax.run.checkpoints import Checkpoints
from infogan_jax.run.directory import Run, split_members
from infogan_jax.training.feed import Feeder
from infogan_jax.training.interrupt import run_in_thread
from infogan_jax.training.logging import Means, MetricsFile, Progress
from infogan_jax.training.task import Task


@dataclasses.dataclass
class Position:
    """Where training stands."""

    step: int
    state: Any  # of all members
    means: Means  # of metrics since the last logged row

    def save(self, checkpoints: Checkpoints) -> None:
        """Starts to save a checkpoint."""
        checkpoints.save(self.step, self.state, self.means.to_notes())


class Hooks:
    """Everything that is due at certain steps; closes its files at the end."""

    def __init__(
        self,
        task: Task,
        run: Run,
        checkpoints: Checkpoints,
        feeder: Feeder,
        position: Position,
        min_step_time: float = 0.0,
    ):
        self._task, self._run, self._config = task, run, run.config
        self._checkpoints, self._feeder = checkpoints, feeder
        self._files = self._open_files(position.step)
        self._progress = Progress(self._config, task.upper_bounds, position.step)
        self._progress.min_step_time = min_step_time
        if position.step == 0 and self._config.sample_every:
            self._call_on_primary(task.on_sample, position)

    def __call__(self, position: Position, norm: np.ndarray) -> None:
        """Does what is due at a position that was just reached.

        Args:
            position: its means include the last steps.
            norm: of all parameters, `[M]`.
        """
        config, step = self._config, position.step
        is_evaluated = bool(config.eval_every) and step % config.eval_every == 0
        if is_evaluated or step % config.log_every == 0 or step == config.steps:
            self._log(position, norm, is_evaluated)
        if config.sample_every and step % config.sample_every == 0:
            self._call_on_primary(self._task.on_sample, position)
        if step % config.checkpoint_every == 0:
            position.save(self._checkpoints)
            self._progress.end_line()
            self._call_on_primary(self._task.on_checkpoint, position)

    def precompile(self, position: Position) -> None:
        """Compiles the evaluators' programs in the background, on accelerators.

        On CPU the step's compilation wants the same cores. Without a cache on disk
        the programs would be lost.
        """
        states = split_members(position.state, self._config)
        has_cache = bool(jax.config.values["jax_compilation_cache_dir"])
        if processes.is_primary() and has_cache and jax.default_backend() != "cpu":
            run_in_thread(self._task.precompile, states[0])

    def end_line(self) -> None:
        """Ends the progress line, so that other output can follow."""
        self._progress.end_line()

    def go_back(self, position: Position) -> None:
        """Follows training back to an earlier step."""
        self._progress.go_back(position.step)
        self._close_files()
        self._files = self._open_files(position.step)

    def _log(self, position: Position, norm: np.ndarray, is_evaluated: bool) -> None:
        values = position.means.take() | {"norm/state": norm}
        rows = [
            {name: float(of_members[m]) for name, of_members in values.items()}
            for m in range(self._config.num_seeds)
        ]
        if is_evaluated:
            states = split_members(position.state, self._config)
            if processes.is_primary():
                for row, state in zip(rows, states, strict=True):
                    row |= self._task.evaluate(state)
        for file, row in zip(self._files, rows, strict=False):
            file.write(position.step, row)
        self._progress.show(position.step, rows, self._feeder.input_rates())
        if processes.is_primary():
            self._task.on_log(position.step, rows)

    def _call_on_primary(self, callback: Callable, position: Position) -> None:
        states = split_members(position.state, self._config)
        if processes.is_primary():
            callback(position.step, states)

    def _open_files(self, step: int) -> list[MetricsFile]:
        members = self._run.members if processes.is_primary() else []
        tensorboard = self._config.tensorboard
        return [
            MetricsFile(m.metrics, m.tensorboard if tensorboard else None, step)
            for m in members
        ]

    def _close_files(self) -> None:
        for file in self._files:
            file.close()

    def close(self) -> None:
        """Ends the progress line and closes the metrics' files."""
        self._progress.end_line()
        self._close_files()
