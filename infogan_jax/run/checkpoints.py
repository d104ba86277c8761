"""Saving and restoring a state that has a `key`: the only module that knows Orbax."""

import contextlib
import dataclasses
import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from infogan_jax.distributed import processes
from infogan_jax.errors import UserError, first_line
from infogan_jax.files import next_free_name, write_atomically

logger = logging.getLogger(__name__)

_DIGESTS = "digests.json"  # in the folder of a step: file -> SHA-256
_MIN_FREE = 1.5  # times the bytes of a state that must be free before it is saved


class Checkpoints:
    """The checkpoints of one run, in `workdir/checkpoints`, written asynchronously."""

    def __init__(self, workdir: Path, max_to_keep: int):
        self._folder = (workdir / "checkpoints").absolute()
        self._damaged = (workdir / "damaged").absolute()
        self._unusable: dict[int, str] = {}  # step -> why
        self._without_digests: list[int] = []  # steps that were saved here
        options = ocp.CheckpointManagerOptions(
            max_to_keep=max_to_keep, enable_async_checkpointing=True
        )
        self._options = options
        self._manager = self._new_manager()

    def _new_manager(self) -> ocp.CheckpointManager:
        return ocp.CheckpointManager(self._folder, options=self._options)

    def latest(self) -> int | None:
        """Returns the step of the newest checkpoint that is not known to be damaged."""
        steps = set(self._manager.all_steps()) - set(self._unusable)
        return max(steps, default=None)

    def save(self, step: int, state: Any, notes: dict | None = None) -> None:
        """Starts to save a state; it is copied first, so it may be donated.

        Args:
            step: the state's step.
            state: the state.
            notes: anything else to keep, as JSON can hold it.

        Raises:
            OSError: the disk is too full, now or for the save that was started before.
        """
        if step != self.latest():
            content = _to_tree(state)
            needed = _MIN_FREE * sum(x.nbytes for x in jax.tree.leaves(content))
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
            self._without_digests.append(step)

    def restore(self, like: Any) -> Any:
        """Returns the newest state that is whole, sharded as `like` is.

        Logs which checkpoints are passed over, and why.

        Raises:
            UserError: there is none, or none is whole or of these networks.
        """
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, _to_tree(like))
        while (step := self.latest()) is not None:
            restored, reason = self._try_restore(step, shapes)
            if not reason:
                for bad, why in sorted(self._unusable.items()):
                    logger.warning(
                        f"checkpoint {bad} is passed over ({why}); using {step}"
                    )
                restored["key"] = jax.random.wrap_key_data(restored["key"])
                return like.replace(**restored)
            (is_gone,) = processes.all_max(not (self._folder / str(step)).exists())
            if is_gone:  # the run that saves here deleted it, after a newer save
                self._manager.close()
                self._manager = self._new_manager()  # `reload` misses new steps
                continue
            self._unusable[step] = reason
        if not self._unusable:
            raise UserError(f"{self._folder}: has no checkpoint; train first")
        reasons = (f"{step}: {why}" for step, why in sorted(self._unusable.items()))
        raise UserError(
            f"{self._folder}: no checkpoint can be used ({'; '.join(reasons)}); "
            "restore one from a copy, or start over with --restart"
        )

    def _try_restore(self, step: int, shapes: Any) -> tuple[Any, str]:
        """Returns a state, or None and why not; the same in all processes."""
        reason, restored = "", None
        if processes.is_primary():
            reason = self._verify_digests(step) or self._shape_mismatch(step, shapes)
        reason = processes.first_text(reason)
        if reason:
            return None, reason
        try:
            restored = self._manager.restore(
                step, args=ocp.args.StandardRestore(shapes)
            )
        except (ValueError, KeyError, OSError) as error:
            reason = first_line(error)
        return restored, processes.first_text(reason)

    def notes(self) -> dict:
        """Returns the notes of the newest checkpoint; empty if it has none."""
        return dict(self._manager.metadata(self.latest()).custom_metadata or {})

    def set_damaged_aside(self) -> None:
        """Moves what `restore` passed over to damaged/, for its steps to be free."""
        if not self._unusable:
            return

        def move() -> None:
            self._damaged.mkdir(exist_ok=True)
            for step in self._unusable:
                place = self._damaged / str(step)
                place = next_free_name(place) if place.exists() else place
                (self._folder / str(step)).rename(place)

        processes.on_primary(move)
        self._manager.reload()
        self._unusable = {}

    def _write_digests(self) -> None:
        """Writes digests of what was saved here, once its files are complete."""
        for step in self._without_digests if processes.is_primary() else ():
            folder = self._folder / str(step)
            if folder.exists():  # it may be deleted already, for newer ones
                content = json.dumps(_digests(folder), indent=1)
                write_atomically(folder / _DIGESTS, content + "\n")
        self._without_digests = []

    def _verify_digests(self, step: int) -> str:
        """Returns what is wrong with the files of a checkpoint, or an empty text.

        A checkpoint without digests was interrupted, or is of an older version; whether
        it can be read will show.
        """
        folder = self._folder / str(step)
        if not (folder / _DIGESTS).exists():
            return ""
        try:
            expected = dict(json.loads((folder / _DIGESTS).read_text()))
            present = _digests(folder)
        except (OSError, ValueError, TypeError, RecursionError) as error:
            return f"{_DIGESTS}: {error}"
        if not expected:
            return f"{_DIGESTS} is empty"
        for name in sorted(expected):
            if name not in present:
                return f"{name} is missing"
            if expected[name] != present[name]:
                return f"{name} is not as it was written"
        return ""

    def _shape_mismatch(self, step: int, shapes: Any) -> str:
        """Returns which array is missing or of another shape, or an empty text.

        Orbax reports that too, at length and from several threads.
        """
        try:
            with ocp.StandardCheckpointer() as reader:
                about = reader.metadata(self._folder / str(step) / "default")
            leaves = named_leaves(about.item_metadata.tree)
            stored = {name: tuple(leaf.shape) for name, leaf in leaves.items()}
        except Exception:  # a damaged file can raise anything
            return ""  # reading it will give a better reason
        for name, like in named_leaves(shapes).items():
            if stored.get(name) != like.shape:
                has = f"has shape {stored[name]}" if name in stored else "is missing"
                return f"{name} {has}, config.json describes {like.shape}"
        return ""

    def wait(self) -> None:
        """Waits until everything that was started is on disk."""
        with self._errors():
            self._manager.wait_until_finished()
        self._write_digests()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Raises Orbax's errors about the disk as OSError."""
        try:
            yield
        except ValueError as error:
            marks = ("RESOURCE_EXHAUSTED", "os_error_code", "OCDBT")
            if processes.is_caused_by_another(error) or not any(
                mark in str(error) for mark in marks
            ):
                raise
            # The last part of a long message, before the specification of an array.
            reason = str(error).partition(" [")[0].rpartition(": ")[2]
            raise OSError(
                f"{self._folder}: a checkpoint could not be written ({reason})"
            ) from None

    def close(self) -> None:
        """Ends all work; logs that a save failed, so as not to hide another error."""
        try:
            with self._errors():
                self._manager.close()
        except OSError as error:
            logger.warning(error)
        with contextlib.suppress(OSError):  # a checkpoint can be used without digests
            self._write_digests()


def _digests(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of all files but hidden ones and the digests themselves."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != _DIGESTS and path.name[0] != ".":
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            digests[path.relative_to(folder).as_posix()] = digest
    return digests


@jax.jit
def _copy(tree: Any) -> Any:
    return jax.tree.map(jnp.copy, tree)


def named_leaves(tree: Any) -> dict[str, Any]:
    """Returns the leaves by path, such as `generator/params/Dense_0/kernel`."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def with_plain_key(state: Any) -> Any:
    """Returns the state with its key as integers, which a file can hold."""
    return state.replace(key=jax.random.key_data(state.key))


def _to_tree(state: Any) -> dict[str, Any]:
    """Returns the fields of a state as a checkpoint has them.

    What is empty is left out: checkpoints from before it was a field are the same.
    """
    plain = with_plain_key(state)
    fields = {f.name: getattr(plain, f.name) for f in dataclasses.fields(plain)}
    return {name: value for name, value in fields.items() if jax.tree.leaves(value)}
