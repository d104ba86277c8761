"""What a user's folder holds, after every image was read once."""

import dataclasses
import functools
import logging
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from infogan_jax.data import ranges as value_ranges
from infogan_jax.data.folder import (
    SAME_SIZE,
    WIDER,
    Form,
    describe_reasons,
    expand,
    read,
    widen,
    with_progress,
)
from infogan_jax.data.listing import Item, Listing
from infogan_jax.data.objects import looks_like_mask
from infogan_jax.data.quality import Quality, find_bad, find_copies, measure, thumbnail
from infogan_jax.data.ranges import Ranges, Rule
from infogan_jax.data.splits import digest
from infogan_jax.errors import UserError, first_line
from infogan_jax.settings import DataConfig

logger = logging.getLogger(__name__)
_MIN_IMAGES = 10
_SAME_SCALE = 1.01  # ratio of sizes of pixels up to which they count as equal
_FITTING = 99  # percent of the images that one scale shows whole
_FIELD, _FIELD_SHRINKS = 256, 4  # pixels of a side, and how much smaller it becomes
_FEW_OF_A_KIND = 0.1  # of the images
_MOST_OF_16_BITS = 0.5 * 65535
_FEW_MASKS = 0.1  # of the images that may look like masks
_DIM = 0.1  # of the range of values: pictures that reach no further are too dark


class Survey(NamedTuple):
    """What a folder holds, after every file was read once."""

    items: list[Item]
    left_out: dict[str, str]  # file -> reason
    size: int  # side, pixels
    form: Form
    summary: list[str]  # a line of what there is, then one for each oddity
    channels: list[str]  # their names, where files say them
    dropped: dict[str, list[Item]]  # by `config.drop`: kind -> images, among left_out


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
    good, looks, left_out = _look_at_all(root, files, config)
    good, looks, dropped = _drop(root, good, looks, config)
    _check_channels(root, [look.shape[-1] for look in looks])
    sides = sorted({look.shape[:2] for look in looks})
    size = config.image_size or sides[0][0]
    if not config.image_size and sides != [(size, size)]:
        raise UserError(
            f"{root}: images are not square or of {len(sides)} sizes, such as "
            f"{sides[0][1]} x {sides[0][0]}; resize them to one square by --image_size"
        )
    channels = files.channels or list(looks[0].channels)
    names = config.names_of_channels()
    if names and len(names) != looks[0].shape[-1]:
        raise UserError(
            f"--channel_names={config.channel_names}: {len(names)} names; the images "
            f"of {root} have {looks[0].shape[-1]} channels"
        )
    good, doubles = _join_doubles(good, looks)
    ranges, plates = _ranges(good, looks, config)
    summary = _summarise(looks, ranges, sides, doubles, names or channels)
    if plates:
        each = (f"{k} {value_ranges.describe(v)}" for k, v in plates.items())
        summary[0] += f", of {Rule.of(config).column} {'; '.join(each)}"
    scale = None
    if len(sides) > 1 and config.resize_mode in ("auto", "scale"):
        scale, told = _one_scale(looks, size)
        summary[0] += told
    if sides[0][0] >= _FIELD and size <= sides[0][0] / _FIELD_SHRINKS:
        summary.append(
            f"images of {sides[0][1]} x {sides[0][0]} become {size} x {size}: if they "
            "are fields of view of many cells, --mode=cells cuts these out"
        )
    pixel_size, longest = _pixel_size(looks), max(map(max, sides))
    factor = scale or _factor(sides, size, config)
    shown = pixel_size / factor if pixel_size and factor else None
    wider = sum(look.is_widened for look in looks)
    if wider:
        summary.append(
            f"{wider:,} images are of 8 bits, {len(looks) - wider:,} of 16: each is "
            "taken as a fraction of its own white"
        )
    form = Form(ranges, scale, plates, pixel_size, bool(wider), longest, shown)
    for kind, items in dropped.items():
        left_out |= dict.fromkeys((item.name for item in items), kind)
    if dropped:
        counts = (f"{len(items)} {kind}" for kind, items in dropped.items())
        summary[0] += f"; dropped: {', '.join(counts)}"
    return Survey(good, left_out, size, form, summary, channels, dropped)


