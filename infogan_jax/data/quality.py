"""Images that are no good examples: out of focus, overexposed, empty, cut off, copies.

Each is told by comparing an image with all others of its folder; nothing is learned.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_SIDE = 12  # of a thumbnail, pixels
_LIT = 0.3  # of an image's brightest percent, from which on a pixel is of the object
_DEVIATIONS = 4.5  # of the usual size, from which on a value is unusual
_SATURATED = 0.02  # of the pixels, more than usual, have the largest value
_EMPTY = 0.25  # of the usual light of an object
_CUT = 0.1  # of the border's pixels, more than usual, are of the object
_ALIKE = 0.9995  # correlation of two thumbnails of one image
MOST_COMPARED = 20_000  # images, of which copies are sought
_BLOCK = 2048  # thumbnails that are compared at once


class Quality(NamedTuple):
    """What tells a bad image."""

    sharpness: float  # standard deviation of the Laplacian, over the image's own
    saturated: float  # fraction of pixels that have a channel's largest value
    light: float  # mean above the background
    at_border: float  # fraction of the border's pixels that are of the object


def measure(image: np.ndarray) -> Quality:
    """Returns the quality of an image, `[h, w, C]` of any numbers."""
    from scipy.ndimage import laplace  # slow to import

    values = image.astype(np.float32)
    edges = values[0], values[-1], values[:, 0], values[:, -1]
    border = np.concatenate(edges)
    grey = (values - np.median(border, 0)).mean(-1)
    lit = grey > _LIT * max(np.percentile(grey, 99), 1e-6)
    at_border = np.concatenate([lit[0], lit[-1], lit[:, 0], lit[:, -1]])
    most = values.max((0, 1))
    # What has few values, such as a silhouette, has its largest one often.
    is_top = (values == most) & (most > values.min((0, 1)))
    deviation = max(float(grey.std()), 1e-6)
    return Quality(
        float(laplace(grey).std()) / deviation,
        float(is_top.mean((0, 1)).max()),
        float(np.maximum(grey, 0).mean()),
        float(at_border.mean()),
    )


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Returns a small version of an image `[h, w, C]`, `[D]` of mean 0 and length 1."""
    grey = image.mean(-1, dtype=np.float32)
    ends = [np.arange(_SIDE + 1) * n // _SIDE for n in grey.shape]
    sums = np.add.reduceat(grey, ends[0][:-1], 0)
    sums = np.add.reduceat(sums, ends[1][:-1], 1)
    # Means, for blocks are not all of one size
    means = sums / np.maximum(np.outer(*map(np.diff, ends)), 1)
    small = (means - means.mean()).ravel()
    return small / max(float(np.linalg.norm(small)), 1e-6)


def find_bad(
    qualities: Sequence[Quality], thumbnails: np.ndarray, kinds: Sequence[str]
) -> dict[int, str]:
    """Returns the place of each image that is bad, and its kind.

    Args:
        qualities: of all images of a folder.
        thumbnails: likewise, `[N, D]`.
        kinds: of `settings.DROPS`; what to look for.
    """
    sharpness, saturated, light, at_border = (
        np.array([quality[k] for quality in qualities]) for k in range(4)
    )
    sharp, spread = _deviations(np.log(np.maximum(sharpness, 1e-6)))
    tests = {
        "blurred": sharp < -_DEVIATIONS * max(spread, 0.02),
        "saturated": _is_above(saturated, _SATURATED),
        "empty": light < _EMPTY * np.median(light),
        "edge": _is_above(at_border, _CUT),
    }
    bad: dict[int, str] = {}
    for kind in kinds:
        if kind != "copy":
            for place in np.flatnonzero(tests[kind]).tolist():
                bad.setdefault(place, kind)
    if "copy" in kinds:
        good = [k for k in range(len(qualities)) if k not in bad]
        bad |= {good[k]: "copy" for k in find_copies(thumbnails[good])}
    return bad


def _deviations(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Deviations from the median, and their usual size, whatever a few of them are."""
    deviations = values - np.median(values)
    return deviations, 1.4826 * float(np.median(np.abs(deviations)))


def _is_above(values: np.ndarray, least: float) -> np.ndarray:
    """Which values are unusually large, by `least` at least."""
    deviations, spread = _deviations(values)
    return deviations > max(least, _DEVIATIONS * spread)


def find_copies(thumbnails: np.ndarray) -> dict[int, int]:
    """Returns the places of all that are like an earlier one, and the first of these.

    Of more than MOST_COMPARED none is: each is compared with each.

    Args:
        thumbnails: `[N, D]`, of length 1.
    """
    copies: dict[int, int] = {}
    if len(thumbnails) > MOST_COMPARED:
        return copies
    for begin in range(0, len(thumbnails), _BLOCK):
        block = thumbnails[begin : begin + _BLOCK]
        alike = block @ thumbnails[: begin + len(block)].T > _ALIKE
        places = np.arange(begin, begin + len(block))
        alike &= np.arange(alike.shape[1]) < places[:, None]
        for k in np.flatnonzero(alike.any(1)):
            copies[begin + int(k)] = int(alike[k].argmax())
    return copies
