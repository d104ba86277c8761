"""A user's folder of images: surveyed, and converted to one form."""

import contextlib
import functools
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from infogan_jax.cores import core_count
from infogan_jax.data import ranges as value_ranges
from infogan_jax.data.axes import Reading
from infogan_jax.data.decode import Decoded, count_in_file, read_file
from infogan_jax.data.imaging import resize
from infogan_jax.data.listing import ARRAYS, Item, Listing
from infogan_jax.data.objects import looks_like_mask
from infogan_jax.data.ranges import BYTES, Ranges, Rule
from infogan_jax.data.splits import digest
from infogan_jax.errors import SHOWN, UserError, first_line, some_of
from infogan_jax.settings import DataConfig

logger = logging.getLogger(__name__)
_MIN_SIDE = 8  # pixels
_MIN_IMAGES = 10
_PREFETCH = 16  # images per core that are read ahead
_SAME_SCALE = 1.01  # ratio of sizes of pixels up to which they count as equal
_FITTING = 99  # percent of the images that one scale shows whole
_FIELD, _FIELD_SHRINKS = 256, 4  # pixels of a side, and how much smaller it becomes
_FEW_MASKS = 0.1  # of the images that may look like masks
_DIM = 0.1  # of the range of values: pictures that reach no further are too dark


class Survey(NamedTuple):
    """What a folder holds, after every file was read once."""

    items: list[Item]
    left_out: dict[str, str]  # file -> reason
    size: int  # side, pixels
    ranges: Ranges
    summary: list[str]  # a line of what there is, then one for each oddity
    channels: list[str] | None = None  # their names, where files say them
    pixel_size: float | None = None  # micrometres, where files say it
    scale: float | None = None  # of all images; None: of each its own
    plate_ranges: dict[str, Ranges] | None = None  # with `config.normalise_by`


def survey(root: Path, files: Listing, config: DataConfig) -> Survey:
    """Reads every image once, and returns what can be used and how.

    Args:
        root: named in errors.
        files: of `find`.
        config: says how to read, and what size.

    Raises:
        UserError: there are too few images or too many unusable ones, or they have
            several channel counts, or several sizes without `config.image_size`.
    """
    items, seen = expand(files.items, config), []
    sample = value_ranges.to_look_at(items, config)
    all_looks = in_order(
        lambda item: _look(item, config, item.name in sample), items, "looking at"
    )
    left_out = dict(files.left_out)
    for item, look in zip(items, all_looks, strict=True):
        if isinstance(look, str):
            left_out[item.name] = look
        else:
            seen.append((item, look))
    kinds = Counter(look.dtype for _, look in seen)
    usual = kinds.most_common(1)[0][0] if kinds else ""
    for item, look in seen:
        if look.dtype != usual:
            left_out[item.name] = f"{look.dtype}, where most others are {usual}"
    _check_no_masks(root, seen)
    good = [item for item, look in seen if look.dtype == usual]
    looks = [look for _, look in seen if look.dtype == usual]
    _check_channels(root, [look.shape[-1] for look in looks])
    total = len(good) + len(left_out)
    most = config.max_invalid_percent / 100 * total
    if not good or len(left_out) > most:
        raise UserError(
            f"{root}: {len(left_out)} of {total} images cannot be used, more than "
            f"--max_invalid_percent={config.max_invalid_percent:g}: "
            f"{describe_reasons(left_out)}"
        )
    if len(good) < _MIN_IMAGES:
        raise UserError(
            f"{root}: {len(good)} image{'s' * (len(good) > 1)}; expected {_MIN_IMAGES} "
            "or more, and thousands to learn from"
        )
    sides = sorted({look.shape[:2] for look in looks})
    size = config.image_size or sides[0][0]
    if not config.image_size and sides != [(size, size)]:
        raise UserError(
            f"{root}: images are not square or of {len(sides)} sizes, such as "
            f"{sides[0][1]} x {sides[0][0]}; resize them to one square by --image_size"
        )
    good, doubles = _join_doubles(good, looks)
    ranges, plates = _ranges(good, looks, config)
    channels = files.channels or list(looks[0].channels)
    pixel_size = looks[0].pixel_size
    summary = _summarise(looks, ranges, sides, doubles, channels)
    if sides[0][0] >= _FIELD and size <= sides[0][0] / _FIELD_SHRINKS:
        summary.append(
            f"images of {sides[0][1]} x {sides[0][0]} become {size} x {size}: if they "
            "are fields of view of many cells, --mode=cells cuts these out"
        )
    if plates:
        each = (f"{k} {value_ranges.describe(v)}" for k, v in plates.items())
        summary[0] += f", of {Rule.of(config).column} {'; '.join(each)}"
    form = Survey(good, left_out, size, ranges, summary, channels, pixel_size)
    if len(sides) > 1 and config.resize_mode in ("auto", "scale"):
        scale, told = _one_scale(looks, size)
        summary[0] += told
        form = form._replace(scale=scale)
    return form._replace(plate_ranges=plates)


