"""Objects of a segmented field of view: where they are, and windows around them.

Fields are `[H, W, C]` of any type; masks are whole numbers `[H, W]`, 0 where there is
no object, and otherwise the number of the object that a pixel belongs to.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

SURROUNDINGS = "keep", "neighbours", "all"
_STEP = 8  # pixels, of which a window that is chosen here is a multiple
_FITTING = 99  # percent of the objects that it shows whole
_ROOM = 1.15  # ratio of its side to theirs
# Shape, as scikit-image and CellProfiler name it.
_SHAPE = (
    *("label", "centroid", "bbox", "area", "perimeter", "eccentricity", "solidity"),
    *("axis_major_length", "axis_minor_length", "orientation"),
)


_CONSTANT = 0.85  # of the pixels are as their neighbour in a mask
_SILHOUETTE = 2  # values of a picture in black and white, which is no mask


class Objects(NamedTuple):
    """The objects of a field, those that touch its edge left out."""

    table: dict[str, np.ndarray]  # a column for each measure, a row for each object
    at_edge: int  # how many were left out


def looks_like_mask(image: np.ndarray) -> bool:
    """Returns whether an image is of a few whole numbers, each in areas of its own."""
    if image.shape[-1] != 1 or image.dtype.kind not in "ui":
        return False
    is_same = image[:, 1:] == image[:, :-1]
    if is_same.mean() < _CONSTANT:
        return False
    labels = np.unique(image)
    # Of numbered objects almost all numbers are there; grey values leave gaps.
    is_numbered = labels[0] == 0 and labels[-1] <= 2 * len(labels)
    return bool(len(labels) > _SILHOUETTE and is_numbered)


def check_mask(mask: np.ndarray) -> np.ndarray:
    """Returns a mask `[H, W, 1]` as int64 `[H, W]`.

    Raises:
        ValueError: it is none; the reason says why.
    """
    if mask.shape[-1] != 1:
        raise ValueError(f"a mask of {mask.shape[-1]} channels; expected one")
    mask = mask[..., 0]
    whole = mask.astype(np.int64)
    if not np.array_equal(whole, mask) or (whole < 0).any():
        raise ValueError("a mask of other values than whole numbers from 0")
    return whole


def measure(field: np.ndarray, mask: np.ndarray, names: Sequence[str]) -> Objects:
    """Returns the objects of a field, with their place and shape.

    Lengths are pixels, areas square pixels, orientation is in radians from the columns'
    axis; the mean of each channel is `intensity_mean_NAME`.

    Args:
        field: `[H, W, C]`.
        mask: of `check_mask`.
        names: of the channels; empty: numbers from 1.
    """
    names = names or [str(i + 1) for i in range(field.shape[-1])]
    from skimage.measure import regionprops_table  # slow to import

    if not mask.any():
        return Objects({}, 0)
    columns: dict[str, Any] = regionprops_table(
        mask, field, properties=(*_SHAPE, "intensity_mean")
    )
    for i, name in enumerate(names):
        columns[f"intensity_mean_{name}"] = columns.pop(f"intensity_mean-{i}")
    y, x = columns.pop("centroid-0"), columns.pop("centroid-1")
    top, left, bottom, right = (columns.pop(f"bbox-{i}") for i in range(4))
    height, width = mask.shape
    inside = (top > 0) & (left > 0) & (bottom < height) & (right < width)
    # The middle of the box, about which a window shows most of the object.
    middle = {"middle_y": (top + bottom - 1) / 2, "middle_x": (left + right - 1) / 2}
    box = {"height": bottom - top, "width": right - left}
    table = {"label": columns.pop("label"), "y": y, "x": x, **middle, **box, **columns}
    return Objects({k: v[inside] for k, v in table.items()}, int((~inside).sum()))


def longest_sides(mask: np.ndarray) -> list[int]:
    """Returns the longer side of each object's box, pixels."""
    from scipy.ndimage import find_objects  # slow to import

    boxes = [box for box in find_objects(mask) if box is not None]
    return [max(part.stop - part.start for part in box) for box in boxes]


def choose_window(longest: Sequence[int]) -> int:
    """Returns the side of a window that shows almost all objects whole.

    Args:
        longest: side of each object's box, pixels.
    """
    largest = np.percentile(longest, _FITTING, method="higher")
    return int(-(-largest * _ROOM // _STEP) * _STEP)


def cut_out(
    field: np.ndarray,
    mask: np.ndarray,
    objects: Objects,
    window: int,
    surroundings: str,
) -> Iterator[np.ndarray]:
    """Yields a window around each object, `[window, window, C]`.

    Its middle is the middle of the object's box, rounded. What is replaced, and what
    lies beyond the field, becomes each channel's median outside of all objects.

    Args:
        field: `[H, W, C]`.
        mask: of `check_mask`.
        objects: of `measure`.
        window: side, pixels.
        surroundings: `keep` replaces nothing, `neighbours` other objects, `all`
            everything outside of the object.
    """
    empty = mask == 0
    outside = field[empty] if empty.any() else field.reshape(-1, field.shape[-1])
    background = np.median(outside, 0).astype(field.dtype)
    table = objects.table
    for label, y, x in zip(
        table.get("label", ()),
        table.get("middle_y", ()),
        table.get("middle_x", ()),
        strict=True,
    ):
        top, left = round(y - (window - 1) / 2), round(x - (window - 1) / 2)
        crop = np.broadcast_to(background, (window, window, len(background))).copy()
        there = [
            slice(max(0, start), min(size, start + window))
            for start, size in zip((top, left), mask.shape, strict=True)
        ]
        here = tuple(
            slice(part.start - start, part.stop - start)
            for part, start in zip(there, (top, left), strict=True)
        )
        crop[here] = field[tuple(there)]
        owners = mask[tuple(there)]
        if surroundings == "all":
            crop[here][owners != label] = background
        elif surroundings == "neighbours":
            crop[here][(owners != label) & (owners != 0)] = background
        yield crop
