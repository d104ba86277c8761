"""Saving and restoring a state that has a `key`: the only file that knows Orbax."""

import logging
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from infogan_jax.config import UserError

for _name in ("absl", "orbax"):  # Orbax tells of every file it touches
    logging.getLogger(_name).setLevel(logging.ERROR)


class Checkpoints:
    """The checkpoints of one run, in `workdir/checkpoints`, written asynchronously."""

    def __init__(self, workdir: Path, keep: int):
        self._manager = ocp.CheckpointManager(
            (workdir / "checkpoints").absolute(),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep, enable_async_checkpointing=True
            ),
        )

    def latest(self) -> int | None:
        """The step of the newest checkpoint."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any) -> None:
        """Starts to save; a copy is taken first, so the state may be donated."""
        if step != self.latest():
            self._manager.save(step, args=ocp.args.StandardSave(_copy(_plain(state))))

    def restore(self, like: Any, step: int | None = None) -> Any:
        """The state of a step, the newest by default, placed as `like` is.

        Raises:
            UserError: there is none, or it is of other networks.
        """
        step = self.latest() if step is None else step
        if step is None:
            raise UserError(
                f"{self._manager.directory}: has no checkpoint; train first"
            )
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, _plain(like))
        try:
            plain = self._manager.restore(step, args=ocp.args.StandardRestore(shapes))
        except (ValueError, KeyError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{self._manager.directory}/{step}: cannot be restored ({reason}); "
                "remove that folder to go on from an older one, or use --restart"
            ) from None
        return plain.replace(key=jax.random.wrap_key_data(plain.key))

    def wait(self) -> None:
        """Until all that was begun is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        self._manager.close()


@jax.jit
def _copy(tree):
    return jax.tree.map(jnp.copy, tree)


def _plain(state: Any) -> Any:
    """With the key as an array of integers, which is what a file can hold."""
    return state.replace(key=jax.random.key_data(state.key))
