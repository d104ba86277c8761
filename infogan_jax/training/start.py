"""Where training starts from, and goes back to."""

import logging
from typing import Any

import numpy as np

from infogan_jax import former
from infogan_jax.distributed import devices, processes
from infogan_jax.run.checkpoints import Checkpoints
from infogan_jax.run.directory import Run, initial_state
from infogan_jax.training.divergence import Divergence
from infogan_jax.training.hooks import Hooks, Position
from infogan_jax.training.logging import Means
from infogan_jax.training.task import Task

logger = logging.getLogger(__name__)


class Starter:
    """The position that training starts from, and goes back to."""

    def __init__(self, task: Task, run: Run, checkpoints: Checkpoints, mesh: Any):
        self._task, self._run, self._checkpoints = task, run, checkpoints
        self._placement = devices.placement(mesh, run.config.num_seeds)

    def restore_or_init(self, guard: Divergence) -> Position:
        """Returns the last position, or step 0, and says which.

        If training was rolled back to it, it has the random keys of that rollback.
        """
        position = self._last()
        guard.recall(self._run.load_rollback(), position.step)
        self._refold(position, guard)
        if position.step:
            logger.info(f"continuing from step {position.step:,}")
        elif self._run.has_metrics:
            logger.info("no checkpoint yet, beginning at step 0")
        return position

    def roll_back(self, guard: Divergence, hooks: Hooks) -> Position:
        """Returns the last good position, with other random keys.

        Raises:
            Diverged: `on_nonfinite` is stop, or it was rolled back here too often.
        """
        self._checkpoints.wait()
        message = guard.start_rollback(self._checkpoints.latest() or 0)
        hooks.end_line()
        logger.warning(message)
        processes.on_primary(lambda: self._run.save_rollback(guard.to_notes()))
        position = self._last()
        self._refold(position, guard)
        hooks.go_back(position)
        return position

    def _refold(self, position: Position, guard: Divergence) -> None:
        """Gives other random keys to the members that caused rollbacks."""
        if guard.retries:
            key = devices.refold_keys(
                position.state.key, guard.retried, guard.retries, self._placement
            )
            position.state = position.state.replace(key=key)

    def _last(self) -> Position:
        initial = initial_state(self._task.init, self._run.config, self._placement)
        if self._checkpoints.latest() is None:
            return Position(0, initial, Means())
        state = self._checkpoints.restore(initial)
        self._checkpoints.set_damaged_aside()
        notes = former.upgrade_metrics(self._checkpoints.notes())
        step = int(np.ravel(devices.gather(state.step))[0])
        return Position(step, state, Means(notes))
