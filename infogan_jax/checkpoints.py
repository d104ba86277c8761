"""Saving and restoring a state that has a `key`: the only file that knows Orbax."""

import contextlib
import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from infogan_jax import processes
from infogan_jax.config import UserError, first_line
from infogan_jax.writers import next_name, write_atomically

# Orbax tells of every file it touches, and of its errors, which it raises as well.
for _name in ("absl", "asyncio", "orbax"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

_DIGESTS = "digests.json"  # in the folder of a step: file -> SHA-256
_ROOM = 1.5  # times the bytes of a state: what has to be free before it is saved


class Checkpoints:
    """The checkpoints of one run, in `workdir/checkpoints`, written asynchronously."""

    def __init__(self, workdir: Path, keep: int):
        self._folder = (workdir / "checkpoints").absolute()
        self._aside = (workdir / "damaged").absolute()
        self._passed_over: dict[int, str] = {}  # step -> why it cannot be used
        self._begun: list[int] = []  # steps that were saved here, without digests yet
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, enable_async_checkpointing=True
        )
        self._look = lambda: ocp.CheckpointManager(self._folder, options=options)
        self._manager = self._look()

    def latest(self) -> int | None:
        """The step of the newest checkpoint that is not known to be damaged."""
        steps = set(self._manager.all_steps()) - set(self._passed_over)
        return max(steps, default=None)

    def save(self, step: int, state: Any, notes: dict | None = None) -> None:
        """Starts to save; a copy is taken first, so the state may be donated.

        Args:
            step: its step.
            state: the state.
            notes: what else to remember, as JSON can hold it.

        Raises:
            OSError: there is no room for it, or for one that was begun before.
        """
        if step != self.latest():
            content = plain(state)
            needed = _ROOM * sum(x.nbytes for x in jax.tree.leaves(content))
            free = shutil.disk_usage(self._folder).free
            if free < needed:
                raise OSError(
                    f"{self._folder}: {free / 2**20:.1f} MiB are free, and "
                    f"saving needs {needed / 2**20:.1f}"
                )
            self.wait()
            with self._errors():
                args = ocp.args.StandardSave(_copy(content))
                self._manager.save(step, args=args, custom_metadata=notes)
            self._begun.append(step)

    def restore(self, like: Any) -> Any:
        """The newest state that is whole, placed as `like` is.

        What is passed over, and why, is said.

        Raises:
            UserError: there is none, or none is whole or of these networks.
        """
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, plain(like))
        while (step := self.latest()) is not None:
            reason = ""
            if processes.is_first():
                reason = self._harm(step) or self._misfit(step, shapes)
            reason = processes.first_text(reason)
            if not reason:
                try:
                    found = self._manager.restore(
                        step, args=ocp.args.StandardRestore(shapes)
                    )
                except (ValueError, KeyError, OSError) as error:
                    reason = first_line(error)
                reason = processes.first_text(reason)  # all use it, or none
            if not reason:
                for bad, why in sorted(self._passed_over.items()):
                    print(f"checkpoint {bad} is passed over ({why}); using {step}")
                return found.replace(key=jax.random.wrap_key_data(found.key))
            (gone,) = processes.largest(not (self._folder / str(step)).exists())
            if gone:  # the run that saves here has deleted it, for a newer one
                self._manager.close()
                self._manager = self._look()  # reloaded, it would not read new ones
                continue
            self._passed_over[step] = reason
        if not self._passed_over:
            raise UserError(f"{self._folder}: has no checkpoint; train first")
        found = "; ".join(f"{n}: {why}" for n, why in sorted(self._passed_over.items()))
        raise UserError(
            f"{self._folder}: no checkpoint can be used ({found}); bring one back from "
            "a copy, or begin anew with --restart"
        )

    def notes(self) -> dict:
        """What the newest checkpoint was told to remember; empty if nothing."""
        return dict(self._manager.metadata(self.latest()).custom_metadata or {})

    def set_damaged_aside(self) -> None:
        """Moves what `restore` passed over out of the way of checkpoints to come."""
        if not self._passed_over:
            return

        def move():
            self._aside.mkdir(exist_ok=True)
            for step in self._passed_over:
                place = self._aside / str(step)
                place = next_name(place) if place.exists() else place
                (self._folder / str(step)).rename(place)

        processes.at_first(move)
        self._manager.reload()
        self._passed_over = {}

    def _write_digests(self) -> None:
        """Of what was saved here: when the next one begins, or the run ends."""
        for step in self._begun if processes.is_first() else ():
            folder = self._folder / str(step)
            if folder.exists():  # not yet one too many
                content = json.dumps(_digests(folder), indent=1)
                write_atomically(folder / _DIGESTS, content + "\n")
        self._begun = []

    def _harm(self, step: int) -> str:
        """What is wrong with the files of a checkpoint; empty if nothing is.

        One without digests, for it was cut short between the two or is of an older
        version, is left to the attempt to read it.
        """
        folder = self._folder / str(step)
        if not (folder / _DIGESTS).exists():
            return ""
        try:
            expected = dict(json.loads((folder / _DIGESTS).read_text()))
            found = _digests(folder)
        except (OSError, ValueError, TypeError, RecursionError) as error:
            return f"{_DIGESTS}: {error}"
        if not expected:
            return f"{_DIGESTS} is empty"
        for name in sorted(expected):
            if name not in found:
                return f"{name} is missing"
            if expected[name] != found[name]:
                return f"{name} is not as it was written"
        return ""

    def _misfit(self, step: int, shapes: Any) -> str:
        """Which array is not there in its shape; empty if all are.

        Orbax tells that too, at length and by several threads.
        """
        try:
            with ocp.StandardCheckpointer() as reader:
                about = reader.metadata(self._folder / str(step) / "default")
            leaves = named_leaves(about.item_metadata.tree)
            stored = {name: tuple(leaf.shape) for name, leaf in leaves.items()}
        except Exception:  # anything, for files that others may have harmed
            return ""  # to read them tells more
        for name, like in named_leaves(shapes).items():
            if stored.get(name) != like.shape:
                has = f"has shape {stored[name]}" if name in stored else "is missing"
                return f"{name} {has}, config.json describes {like.shape}"
        return ""

    def wait(self) -> None:
        """Until all that was begun is on disk."""
        with self._errors():
            self._manager.wait_until_finished()
        self._write_digests()

    @contextlib.contextmanager
    def _errors(self):
        """What Orbax meets on a disk as an OSError, also of a save begun before."""
        try:
            yield
        except ValueError as error:
            told = ("RESOURCE_EXHAUSTED", "os_error_code", "OCDBT")
            if processes.is_by_another(error) or not any(
                word in str(error) for word in told
            ):
                raise
            # The last of many words, before the specification of an array
            reason = str(error).partition(" [")[0].rpartition(": ")[2]
            raise OSError(
                f"{self._folder}: a checkpoint could not be written ({reason})"
            ) from None

    def close(self) -> None:
        """Ends all work; a save that fails now is told, and replaces no other error."""
        try:
            with self._errors():
                self._manager.close()
        except OSError as error:
            print(f"warning: {error}")
        with contextlib.suppress(OSError):  # without them it can be used all the same
            self._write_digests()


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below, but for hidden ones and the digests themselves."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != _DIGESTS and path.name[0] != ".":
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[path.relative_to(folder).as_posix()] = digest
    return found


@jax.jit
def _copy(tree):
    return jax.tree.map(jnp.copy, tree)


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves by where they are, such as `generator/params/Dense_0/kernel`."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def plain(state: Any) -> Any:
    """With the key as an array of integers, which is what a file can hold."""
    return state.replace(key=jax.random.key_data(state.key))
