"""Images on disk, to stay there or to be brought into memory."""

import itertools
import math
import os
import signal
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

_PART = 2**22  # bytes of images to read at once, for which ArrayRecord makes threads
_LONG = 10  # seconds of reading that are worth processes, which take some to start
_EACH = 2**14  # bytes of an image that are worth a thread: small ones wait for Python


class Part:
    """Some records of a source."""

    def __init__(self, records: Any, places: np.ndarray):
        self._records, self._places = records, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitems__(self, places: list[int]) -> list:
        return self._records.__getitems__(self._places[places].tolist())


class StoredImages:
    """Looks like an array of images, uint8 `[N, H, W, C]`; an index reads from disk.

    Decoding large ones leaves Python free for most of its time, so threads share it.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        read: Callable[[list[int]], np.ndarray],
        shape: tuple[int, int, int, int],
        in_memory: bool = False,
    ):
        """
        Args:
            read: places -> the images there, uint8 `[n, H, W, C]`.
            shape: (N, H, W, C).
            in_memory: `bring` has them in memory.
        """
        self._read, self.shape, self.in_memory = read, shape, in_memory
        each = math.prod(shape[1:])
        self._size = max(1, _PART // each)
        self._pool = ThreadPoolExecutor(min(max(each // _EACH, 1), os.cpu_count() or 1))
        self._all: np.ndarray | None = None

    def bring(self) -> "np.ndarray | StoredImages":
        """All of them as an array, also for later, if they are to be in memory."""
        if not self.in_memory:
            return self
        if self._all is None:
            first, *rest = self._parts(np.arange(len(self)))
            begin = time.perf_counter()
            known = self._read(first)
            is_long = (time.perf_counter() - begin) * len(rest) > _LONG
            share = _by_processes if is_long else self._pool.map
            parts = itertools.chain([known], share(self._read, rest))
            self._all = self._joined(parts, len(self))
        return self._all

    def part(self, places: np.ndarray) -> "StoredImages":
        """Some of them, in the order of `places`, int `[n]`."""
        read, shape = self._read, (len(places), *self.shape[1:])
        return StoredImages(lambda of: read(places[of].tolist()), shape, self.in_memory)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape)

    def __getitem__(self, index) -> np.ndarray:
        """The images at a slice, or at an array of places of any shape."""
        if self._all is not None:
            return self._all[index]
        places = np.arange(len(self))[index]
        parts = self._pool.map(self._read, self._parts(places.ravel()))
        images = self._joined(parts, places.size)
        return images.reshape(*places.shape, *self.shape[1:])

    def _parts(self, places: np.ndarray) -> list[list[int]]:
        flat, size = places.tolist(), self._size
        return [flat[i : i + size] for i in range(0, len(flat), size)]

    def _joined(self, parts: Iterable[np.ndarray], count: int) -> np.ndarray:
        images = np.empty((count, *self.shape[1:]), np.uint8)
        for i, part in enumerate(parts):
            images[i * self._size :][: len(part)] = part
        return images


def is_streamed(images: Any) -> bool:
    """Whether these, or what else stands for an array, are on disk to stay there."""
    return isinstance(images, StoredImages) and not images.in_memory


def _by_processes(action: Callable, inputs: list) -> Iterable:
    """As `map`, by a process for each core: Python keeps threads from each other."""
    import joblib  # seldom needed

    processes = min(joblib.cpu_count(), len(inputs))
    pool = joblib.Parallel(processes, return_as="generator")
    # They start with this mask: a Ctrl-C is for this process, with which they end
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool(joblib.delayed(action)(x) for x in inputs)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