def _check_no_masks(root: Path, seen: list[tuple[Item, "_Look"]]) -> None:
    masks = [(item, look) for item, look in seen if look.is_mask]
    if len(masks) > _FEW_MASKS * len(seen):
        item, look = masks[0]
        raise UserError(
            f"{root}: {len(masks)} of {len(seen)} images, such as {item.name}, have "
            f"whole numbers {look.lowest:g} to {look.highest:g} in large constant "
            "areas: these look like label masks. --mode=cells cuts the cells out of "
            "fields by them; --file_pattern leaves them out"
        )


def _one_scale(looks: list["_Look"], size: int) -> tuple[float, str]:
    """The factor by which almost every image fits, and words that say so."""
    longest = np.array([max(look.shape[:2]) for look in looks])
    largest = int(np.percentile(longest, _FITTING, method="higher"))
    cut = int((longest > largest).sum())
    return size / largest, (
        f", all scaled alike, {largest} pixels to {size}"
        f"{f', of which {cut} larger ones lose their borders' if cut else ''}"
    )


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


def _join_doubles(items: list[Item], looks: list["_Look"]) -> tuple[list[Item], int]:
    """The items, equal images of one group; and how many are equal to an earlier one.

    Otherwise one could be trained on while its double is measured on. Groups that the
    files name stay as they are.
    """
    first: dict[tuple, str] = {}
    joined, doubles = [], 0
    for item, look in zip(items, looks, strict=True):
        group = first.setdefault((look.shape, look.digest), item.group)
        doubles += group != item.group
        joined.append(item._replace(group=group) if item.group == item.name else item)
    return joined, doubles


def _summarise(
    looks: list["_Look"],
    ranges: list[tuple[float, float]],
    sides: list[tuple[int, ...]],
    doubles: int,
    names: list[str],
) -> list[str]:
    """What was made of a folder, in a line, and a line for each oddity."""
    channels = looks[0].shape[-1]
    pixels = sorted({look.pixel_size for look in looks if look.pixel_size})
    low, high = min(x.lowest for x in looks), max(x.highest for x in looks)
    sizes = f"{sides[0][1]} x {sides[0][0]}"
    if len(sides) > 1:
        sizes += f" to {sides[-1][1]} x {sides[-1][0]}"
    lines = [
        f"{len(looks):,} images, {sizes} pixels"
        f"{f' of {pixels[0]:g} um' if pixels else ''}, {channels} channel"
        f"{'s' * (channels > 1)}{' ' * bool(names)}{', '.join(names)}, values {low:g} "
        f"to {high:g} on a scale of {value_ranges.describe(ranges)}"
    ]
    if len(pixels) > 1 and pixels[-1] > _SAME_SCALE * pixels[0]:
        lines.append(
            f"pixels are of {pixels[0]:g} to {pixels[-1]:g} um: size in the pictures "
            "is not size of the objects"
        )
    if doubles:
        lines.append(
            f"{doubles} images are equal to others, and are held out only with them"
        )
    darkest, brightest = ranges[0]
    if high < darkest + _DIM * (brightest - darkest):
        lines.append(
            f"no value is above {high:g} of {brightest:g}: pictures are almost black; "
            f"--value_range={low:g},{high:g} makes them bright"
        )
    return lines


@functools.cache  # a run opens its data several times
def tell(summary: tuple[str, ...]) -> None:
    """Logs what a folder holds, the first line, and what is odd about it; once."""
    for i, line in enumerate(summary):
        (logger.warning if i else logger.info)(line)


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
    item: Item, survey: Survey, config: DataConfig, is_new: bool = False
) -> np.ndarray:
    """Returns the image in its final form, uint8 `[size, size, C]`.

    Args:
        item: of `find`.
        survey: gives the size and ranges.
        config: says how to read.
        is_new: whether the image was no part of the survey.

    Raises:
        ValueError: a new image is unlike those of the survey; the reason says how.
    """
    image, ranges = read(item, config).pixels, survey.ranges
    if survey.plate_ranges is not None:
        ranges = survey.plate_ranges[Rule.of(config).plate_of(item)]
    if is_new and not config.value_range:
        _check_same_kind(image, ranges)
    if image.dtype != np.uint8 or config.value_range or config.normalise_by:
        low, high = np.array(ranges).T
        image = (image.astype(np.float32) - low) / np.maximum(high - low, 1e-12)
        image = np.clip(255 * image, 0, 255).astype(np.float32)
        if is_new and image.min() == image.max():
            raise ValueError(f"nothing within {value_ranges.describe(ranges)}")
    image = resize(image, survey.size, config.resize_mode, survey.scale)
    return np.round(image).astype(np.uint8)


