"""Images that stay on disk."""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from infogan_jax.config import first_line

_PART = 64  # images that a thread reads at once
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
        records: Sequence,
        decode: Callable[[list], np.ndarray],
        image_shape: tuple[int, int, int],
    ):
        """
        Args:
            records: encoded images; `records.__getitems__(places)` gives several.
            decode: such records -> uint8 `[n, H, W, C]`.
            image_shape: (H, W, C).
        """
        self._records, self._decode = records, decode
        self.shape = (len(records), *image_shape)
        threads = math.prod(image_shape) // _EACH
        self._pool = ThreadPoolExecutor(min(max(threads, 1), os.cpu_count() or 1))

    def part(self, places: np.ndarray) -> "StoredImages":
        """Some of them, in the order of `places`, int `[n]`."""
        records = Part(self._records, places)
        return StoredImages(records, self._decode, self.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape)

    def __getitem__(self, index) -> np.ndarray:
        """The images at a slice, or at an array of places of any shape."""
        places = np.arange(len(self))[index]
        flat = places.ravel().tolist()
        parts = [flat[i : i + _PART] for i in range(0, len(flat), _PART)]
        images = np.empty((len(flat), *self.shape[1:]), np.uint8)
        for i, part in enumerate(self._pool.map(self._read, parts)):
            images[i * _PART : i * _PART + len(part)] = part
        return images.reshape(*places.shape, *self.shape[1:])

    def _read(self, places: list[int]) -> np.ndarray:
        try:
            return self._decode(self._records.__getitems__(places))
        except RuntimeError as error:  # how ArrayRecord tells of a damaged file
            raise OSError(f"images cannot be read ({first_line(error)})") from None
