"""Images on disk, to stay there or to be read into memory."""

import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from infogan_jax.cores import core_count, in_order
from infogan_jax.kept import kept

_CHUNK = 2**22  # bytes of images per read: ArrayRecord starts threads for each
# One decoding thread per 16 KiB of image; smaller images are bound by the GIL.
_BYTES_PER_THREAD = 2**14


class Subset:
    """The records at some places of a split, int `[N]`."""

    def __init__(self, records: Any, places: np.ndarray, name: str):
        self._records, self.places, self.name = records, places, name

    def subset(self, chosen: np.ndarray) -> "Subset":
        """Returns the records that a mask or places choose."""
        return Subset(self._records, self.places[chosen], self.name)

    def __len__(self) -> int:
        return len(self.places)

    def __getitems__(self, places: list[int]) -> list:
        return self._records.__getitems__(self.places[places].tolist())


class StoredImages:
    """Acts as an array of images, uint8 `[N, H, W, C]`; indexing reads from disk.

    Decoding a large image releases the GIL, so threads share the work.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        read: Callable[[list[int]], np.ndarray],
        shape: tuple[int, int, int, int],
        in_memory: bool = False,
        digest: str = "",
    ):
        """
        Args:
            read: places -> the images there, uint8 `[n, H, W, C]`.
            shape: (N, H, W, C).
            in_memory: whether `materialize` reads them into memory.
            digest: over all that decides what they are, to keep them as an array for
                the next start; empty: they are not kept.
        """
        self._read, self.shape, self.in_memory = read, shape, in_memory
        self._digest = digest
        each = math.prod(shape[1:])
        self._size = max(1, _CHUNK // each)
        self._threads = min(max(each // _BYTES_PER_THREAD, 1), core_count())
        self._pool = ThreadPoolExecutor(self._threads)
        self._all: np.ndarray | None = None

    def materialize(self) -> "np.ndarray | StoredImages":
        """Returns them as an array, and keeps it, if they are to be in memory."""
        if not self.in_memory:
            return self
        if self._all is None and self._digest:
            self._all = kept("images", self._digest, self._read_all)
        elif self._all is None:
            self._all = self._read_all()
        return self._all

    def _read_all(self) -> np.ndarray:
        chunks = self._chunks(np.arange(len(self)))
        images = in_order(self._read, chunks, self._threads)
        return self._concatenate(images, len(self))

    def subset(self, places: np.ndarray) -> "StoredImages":
        """Returns the images at `places`, int `[n]`, in their order."""
        read, shape = self._read, (len(places), *self.shape[1:])
        return StoredImages(lambda of: read(places[of].tolist()), shape, self.in_memory)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape)

    def __getitem__(self, index: Any) -> np.ndarray:
        """Returns the images at a slice, or at an array of places of any shape."""
        if self._all is not None:
            return self._all[index]
        places = np.arange(len(self))[index]
        chunks = self._pool.map(self._read, self._chunks(places.ravel()))
        images = self._concatenate(chunks, places.size)
        return images.reshape(*places.shape, *self.shape[1:])

    def _chunks(self, places: np.ndarray) -> list[list[int]]:
        flat, size = places.tolist(), self._size
        return [flat[i : i + size] for i in range(0, len(flat), size)]

    def _concatenate(self, chunks: Iterable[np.ndarray], count: int) -> np.ndarray:
        images = np.empty((count, *self.shape[1:]), np.uint8)
        for i, chunk in enumerate(chunks):
            images[i * self._size :][: len(chunk)] = chunk
        return images


ImageArray = np.ndarray | StoredImages  # uint8 [N, H, W, C]


def is_streamed(images: Any) -> bool:
    """Returns whether an array's images stay on disk."""
    return isinstance(images, StoredImages) and not images.in_memory
