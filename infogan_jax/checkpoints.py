"""Saving and restoring a state that has a `key`: the only file that knows Orbax."""

import contextlib
import logging
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from infogan_jax.config import UserError

# Orbax tells of every file it touches, and of its errors, which it raises as well.
for _name in ("absl", "asyncio", "orbax"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

_ROOM = 1.5  # times the bytes of a state: what has to be free before it is saved


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
        """Starts to save; a copy is taken first, so the state may be donated.

        Raises:
            OSError: there is no room for it, or for one that was begun before.
        """
        if step != self.latest():
            plain = _plain(state)
            needed = _ROOM * sum(x.nbytes for x in jax.tree.leaves(plain))
            free = shutil.disk_usage(self._manager.directory).free
            if free < needed:
                raise OSError(
                    f"{self._manager.directory}: {free / 2**20:.1f} MiB are free, and "
                    f"saving needs {needed / 2**20:.1f}"
                )
            with self._errors():
                self._manager.save(step, args=ocp.args.StandardSave(_copy(plain)))

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
        with self._errors():
            self._manager.wait_until_finished()

    @contextlib.contextmanager
    def _errors(self):
        """A full disk as an OSError, also where it met a checkpoint begun before."""
        try:
            yield
        except ValueError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise  # such as the end of another process
            raise OSError(
                f"{self._manager.directory}: a checkpoint could not be written (no "
                "space left)"
            ) from None

    def close(self) -> None:
        self._manager.close()


@jax.jit
def _copy(tree):
    return jax.tree.map(jnp.copy, tree)


def _plain(state: Any) -> Any:
    """With the key as an array of integers, which is what a file can hold."""
    return state.replace(key=jax.random.key_data(state.key))