def with_new_plates(
    plates: dict[str, Ranges], items: list[Item], config: DataConfig
) -> dict[str, Ranges]:
    """Returns the ranges of a run's plates, and those of others by their controls.

    Raises:
        UserError: a new plate has no control images.
    """
    rule = Rule.of(config)
    rule.check_columns(items, config)
    new = [item for item in items if rule.plate_of(item) not in plates]
    if not new:
        return plates
    sample = value_ranges.to_look_at(new, config)
    controls = [item for item in new if item.name in sample]
    looks = list(in_order(lambda x: _look(x, config, True), controls, "looking at"))
    usable = [
        (item, look.pixels)
        for item, look in zip(controls, looks, strict=True)
        if not isinstance(look, str) and look.pixels is not None
    ]
    rule.check_controls([x for x, _ in usable], map(rule.plate_of, new), config)
    pixels = [some for _, some in usable]
    return plates | value_ranges.of_plates([x for x, _ in usable], pixels, config)


def _check_same_kind(image: np.ndarray, ranges: list[tuple[float, float]]) -> None:
    """Raises ValueError unless an image's values are on the scale of the ranges."""
    if image.shape[-1] != len(ranges):
        raise ValueError(f"channels: {image.shape[-1]}; expected {len(ranges)}")
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


def in_order(function: Callable, inputs: Sequence, label: str) -> Iterator:
    """Yields the function's results in order, from all cores, with a progress bar."""
    from tqdm import tqdm

    cores = core_count()

    def results(pool: ThreadPoolExecutor) -> Iterator:
        waiting: deque[Future] = deque()
        for x in inputs:
            waiting.append(pool.submit(function, x))
            if len(waiting) > _PREFETCH * cores:
                yield waiting.popleft().result()
        for last in waiting:
            yield last.result()

    with ThreadPoolExecutor(cores) as pool:
        # disable=None: no bar unless the output is a terminal.
        yield from tqdm(results(pool), label, len(inputs), leave=False, disable=None)


class _Look(NamedTuple):
    """What one reading of an image shows."""

    shape: tuple[int, ...]
    dtype: str
    channels: tuple[str, ...]  # their names
    pixel_size: float | None  # micrometres
    lowest: float
    highest: float
    digest: str  # of all pixels
    is_mask: bool  # whether it looks like a label mask
    pixels: np.ndarray | None  # some, `[n, C]`


def _look(item: Item, config: DataConfig, with_pixels: bool) -> _Look | str:
    """Reads an image, or returns why it cannot be used."""
    try:
        image, channels, pixel_size = read(item, config)
    except Exception as error:  # decoders raise anything for a damaged file
        return first_line(error)
    pixels = image.reshape(-1, image.shape[-1])
    some = pixels[:: -(-len(pixels) // value_ranges.PIXELS)] if with_pixels else None
    extremes = float(image.min()), float(image.max())
    kind = image.shape, str(image.dtype), channels, pixel_size
    is_mask = looks_like_mask(image)
    return _Look(*kind, *extremes, digest(image), is_mask, some)


def _ranges(
    items: list[Item], looks: list[_Look], config: DataConfig
) -> tuple[Ranges, dict[str, Ranges] | None]:
    """The ranges of all images, and those of each plate, if they are asked for."""
    is_whole = np.issubdtype(np.dtype(looks[0].dtype), np.integer)
    are_bytes = all(look.lowest >= 0 and look.highest <= 255 for look in looks)
    some = [
        (item, look.pixels)
        for item, look in zip(items, looks, strict=True)
        if look.pixels is not None
    ]
    pixels = [part for _, part in some]
    ranges = value_ranges.of_folder(pixels, is_whole and are_bytes, config)
    if not config.normalise_by:
        return ranges, None
    rule = Rule.of(config)  # controls may be among what is left out
    rule.check_controls(items, map(rule.plate_of, items), config)
    return ranges, value_ranges.of_plates([item for item, _ in some], pixels, config)


def _check_channels(root: Path, counts: list[int]) -> None:
    if len(set(counts)) > 1:
        table = ", ".join(f"{n} with {c}" for c, n in sorted(Counter(counts).items()))
        raise UserError(
            f"{root}: images of several channel counts ({table}); convert them to one "
            "by --channels=grey, --channels=rgb, or choose some by --file_pattern"
        )


def _numbers(config: DataConfig) -> str:
    """What `config.channels` says about channels within a file."""
    return "" if config.has_channel_files else config.channels.replace(" ", "")