def _pixel_size(looks: list["_Look"]) -> float | None:
    """Micrometres, if all files say the same."""
    sizes = [look.pixel_size for look in looks]
    known = [size for size in sizes if size]
    if len(known) < len(sizes) or max(known) > SAME_SIZE * min(known):
        return None
    return known[0]


def _factor(
    sides: list[tuple[int, ...]], size: int, config: DataConfig
) -> float | None:
    """How much larger images become, if it is the same for all and along both sides."""
    height, width = sides[0]
    if len(sides) > 1 or (config.resize_mode == "stretch" and height != width):
        return None
    side = min(height, width) if config.resize_mode == "crop" else max(height, width)
    return size / side


def _look_at_all(
    root: Path, files: Listing, config: DataConfig
) -> tuple[list[Item], list["_Look"], dict[str, str]]:
    """The images that can be used, what they are like, and those that cannot be."""
    items, seen = expand(files.items, config), []
    sample = value_ranges.to_look_at(items, config)
    all_looks = with_progress(
        lambda item: _look(item, config, item.name in sample), items, "looking at"
    )
    left_out = dict(files.left_out)
    for item, look in zip(items, all_looks, strict=True):
        if isinstance(look, str):
            left_out[item.name] = look
        else:
            seen.append((item, look))
    if _are_of_8_and_16_bits([look for _, look in seen]):
        seen = [(item, _widened(look)) for item, look in seen]
    kinds = Counter(look.dtype for _, look in seen)
    usual = kinds.most_common(1)[0][0] if kinds else ""
    for item, look in seen:
        if look.dtype != usual:
            left_out[item.name] = f"{look.dtype}, where most others are {usual}"
    _check_no_masks(root, seen)
    good = [item for item, look in seen if look.dtype == usual]
    total = len(good) + len(left_out)
    most = config.max_invalid_percent / 100 * total
    if not good or len(left_out) > most:
        raise UserError(
            f"{root}: {len(left_out)} of {total} images cannot be used, more than "
            f"--max_invalid_percent={config.max_invalid_percent:g}: "
            f"{describe_reasons(left_out)}"
        )
    _check_enough(root, len(good))
    return good, [look for _, look in seen if look.dtype == usual], left_out


def _are_of_8_and_16_bits(looks: list["_Look"]) -> bool:
    """Whether a folder has both, and white is the largest number of either.

    A few of one kind, or 12 bits of a camera, are not on one scale with the others.
    """
    wide = [look.highest for look in looks if look.dtype == "uint16"]
    narrow = sum(look.dtype == "uint8" for look in looks)
    are_both = min(len(wide), narrow) >= max(1, _FEW_OF_A_KIND * len(looks))
    return are_both and float(np.median(wide)) > _MOST_OF_16_BITS


def _check_enough(root: Path, count: int) -> None:
    if count < _MIN_IMAGES:
        raise UserError(
            f"{root}: {count} image{'s' * (count > 1)}; expected {_MIN_IMAGES} "
            "or more, and thousands to learn from"
        )


def _drop(
    root: Path, items: list[Item], looks: list["_Look"], config: DataConfig
) -> tuple[list[Item], list["_Look"], dict[str, list[Item]]]:
    """Those that stay, and what `config.drop` leaves out, by kind."""
    kinds = config.kinds_to_drop()
    qualities = [look.quality for look in looks if look.quality is not None]
    if not kinds or not qualities:
        return items, looks, {}
    bad = find_bad(qualities, np.stack([look.thumbnail for look in looks]), kinds)
    dropped: dict[str, list[Item]] = {}
    for place, kind in sorted(bad.items()):
        dropped.setdefault(kind, []).append(items[place])
    kept = [k for k in range(len(items)) if k not in bad]
    _check_enough(root, len(kept))
    return [items[k] for k in kept], [looks[k] for k in kept], dropped


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


def _join_doubles(
    items: list[Item], looks: list["_Look"]
) -> tuple[list[Item], list[str]]:
    """The items, equal images of one group; and lines about what is left.

    Otherwise one could be trained on while its double is measured on. Groups that the
    files name stay as they are.
    """
    groups: dict[tuple, str] = {}
    joined, doubles, apart = [], 0, 0
    for item, look in zip(items, looks, strict=True):
        group = groups.setdefault((look.shape, look.digest), item.group)
        if group != item.group:
            is_free = item.group == item.name
            doubles, apart = doubles + is_free, apart + (not is_free)
            item = item._replace(group=group) if is_free else item
        joined.append(item)
    lines = []
    if doubles:
        lines.append(
            f"{doubles} images are equal to others, and are held out only with them"
        )
    copies = find_copies(np.stack([look.thumbnail for look in looks]))
    near = sum(joined[k].group != joined[i].group for k, i in copies.items())
    apart = max(apart, near)
    if apart:
        lines.append(
            f"{apart} images are equal, or almost, to others, and may be trained on "
            "while these are measured on; --drop=copy leaves them out"
        )
    return joined, lines


