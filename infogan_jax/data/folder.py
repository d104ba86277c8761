"""A user's folder of images: each read, and brought to one form."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from infogan_jax.cores import in_order
from infogan_jax.data import ranges as value_ranges
from infogan_jax.data.axes import Reading
from infogan_jax.data.decode import Decoded, count_in_file, read_file
from infogan_jax.data.imaging import resize
from infogan_jax.data.listing import ARRAYS, Item
from infogan_jax.data.ranges import BYTES, Ranges, Rule
from infogan_jax.errors import SHOWN, some_of
from infogan_jax.settings import DataConfig

WIDER = 257  # white of 16 bits, in white of 8
_MIN_SIDE = 8  # pixels
SAME_SIZE = 1.05  # ratio of sizes of pixels up to which objects are of one scale
_FIELD_OF_CELLS = 2  # times as long as the largest image is no image of one object


@dataclasses.dataclass(frozen=True)
class Form:
    """How images become those that networks see, as far as all are treated alike."""

    ranges: Ranges | None = None  # of each channel; None: bytes
    scale: float | None = None  # of images of several sizes; None: of each its own
    plate_ranges: dict[str, Ranges] | None = None  # with `config.normalise_by`
    pixel_size: float | None = None  # micrometres, in the files
    are_widened: bool = False  # those of 8 bits, since others have 16
    longest: int = 0  # side of the largest image, pixels; 0: not known
    shown_pixel_size: float | None = None  # micrometres, of pixels as networks see them


def read(item: Item, config: DataConfig) -> Decoded:
    """Returns the image as it is stored, `[h, w, C]` of its own type.

    EXIF's orientation is applied, palettes and CMYK become RGB, and transparent pixels
    are shown on black. Pages and samples of a TIFF file are channels, including alpha,
    which microscopes' programs call a fourth channel.

    Args:
        item: of `find` and `expand`.
        config: says which channels, and how axes and values are taken.

    Raises:
        ValueError: with the reason why it cannot be used.
    """
    channels, reading = _numbers(config), reading_of(config)
    parts = [read_file(path, reading, channels, item.place) for path in item.paths]
    if len({part.pixels.shape for part in parts}) > 1:
        raise ValueError("channels of several sizes")
    image = np.concatenate([part.pixels for part in parts], axis=-1)
    names = parts[0].channels if len(parts) == 1 else ()
    numbers = channels.split(",")
    if len(item.paths) == 1 and all(n.isdigit() for n in numbers):
        places = [int(n) - 1 for n in numbers]
        if max(places) >= image.shape[-1] or min(places) < 0:
            raise ValueError(f"{image.shape[-1]} channels, no number {channels}")
        image = image[..., places]
        names = tuple(names[i] for i in places) if names else ()
    height, width, _ = image.shape
    if min(height, width) < _MIN_SIDE:
        raise ValueError(f"{width} x {height} pixels; expected {_MIN_SIDE} or more")
    if not np.isfinite(image).all():
        if not config.nan_value:
            raise ValueError(
                "holds values that are not finite; --nan_value=0 would replace them"
            )
        image = np.where(np.isfinite(image), image, np.float32(config.nan_value))
    if image.min() == image.max():
        raise ValueError(f"constant: every value is {image.min():g}")
    return Decoded(image, names, parts[0].pixel_size)


def convert(
    item: Item, size: int, form: Form, config: DataConfig, is_new: bool = False
) -> np.ndarray:
    """Returns the image in its final form, uint8 `[size, size, C]`.

    Args:
        item: of `find`.
        size: side in pixels; 0: its own.
        form: of all images.
        config: says how to read.
        is_new: whether the image is none of those that the form is of.

    Raises:
        ValueError: a new image is unlike them; the reason says how.
    """
    decoded, ranges = read(item, config), form.ranges
    image = decoded.pixels
    if form.plate_ranges is not None:
        ranges = form.plate_ranges[Rule.of(config).plate_of(item)]
    ranges = ranges or [BYTES] * image.shape[-1]
    if form.are_widened and image.dtype == np.uint8:
        image = widen(image)
    if is_new:
        _check_same_scale(decoded, form)
    if is_new and not config.value_range:
        _check_same_kind(image, ranges, form)
    if image.dtype != np.uint8 or config.value_range or config.normalise_by:
        low, high = np.array(ranges).T
        image = (image.astype(np.float32) - low) / np.maximum(high - low, 1e-12)
        image = np.clip(255 * image, 0, 255).astype(np.float32)
        if is_new and image.min() == image.max():
            raise ValueError(f"nothing within {value_ranges.describe(ranges)}")
    image = resize(image, size, config.resize_mode, form.scale)
    return np.round(image).astype(np.uint8)


def widen(image: np.ndarray) -> np.ndarray:
    """Returns numbers of 8 bits as of 16, the same fraction of the largest one."""
    return image.astype(np.uint16) * WIDER


def _check_same_scale(image: Decoded, form: Form) -> None:
    """Raises ValueError unless an image shows objects as large as the form's."""
    ours, theirs = form.pixel_size, image.pixel_size
    if ours and theirs and max(ours, theirs) > SAME_SIZE * min(ours, theirs):
        raise ValueError(f"pixels of {theirs:g} um; expected {ours:g}")
    height, width, _ = image.pixels.shape
    if form.longest and max(height, width) > _FIELD_OF_CELLS * form.longest:
        raise ValueError(
            f"{width} x {height} pixels; expected {form.longest} or less. If it is a "
            "field of view, --mode=cells cuts its cells out"
        )


