"""What the axes of an array mean: of stored arrays, to images of one form.

Axes have a letter each, as in OME and tifffile: Y and X are rows and columns of pixels,
C channels, S samples of a colour, Z depths, T times. N numbers images of their own.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from infogan_jax.fields import axis_letters

_MAX_VALUES = 1 << 28  # pixels times channels of one image; more is a bomb or a slip
_MAX_CHANNELS = 10  # of an array that does not say which axis they are
_KNOWN = set("NTZCSYX")
_PLURAL = {"T": "times", "Z": "depths"}


class Sliceable(Protocol):
    """An array in memory or in a file."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, places: tuple) -> np.ndarray: ...


class Reading(NamedTuple):
    """How files of arrays are to be taken."""

    z: str = ""  # of depths: max, mean, middle, or a number from 1
    t: str = ""  # of times: a number from 1
    stack: str = ""  # letters of the axes, in place of the file's own; empty: its own
    array_name: str = ""  # in a file of several arrays; empty: the only one


def check_size(taken: Sequence[int], shape: Sequence[int] = ()) -> None:
    """Raises ValueError before memory is allocated for too large an array.

    Args:
        taken: shape of what is to be read.
        shape: of all that is there, to be named; empty: the same.
    """
    if math.prod(taken) > _MAX_VALUES:
        raise ValueError(
            f"an array of shape {tuple(shape or taken)}; that is too large"
        )


def find_axes(shape: Sequence[int], axes: str, reading: Reading) -> str:
    """Returns the letters of an array's axes.

    Args:
        shape: of the array.
        axes: letters as the file says them; empty, or others than the known ones, where
            it does not.
        reading: may say them in its place.

    Raises:
        ValueError: they are not said, and several readings are possible; or what the
            reading says does not fit.
    """
    long = [n for n in shape if n > 1]
    if reading.stack:
        letters = axis_letters(reading.stack)
        if len(letters) == len(shape):
            return letters
        if len(letters) != len(long):
            raise ValueError(
                f"an array of shape {tuple(shape)} has no axes {reading.stack}"
            )
    elif set(axes) <= _KNOWN and set("YX") <= set(axes):
        return axes
    else:
        letters = _guess(long, tuple(shape))
    rest = iter(letters)
    # Every letter fits an axis of length 1.
    return "".join(next(rest) if n > 1 else "C" for n in shape)


def _guess(long: Sequence[int], shape: tuple[int, ...]) -> str:
    """Letters of the axes longer than 1 of an array that says none.

    Channels are few, and the first or the last axis; of four axes the first numbers
    images, which are more.
    """
    if len(long) == 2:
        return "YX"
    inner = long[-3:]
    first, _, last = inner if len(inner) == 3 else (0, 0, 0)
    is_first = first <= _MAX_CHANNELS and first < last
    is_last = last <= _MAX_CHANNELS and last < first
    is_many = len(long) == 3 or (len(long) == 4 and long[0] > _MAX_CHANNELS)
    if is_many and is_first != is_last:
        return "N"[: len(long) - 3] + ("CYX" if is_first else "YXC")
    if len(long) == 3:
        raise ValueError(
            f"an array of shape {shape}: {first} images of {long[1]} x {last}, or one "
            f"of {first} x {long[1]} with {last} channels? --stack=NHW or --stack=HWC "
            "says which"
        )
    if len(long) == 4:
        raise ValueError(
            f"an array of shape {shape}: what are its axes? --stack=NHWC, NCHW, CZHW "
            "or ZCHW says so"
        )
    raise ValueError(f"an array of shape {shape}; expected an image")


def count_images(shape: Sequence[int], axes: str) -> int:
    """Returns how many images of their own an array with these axes holds."""
    return math.prod(n for n, a in zip(shape, axes, strict=True) if a == "N")


def take(array: Sliceable, axes: str, place: int, reading: Reading) -> np.ndarray:
    """Returns one image, `[h, w, C]`, of what may be many.

    Depths are projected, and a time chosen; channels of several axes are joined in the
    order of the axes. No more is read of the array than that.

    Args:
        array: in memory or in a file.
        axes: a letter for each of its axes.
        place: of the image, below `count_images`.
        reading: says how.

    Raises:
        ValueError: there are several depths or times and no word how to take them, or
            no such one; or the image is too large.
    """
    places: list = []
    for axis, n in zip(axes, array.shape, strict=True):
        if axis == "N":
            places.append(place)
        elif axis == "T" or (axis == "Z" and reading.z not in ("max", "mean")):
            places.append(_number(axis, n, axes, reading))
        else:
            places.append(slice(None))
    kept = [
        (a, n)
        for a, n, p in zip(axes, array.shape, places, strict=True)
        if isinstance(p, slice)
    ]
    check_size([n for _, n in kept], array.shape)
    image, left = np.asarray(array[tuple(places)]), "".join(a for a, _ in kept)
    if "Z" in left:
        depth = left.index("Z")
        image = image.max(depth) if reading.z == "max" else _mean(image, depth)
        left = left.replace("Z", "")
    order = [left.index(axis) for axis in "YX"]
    others = [i for i in range(len(left)) if i not in order]
    image = image.transpose(order + others)
    return image.reshape(*image.shape[:2], -1)


def _mean(image: np.ndarray, axis: int) -> np.ndarray:
    mean = image.mean(axis, dtype=np.float64)
    if image.dtype.kind in "ui":
        mean = np.round(mean)
    return mean.astype(image.dtype)


def _number(axis: str, count: int, axes: str, reading: Reading) -> int:
    """The index of the depth or time to take."""
    name, told = axis.lower(), reading.z if axis == "Z" else reading.t
    if count == 1:
        return 0
    if not told:
        cures = f"--{name}=1 to --{name}={count} takes one"
        if axis == "Z":
            cures = f"--z=max, mean or middle projects them, {cures}"
        raise ValueError(
            f"{count} {_PLURAL[axis]} (axes {axes}); {cures}, --stack=NHW takes each "
            "as an image"
        )
    if told == "middle":
        return count // 2
    if not 1 <= int(told) <= count:
        raise ValueError(f"{count} {_PLURAL[axis]}, no number {told} (--{name})")
    return int(told) - 1
