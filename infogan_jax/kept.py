"""Arrays that take long to make, kept on disk for other runs and the next start."""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from infogan_jax.files import cache_folder, replacing

_MOST = 2**33  # bytes of all that is kept; what was used longest ago goes first
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
        The array; read-only, and read as it is used, if it is kept.
    """
    path = cache_folder() / f"{name}_{digest[:16]}.npy"
    if (array := _open(path)) is not None:
        return array
    begin = time.perf_counter()
    array = make()
    if time.perf_counter() - begin > _WORTH:
        with contextlib.suppress(OSError):  # a home that cannot be written
            _remove_old(path.parent, array.nbytes)
            with replacing(path) as part, part.open("wb") as file:
                np.save(file, array, allow_pickle=False)
    return array


def _open(path: Path) -> np.ndarray | None:
    try:
        array = np.load(path, mmap_mode="r")
        os.utime(path)
    except (OSError, ValueError):
        return None
    return np.asarray(array)


def _remove_old(folder: Path, wanted: int) -> None:
    """Removes arrays until there is room for so many bytes more."""
    files = [(path.stat(), path) for path in folder.glob("*.npy")]
    total = wanted + sum(about.st_size for about, _ in files)
    for about, path in sorted(files, key=lambda file: file[0].st_mtime):
        if total <= _MOST:
            break
        path.unlink()
        total -= about.st_size