def _check_same_kind(image: np.ndarray, ranges: Ranges, form: Form) -> None:
    """Raises ValueError unless an image's values are on the scale of the ranges."""
    if image.shape[-1] != len(ranges):
        raise ValueError(f"channels: {image.shape[-1]}; expected {len(ranges)}")
    if form.plate_ranges is not None:
        return  # each plate is on a scale of its own
    lowest, highest = image.min(), image.max()
    are_bytes = all(tuple(ends) == BYTES for ends in ranges)
    if image.dtype == np.uint8:
        is_same = are_bytes
    elif are_bytes:  # floating point up to 1 is on another scale
        is_same = lowest >= 0 and highest <= 255
        is_same &= highest > 1 or image.dtype.kind != "f"
    else:
        is_same = True
    if not is_same:
        values = f"{image.dtype} from {lowest:g} to {highest:g}"
        raise ValueError(f"{values}; expected {value_ranges.describe(ranges)}")


def _numbers(config: DataConfig) -> str:
    """What `config.channels` says about channels within a file."""
    return "" if config.has_channel_files else config.channels.replace(" ", "")


def expand(items: list[Item], config: DataConfig) -> list[Item]:
    """The items, each image of its own where a file holds several.

    Only arrays are asked how many they hold, or all files if `config.stack` says so:
    opening each takes its time. A file that cannot be read stays as it is.
    """
    reading, result = reading_of(config), []
    for item in items:
        [path, *others] = item.paths
        count = 1
        if not others and (reading.stack or path.name.lower().endswith(ARRAYS)):
            with contextlib.suppress(Exception):  # reading it will say so
                count = count_in_file(path, reading)
        for i in range(count) if count > 1 else ():
            own = f"{item.name}/{i:06d}"
            group = own if item.group == item.name else item.group
            result.append(item._replace(name=own, group=group, place=i))
        if count == 1:
            result.append(item)
    return result


def reading_of(config: DataConfig) -> Reading:
    """Returns how a config has files of arrays taken."""
    stack = "" if config.stack == "auto" else config.stack
    return Reading(config.z, config.t, stack, config.array_name)


def with_progress(function: Callable, inputs: Sequence, label: str) -> Iterator:
    """Yields the function's results in order, from all cores, with a progress bar."""
    from tqdm import tqdm

    results = in_order(function, inputs)
    # disable=None: no bar unless the output is a terminal.
    yield from tqdm(results, label, len(inputs), leave=False, disable=None)


def describe_reasons(left_out: dict[str, str]) -> str:
    """Returns some of the files that cannot be used, each reason once."""
    by_reason: dict[str, list[str]] = {}
    for name in sorted(left_out):
        by_reason.setdefault(left_out[name], []).append(name)
    lines = [f"{some_of(names)}: {reason}" for reason, names in by_reason.items()]
    more = len(lines) - SHOWN
    return "; ".join(lines[:SHOWN]) + (
        f"; and {more} other reasons" if more > 0 else ""
    )
