"""Arrays that take long to make, kept on disk for other runs and the next start."""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from infogan_jax.files import cache_folder, replacing

_MOST = 2**33  # bytes of all that is kept; what was used longest ago goes first
_LONG_AGO = 86_400  # seconds after which nobody writes a file any more
_WORTH = 0.3  # seconds to make an array, from which on it is kept


def kept(name: str, digest: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """Returns what `make` does, or what it made of the same before.

    A file that is damaged counts for none, and a folder that cannot be written keeps
    nothing.

    Args:
        name: what it is.
        digest: hexadecimal digits over all that it is made of.
        make: makes the array.

    Returns:
        The array.
    """
    path = cache_folder() / f"{name}_{digest[:16]}.npy"
    if (array := _open(path)) is not None:
        return array
    begin = time.perf_counter()
    array = make()
    if time.perf_counter() - begin > _WORTH and array.nbytes <= _MOST:
        with contextlib.suppress(OSError):  # a home that cannot be written
            _remove_old(path.parent, array.nbytes)
            with replacing(path) as part:
                part.touch(mode=0o600)  # images may be nobody else's business
                with part.open("wb") as file:
                    np.save(file, array, allow_pickle=False)
    return array


def _open(path: Path) -> np.ndarray | None:
    try:
        array = np.load(path)
    except Exception:  # a damaged header raises anything
        return None
    with contextlib.suppress(OSError):  # another user's
        os.utime(path)
    return array


def _remove_old(folder: Path, wanted: int) -> None:
    """Removes arrays until there is room for so many bytes more.

    And what processes left that were killed as they wrote.
    """
    files = [(path.stat(), path) for path in folder.glob("*.npy")]
    total = wanted + sum(about.st_size for about, _ in files)
    for about, path in sorted(files, key=lambda file: file[0].st_mtime):
        if total <= _MOST:
            break
        path.unlink(missing_ok=True)
        total -= about.st_size
    for part in folder.glob(".*.part"):
        if time.time() - part.stat().st_mtime > _LONG_AGO:
            part.unlink(missing_ok=True)