def _summarise(
    looks: list["_Look"],
    ranges: list[tuple[float, float]],
    sides: list[tuple[int, ...]],
    doubles: list[str],
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
    lines += doubles
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


def with_own_plates(
    form: Form, items: list[Item], config: DataConfig, is_other: bool
) -> Form:
    """Returns the form with ranges of plates that it lacks, by their controls.

    Args:
        form: of a run.
        items: what is to be read.
        config: of the run.
        is_other: whether they are of another folder than the run's. Its plates have
            ranges of their own, whatever they are called; one without controls has
            those of the run's plate of that name.

    Raises:
        UserError: it has neither.
    """
    rule, known = Rule.of(config), form.plate_ranges or {}
    rule.check_columns(items, config)
    with_controls = {rule.plate_of(item) for item in rule.controls(items)}
    here = [
        item
        for item in items
        if rule.plate_of(item) not in known
        or (is_other and rule.plate_of(item) in with_controls)
    ]
    if not here:
        return form
    sample = value_ranges.to_look_at(here, config)
    controls = [item for item in here if item.name in sample]
    looks = list(
        with_progress(lambda x: _look(x, config, True), controls, "looking at")
    )
    usable, pixels = [], []
    for item, look in zip(controls, looks, strict=True):
        if isinstance(look, str):
            continue
        seen = _widened(look) if form.are_widened else look
        if seen.pixels is not None:
            usable.append(item)
            pixels.append(seen.pixels)
    rule.check_controls(usable, map(rule.plate_of, here), config)
    found = value_ranges.of_plates(usable, pixels, config)
    return dataclasses.replace(form, plate_ranges=known | found)


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
    thumbnail: np.ndarray
    quality: Quality | None  # if it may be left out for it
    is_widened: bool = False  # of 8 bits, in a folder where others have 16


def _look(item: Item, config: DataConfig, with_pixels: bool) -> _Look | str:
    """Reads an image, or returns why it cannot be used."""
    try:
        image, channels, pixel_size = read(item, config)
    except Exception as error:  # decoders raise anything for a damaged file
        return first_line(error)
    pixels = image.reshape(-1, image.shape[-1])
    some = pixels[:: -(-len(pixels) // value_ranges.PIXELS)] if with_pixels else None
    return _Look(
        shape=image.shape,
        dtype=str(image.dtype),
        channels=channels,
        pixel_size=pixel_size,
        lowest=float(image.min()),
        highest=float(image.max()),
        digest=digest(image),
        is_mask=looks_like_mask(image),
        pixels=some,
        thumbnail=thumbnail(image),
        quality=measure(image) if config.drop else None,
    )


def _widened(look: _Look) -> _Look:
    """What an image of 8 bits shows as one of 16."""
    if look.dtype != "uint8":
        return look
    return look._replace(
        dtype="uint16",
        lowest=WIDER * look.lowest,
        highest=WIDER * look.highest,
        pixels=None if look.pixels is None else widen(look.pixels),
        is_widened=True,
    )


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
    sample, pixels = [item for item, _ in some], [part for _, part in some]
    plates = None
    if config.normalise_by:
        rule = Rule.of(config)  # controls may be among what is left out
        rule.check_controls(sample, map(rule.plate_of, items), config)
        plates = value_ranges.of_plates(sample, pixels, config)
    return value_ranges.of_folder(pixels, is_whole and are_bytes, config), plates


def _check_channels(root: Path, counts: list[int]) -> None:
    if len(set(counts)) > 1:
        table = ", ".join(f"{n} with {c}" for c, n in sorted(Counter(counts).items()))
        raise UserError(
            f"{root}: images of several channel counts ({table}); convert them to one "
            "by --channels=grey, --channels=rgb, or choose some by --file_pattern"
        )
