"""Several processes that train together, and how they communicate.

All of them make the same calls in the same order. Process 0 is the primary one, which
writes figures and logs. With one process every function here is a no-op.
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

from infogan_jax.errors import OUT_OF_MEMORY, UserError, first_line

_HEARTBEAT = 30  # seconds without a heartbeat after which a process counts as dead
_FILE_TIMEOUT = 10.0  # seconds after which a shared file must be visible to all hosts

T = TypeVar("T")


def join(coordinator: str, num_processes: int, process_id: int) -> None:
    """Makes this process one of several that train together; before jax is used.

    Args:
        coordinator: HOST:PORT of process 0, or "auto": all three as `jax.distributed`
            detects them (SLURM, Open MPI, Kubernetes, Cloud TPU).
        num_processes: how many there are.
        process_id: which one this is, from 0 on.

    Raises:
        UserError: there is no cluster, or the other processes do not connect.
    """
    arguments: dict = {}
    if coordinator != "auto":
        if not 0 <= process_id < num_processes:
            raise UserError(
                f"--process_id={process_id}: expected 0 or more, and less than "
                f"--num_processes={num_processes}"
            )
        if not coordinator.rpartition(":")[2].isdigit():
            raise UserError(
                f"--coordinator_address={coordinator}: expected HOST:PORT, or auto"
            )
        arguments = {
            "coordinator_address": coordinator,
            "num_processes": num_processes,
            "process_id": process_id,
        }
    try:
        jax.distributed.initialize(
            **arguments,
            heartbeat_timeout_seconds=_HEARTBEAT,
            shutdown_timeout_seconds=_HEARTBEAT,
        )
    except (ValueError, RuntimeError) as error:
        reason = first_line(error)
        raise UserError(
            f"--coordinator_address={coordinator}: no group of processes ({reason}); "
            "name HOST:PORT of process 0, --num_processes and --process_id"
        ) from None


def is_caused_by_another(error: Exception) -> bool:
    """Returns whether an error means that another process ended.

    Such errors come from a waiting collective: from XLA, or on CPUs from Gloo within a
    call of Orbax, which raises them as ValueError. A device without memory is our own
    error.
    """
    by_xla = isinstance(error, jax.errors.JaxRuntimeError)
    return (by_xla and OUT_OF_MEMORY not in str(error)) or "Gloo" in str(error)


def is_primary() -> bool:
    """Returns whether this is the process that writes figures and logs."""
    return jax.process_index() == 0


def on_all(action: Callable[[], T]) -> T:
    """Runs an action in every process; a UserError in one of them is raised in all.

    So no process waits for another one that has ended.
    """
    if jax.process_count() == 1:
        return action()
    message = ""
    try:
        result = action()
    except UserError as error:
        message = str(error)
    for process, text in enumerate(_exchange(message)):
        if text:
            raise UserError(f"process {process}: {text}")
    return result


def on_primary(action: Callable[[], T]) -> T | None:
    """Runs an action in process 0 while the others wait; their result is None."""
    return on_all(lambda: action() if is_primary() else None)


def first_text(text: str) -> str:
    """Returns the first text that is not empty among those of all processes."""
    if jax.process_count() == 1:
        return text
    return next(filter(None, _exchange(text)), "")


def check_equal(settings: dict) -> None:
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
    """Raises UserError in every process unless all see files that process 0 writes."""
    if jax.process_count() == 1:
        return
    # A random name: a separate copy of the folder must not have it already.
    mark = folder / f".seen_by_all_{int(broadcast(secrets.randbelow(2**31)))}"

    def look() -> None:
        end = time.monotonic() + _FILE_TIMEOUT
        while not mark.exists():
            if time.monotonic() > end:
                raise UserError(
                    f"--workdir={folder}: what process 0 writes does not appear there; "
                    "expected one folder that all processes share"
                )
            time.sleep(0.1)

    on_primary(mark.touch)
    try:
        on_all(look)
    finally:
        mark.unlink(missing_ok=True)


def all_max(*values: int) -> list[int]:
    """Returns the maximum over all processes of each value."""
    if jax.process_count() == 1:
        return list(values)
    gathered = multihost_utils.process_allgather(np.array(values, np.int32))
    return np.max(gathered, axis=0).tolist()


def broadcast(array: np.ndarray | int) -> np.ndarray:
    """Returns process 0's array in every process; all pass one of its shape."""
    if jax.process_count() == 1:
        return np.asarray(array)
    return np.asarray(multihost_utils.broadcast_one_to_all(np.asarray(array)))


def _exchange(text: str) -> list[str]:
    """Returns the text of each process."""
    content = text.encode()
    (longest,) = all_max(len(content))
    padded = np.frombuffer(content.ljust(longest + 1, b"\0"), np.uint8)
    gathered = np.asarray(multihost_utils.process_allgather(padded))
    return [row.tobytes().rstrip(b"\0").decode() for row in gathered]
