"""One image of a file, `[h, w, C]` of its own type.

What a file is, and how its axes, colours and bits are meant, is asked of the file; its
name says nothing. What is not understood is refused, with the reason.
"""

import functools
import threading
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from infogan_jax.data.axes import Reading, count_images, find_axes, take
from infogan_jax.data.formats import (
    READ_IN_PARTS,
    Reader,
    Stored,
    bits_to_bytes,
    reader_of,
)
from infogan_jax.data.pictures import read_picture

_lock = threading.Lock()


class Decoded(NamedTuple):
    """An image, and what its file says about it."""

    pixels: np.ndarray  # [h, w, C]
    channels: tuple[str, ...] = ()  # their names
    pixel_size: float | None = None  # micrometres


def count_in_file(path: Path, reading: Reading) -> int:
    """Returns how many images of their own a file holds.

    Raises:
        ValueError: with the reason why it cannot be used.
    """
    reader = reader_of(path)
    if reader is None:
        return 1
    with reader(path, reading.array_name) as stored:
        shape = stored.array.shape
        return count_images(shape, find_axes(shape, stored.axes, reading))


def read_file(
    path: Path, reading: Reading, channels: str = "", place: int | None = None
) -> Decoded:
    """Returns an image of a file.

    Args:
        path: of the file.
        reading: how an array is taken.
        channels: `grey` or `rgb` to convert colours; anything else: as they are.
        place: which image, of a file of several; None: its only one.

    Raises:
        ValueError: with the reason why it cannot be used.
    """
    if path.stat().st_size == 0:
        raise ValueError("an empty file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader = reader_of(path)
        if reader is None:
            image = Decoded(read_picture(path))
        else:
            image = _read_array(reader, path, reading, place)
    pixels = _convert(image.pixels, channels)
    names = () if channels in ("grey", "rgb") else image.channels
    return image._replace(pixels=pixels, channels=names)


def _read_array(
    reader: Reader, path: Path, reading: Reading, place: int | None
) -> Decoded:
    name = reading.array_name
    if place is None or reader in READ_IN_PARTS:
        with reader(path, name) as stored:
            return _take(stored, reading, place)
    with _lock:
        stored = _read_whole(reader, path, path.stat().st_mtime_ns, name)
    return _take(stored, reading, place)


@functools.lru_cache(maxsize=1)  # images of a file are read one behind the other
def _read_whole(reader: Reader, path: Path, changed: int, name: str) -> Stored:
    with reader(path, name) as stored:
        return stored


def _take(stored: Stored, reading: Reading, place: int | None) -> Decoded:
    shape = stored.array.shape
    axes = find_axes(shape, stored.axes, reading)
    count = count_images(shape, axes)
    if place is None and count != 1:
        letters = axes.replace("Y", "H").replace("X", "W").replace("S", "C")
        raise ValueError(f"{count} images; --stack={letters} takes each")
    pixels = take(stored.array, axes, place or 0, reading)
    names = stored.channels if len(stored.channels) == pixels.shape[-1] else ()
    if not names and pixels.shape[-1] == 3 and _are_stains(axes, pixels.dtype):
        names = "1", "2", "3"
    return Decoded(pixels, names, stored.pixel_size)


def _are_stains(axes: str, dtype: np.dtype) -> bool:
    """Whether three channels are no red, green and blue.

    Cameras store those of a pixel beside each other; programs that write any three
    planes call them a colour, too.
    """
    are_of_a_camera = "S" in axes and axes.index("S") > axes.index("Y")
    return not are_of_a_camera and dtype != np.uint8


def _convert(image: np.ndarray, channels: str) -> np.ndarray:
    if image.dtype == bool:
        image = bits_to_bytes(image)
    if image.dtype.kind not in "uif":
        raise ValueError(f"values of type {image.dtype}; expected numbers")
    if image.dtype.kind == "f":
        image = image.astype(np.float32)
    image = image.astype(image.dtype.newbyteorder("="), copy=False)
    if channels in ("grey", "rgb") and image.shape[-1] not in (1, 3):
        raise ValueError(f"{image.shape[-1]} channels cannot become {channels}")
    if channels == "rgb" and image.shape[-1] == 1:
        image = np.repeat(image, 3, axis=-1)
    if channels == "grey" and image.shape[-1] == 3:
        grey = image @ np.array([0.299, 0.587, 0.114])  # ITU-R 601, as Pillow does
        image = np.round(grey)[..., None].astype(image.dtype)
    return image
