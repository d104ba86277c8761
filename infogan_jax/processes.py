"""Several processes that train together, and what they tell each other.

All of them go through the same calls, in the same order. Alone, a process is the first
one, and each of these functions comes down to nothing.
"""

import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from infogan_jax.config import NO_MEMORY, UserError, first_line

_HEARTBEAT = 30  # seconds without a sign of life, after which a process counts as dead
_FOR_A_FILE = 10.0  # seconds until what one host writes has to be seen by another one

T = TypeVar("T")


def join(coordinator: str, num_processes: int, process_id: int) -> None:
    """Makes this process one of several that train together.

    To be called before jax is used. All of them go through the same calls.

    Args:
        coordinator: HOST:PORT of process 0, or "auto": all three as `jax.distributed`
            finds them (SLURM, Open MPI, Kubernetes, Cloud TPU).
        num_processes: how many there are.
        process_id: which one this is, from 0 on.

    Raises:
        UserError: no cluster is found, or the others do not come.
    """
    found: dict = {}
    if coordinator != "auto":
        if not 0 <= process_id < num_processes:
            raise UserError(
                f"--process_id={process_id}: expected 0 or more, and less than "
                f"--num_processes={num_processes}"
            )
        if not coordinator.rpartition(":")[2].isdigit():
            raise UserError(f"--coordinator={coordinator}: expected HOST:PORT, or auto")
        found = {
            "coordinator_address": coordinator,
            "num_processes": num_processes,
            "process_id": process_id,
        }
    try:
        jax.distributed.initialize(
            **found,
            heartbeat_timeout_seconds=_HEARTBEAT,
            shutdown_timeout_seconds=_HEARTBEAT,
        )
    except (ValueError, RuntimeError) as error:
        reason = first_line(error)
        raise UserError(
            f"--coordinator={coordinator}: no group of processes ({reason}); name "
            "HOST:PORT of process 0, --num_processes and --process_id"
        ) from None


def is_by_another(error: Exception) -> bool:
    """Whether an error tells that another process ended, and not of a fault here.

    It comes from the collective that waits: by XLA, or by Gloo (on CPUs) within a call
    of Orbax, which raises it as a ValueError. A device without memory is a fault here.
    """
    by_xla = isinstance(error, jax.errors.JaxRuntimeError)
    return (by_xla and NO_MEMORY not in str(error)) or "Gloo" in str(error)


def is_first() -> bool:
    """Whether this process is the one that writes figures and logs."""
    return jax.process_index() == 0


def everywhere(action: Callable[[], T]) -> T:
    """Runs it in every process; a UserError in one of them is raised in all.

    So none waits for another that has ended.
    """
    if jax.process_count() == 1:
        return action()
    told = ""
    try:
        result = action()
    except UserError as error:
        told = str(error)
    for process, text in enumerate(_exchange(told)):
        if text:
            raise UserError(f"process {process}: {text}")
    return result


def at_first(action: Callable[[], T]) -> T | None:
    """Runs it in process 0, for which the others wait; their result is None."""
    return everywhere(lambda: action() if is_first() else None)


def first_text(text: str) -> str:
    """The first one that is not empty among those of all processes, in each."""
    if jax.process_count() == 1:
        return text
    return next(filter(None, _exchange(text)), "")


def check_alike(settings: dict) -> None:
    """Raises UserError in every process unless all have the same settings."""
    if jax.process_count() == 1:
        return
    first, *others = (json.loads(text) for text in _exchange(json.dumps(settings)))
    for process, other in enumerate(others, start=1):
        for name, value in first.items():
            if other[name] != value:
                raise UserError(
                    f"{name}: {other[name]} in process {process}, {value} in process "
                    "0; start all of them with the same flags and data"
                )


def check_shared(folder: Path) -> None:
    """Raises UserError in every process unless all see what process 0 writes there."""
    if jax.process_count() == 1:
        return
    # A name that no copy of the folder has
    mark = folder / f".seen_by_all_{int(from_first(secrets.randbelow(2**31)))}"

    def look():
        end = time.monotonic() + _FOR_A_FILE
        while not mark.exists():
            if time.monotonic() > end:
                raise UserError(
                    f"--workdir={folder}: what process 0 writes does not show there; "
                    "expected one folder that all processes share"
                )
            time.sleep(0.1)

    at_first(mark.touch)
    try:
        everywhere(look)
    finally:
        mark.unlink(missing_ok=True)


def largest(*values: int) -> list[int]:
    """Of each of several values the largest among all processes."""
    if jax.process_count() == 1:
        return list(values)
    of_each = multihost_utils.process_allgather(np.array(values, np.int32))
    return np.max(of_each, axis=0).tolist()


def from_first(array: np.ndarray | int) -> np.ndarray:
    """Process 0's array, in every process; the others have one of its shape."""
    if jax.process_count() == 1:
        return np.asarray(array)
    return np.asarray(multihost_utils.broadcast_one_to_all(np.asarray(array)))


def _exchange(text: str) -> list[str]:
    """The text of each process."""
    content = text.encode()
    (longest,) = largest(len(content))
    padded = np.frombuffer(content.ljust(longest + 1, b"\0"), np.uint8)
    all_of_them = np.asarray(multihost_utils.process_allgather(padded))
    return [row.tobytes().rstrip(b"\0").decode() for row in all_of_them]
