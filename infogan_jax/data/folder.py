"""A user's folder of images: listed, surveyed, and converted to one form."""

import hashlib
import itertools
import os
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from infogan_jax.data.decode import TIFF, read_file
from infogan_jax.data.imaging import resize
from infogan_jax.errors import UserError, first_line
from infogan_jax.settings import DataConfig

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".npy"} | TIFF
_MIN_SIDE = 8  # pixels
_MIN_IMAGES = 10
_SAMPLE, _PIXELS = 2000, 4096  # images, and pixels of each, for the percentiles
BYTES = 0.0, 255.0  # the range of a channel of bytes
_PREFETCH = 16  # images per core that are read ahead
_SHOWN = 5  # files that an error names
_UNSORTED = "unsorted"  # label of images outside of any subfolder


class Item(NamedTuple):
    """One image, in one file or in one for each channel."""

    name: str  # of the image, unique
    paths: tuple[Path, ...]
    label: str
    group: str


class Listing(NamedTuple):
    """The files of a folder, none of them read yet."""

    items: list[Item]
    left_out: dict[str, str]  # image with a channel missing -> reason
    passed_over: str  # a line about files that are no images, or empty
    channels: list[str]  # values of {channel}, empty if the pattern has none


class Survey(NamedTuple):
    """What a folder holds, after every file was read once."""

    items: list[Item]
    left_out: dict[str, str]  # file -> reason
    size: int  # side, pixels
    ranges: list[tuple[float, float]]  # of each channel, what becomes 0 and 255


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
    items, seen = files.items, []
    sample = set(range(0, len(items), -(-len(items) // _SAMPLE) or 1))
    all_looks = in_order(
        lambda i: _look(items[i], config, i in sample), range(len(items)), "looking at"
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
    good = [item for item, look in seen if look.dtype == usual]
    looks = [look for _, look in seen if look.dtype == usual]
    _check_channels(root, [look.shape[-1] for look in looks])
    total = len(good) + len(left_out)
    most = config.max_invalid_percent / 100 * total
    if not good or len(left_out) > most:
        few = [f"{name}: {left_out[name]}" for name in sorted(left_out)[:_SHOWN]]
        more = f"; and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
        raise UserError(
            f"{root}: {len(left_out)} of {total} images cannot be used, more than "
            f"--max_invalid_percent={config.max_invalid_percent:g}: "
            f"{'; '.join(few)}{more}"
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
    return Survey(good, left_out, size, _ranges(looks, usual, config))


def find(root: Path, config: DataConfig) -> Listing:
    """Lists the images below a folder, in the order of their names.

    Without `config.file_pattern` each file with a suffix of SUFFIXES is an image, and
    the subfolder of the root that it lies in is its label. Hidden files are ignored.

    Raises:
        UserError: the folder cannot be read, or has no images; or the pattern is
            malformed.
    """
    try:
        paths = sorted(Path(f) / n for f, _, names in _walk(root) for n in names)
    except OSError as error:
        raise UserError(f"{root}: cannot be read ({error.strerror})") from None
    regex = _compile(config.file_pattern) if config.file_pattern else None
    parts: dict[str, dict[str, Path]] = {}
    about: dict[str, tuple[str, str]] = {}
    left_out: dict[str, str] = {}
    others: list[Path] = []
    for path in paths:
        relative = path.relative_to(root)
        if any(part.startswith(".") for part in relative.parts):
            continue  # macOS leaves some beside each file
        # tfds stores a label per line.
        label = " ".join(relative.parts[0].split()) if len(relative.parts) > 1 else ""
        label = label or _UNSORTED
        name, channel, group = relative.as_posix(), "", ""
        match = None
        if regex:
            match = regex.fullmatch(
                name if "/" in config.file_pattern else relative.name
            )
        if path.suffix.lower() not in SUFFIXES or (regex and not match):
            others.append(relative)
            continue
        try:
            name.encode()
        except UnicodeEncodeError:
            shown = name.encode(errors="backslashreplace").decode()
            left_out[shown] = "a name that is not UTF-8"
            continue
        if match:
            fields = match.groupdict()
            label = fields.get("label", label)
            channel, group = fields.get("channel", ""), fields.get("group", "")
            if channel:
                name = _name_of(relative, match)
        former = parts.setdefault(name, {}).setdefault(channel, path)
        if former != path:
            raise UserError(
                f"--file_pattern={config.file_pattern}: {former.relative_to(root)} and "
                f"{relative} are both channel {channel} of {name}; expected a pattern "
                "that tells images apart"
            )
        about[name] = label, group or name
    if not parts:
        of = (
            f"that match --file_pattern={config.file_pattern}"
            if config.file_pattern
            else "of images"
        )
        raise UserError(
            f"{root}: has no files {of}; expected some of {sorted(SUFFIXES)}"
        )
    channels = _wanted(parts, config)
    items = []
    for name, files in parts.items():
        missing = [channel for channel in channels if channel not in files]
        if missing:
            left_out[name] = f"channel {', '.join(missing)} is missing"
        else:
            items.append(Item(name, tuple(files[c] for c in channels), *about[name]))
    passed_over = _describe_others(others, config) if others else ""
    return Listing(items, left_out, passed_over, [c for c in channels if c])


def _describe_others(others: list[Path], config: DataConfig) -> str:
    what = "end as images do"
    if config.file_pattern:
        what = f"match --file_pattern={config.file_pattern}"
    few = ", ".join(map(str, others[:_SHOWN]))
    more = ", .." if len(others) > _SHOWN else ""
    return f"passed over: {len(others)} that do not {what}: {few}{more}"


def read(item: Item, channels: str = "") -> np.ndarray:
    """Returns the image as it is stored, `[h, w, C]` of its own type.

    EXIF's orientation is applied, palettes and CMYK become RGB, and transparent pixels
    are shown on black. Pages and samples of a TIFF file are channels, including alpha,
    which microscopes' programs call a fourth channel.

    Args:
        item: of `find`.
        channels: `grey`, `rgb`, or numbers from 1; empty: all as they are.

    Raises:
        ValueError: with the reason why it cannot be used.
    """
    arrays = [read_file(path, channels) for path in item.paths]
    if len({array.shape for array in arrays}) > 1:
        raise ValueError("channels of several sizes")
    image = np.concatenate(arrays, axis=-1)
    numbers = channels.split(",")
    if len(item.paths) == 1 and all(n.isdigit() for n in numbers):
        places = [int(n) - 1 for n in numbers]
        if max(places) >= image.shape[-1] or min(places) < 0:
            raise ValueError(f"{image.shape[-1]} channels, no number {channels}")
        image = image[..., places]
    height, width, _ = image.shape
    if min(height, width) < _MIN_SIDE:
        raise ValueError(f"{width} x {height} pixels; expected {_MIN_SIDE} or more")
    if not np.isfinite(image).all():
        raise ValueError("holds values that are not finite")
    if image.min() == image.max():
        raise ValueError(f"constant: every value is {image.min():g}")
    return image


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
    image = read(item, _numbers(config))
    if is_new:
        _check_same_kind(image, survey.ranges)
    if image.dtype != np.uint8:
        low, high = np.array(survey.ranges).T
        image = (image.astype(np.float32) - low) / np.maximum(high - low, 1e-12)
        image = np.clip(255 * image, 0, 255).astype(np.float32)
        if is_new and image.min() == image.max():
            raise ValueError(f"nothing within {_format(survey.ranges)}")
    return np.round(resize(image, survey.size, config.resize_mode)).astype(np.uint8)


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
        raise ValueError(f"{values}; expected {_format(ranges)}")


def _format(ranges: list[tuple[float, float]]) -> str:
    return " or ".join(dict.fromkeys(f"{low:g} to {high:g}" for low, high in ranges))


def in_order(function: Callable, inputs: Sequence, label: str) -> Iterator:
    """Yields the function's results in order, from all cores, with a progress bar."""
    from tqdm import tqdm

    cores = os.cpu_count() or 1

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


def listing_digest(items: list[Item]) -> str:
    """Returns a digest that changes when a file is changed, added or removed."""
    total = hashlib.sha256()
    for item in items:
        for path in item.paths:
            try:
                stat = path.stat()
                state = f"{stat.st_size} {stat.st_mtime_ns}"
            except OSError:  # such as a dangling link
                state = "missing"
            total.update(f"{item} {state}\n".encode())
    return total.hexdigest()


class _Look(NamedTuple):
    """What one reading of an image shows."""

    shape: tuple[int, ...]
    dtype: str
    lowest: float
    highest: float
    pixels: np.ndarray | None  # some, `[n, C]`


def _look(item: Item, config: DataConfig, with_pixels: bool) -> _Look | str:
    """Reads an image, or returns why it cannot be used."""
    try:
        image = read(item, _numbers(config))
    except Exception as error:  # decoders raise anything for a damaged file
        return first_line(error)
    pixels = image.reshape(-1, image.shape[-1])
    some = pixels[:: -(-len(pixels) // _PIXELS)] if with_pixels else None
    extremes = float(image.min()), float(image.max())
    return _Look(image.shape, str(image.dtype), *extremes, some)


def _ranges(
    looks: list[_Look], dtype: str, config: DataConfig
) -> list[tuple[float, float]]:
    """0 and 255 for bytes, also in a wider integer type; percentiles for others."""
    channels = looks[0].shape[-1]
    is_whole = np.issubdtype(np.dtype(dtype), np.integer)
    are_bytes = all(look.lowest >= 0 and look.highest <= 255 for look in looks)
    if is_whole and are_bytes:
        return [BYTES] * channels
    pixels = np.concatenate([x.pixels for x in looks if x.pixels is not None])
    percents = [float(p) for p in config.percentiles.split(",")]
    low, high = np.percentile(pixels.astype(np.float64), percents, axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def _check_channels(root: Path, counts: list[int]) -> None:
    if len(set(counts)) > 1:
        table = ", ".join(f"{n} with {c}" for c, n in sorted(Counter(counts).items()))
        raise UserError(
            f"{root}: images of several channel counts ({table}); convert them to one "
            "by --channels=grey, --channels=rgb, or choose some by --file_pattern"
        )


def _walk(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    def fail(error: OSError) -> None:
        raise error

    return os.walk(root, onerror=fail, followlinks=True)


def _compile(pattern: str) -> re.Pattern:
    """Returns a pattern such as {id}_ch{channel}.tif as a regular expression."""
    known = "id", "channel", "label", "group"
    regex, stars = "", itertools.count()
    for text, field in re.findall(r"([^{}]*)(?:\{([^{}]*)\})?", pattern):
        regex += re.sub(
            r"\\\*", lambda _: f"(?P<_{next(stars)}>[^/]*)", re.escape(text)
        )
        if field and field not in known:
            raise UserError(f"--file_pattern={pattern}: {{{field}}}; expected {known}")
        regex += f"(?P<{field}>[^/]+?)" if field else ""
    if "{id}" not in pattern or any(pattern.count(f"{{{k}}}") > 1 for k in known):
        raise UserError(
            f"--file_pattern={pattern}: expected {{id}}, and no field twice"
        )
    return re.compile(regex)


def _name_of(relative: Path, match: re.Match) -> str:
    """A unique name of an image: slides may number their cells alike."""
    fields = match.groupdict()
    stars = [key for key in fields if key.startswith("_")]
    known = [fields[k] for k in ("label", "group", *stars, "id") if k in fields]
    folder = relative.parent.as_posix()
    begin, end = match.span("channel")
    if match.string == relative.as_posix() and end <= len(folder):
        folder = folder[:begin] + folder[end:]  # one subfolder per channel
    return Path(folder, *known).as_posix()


def _wanted(parts: dict[str, dict[str, Path]], config: DataConfig) -> list[str]:
    """The values of {channel} to read, in order."""
    has = sorted(set(itertools.chain.from_iterable(parts.values())))
    if not config.channels or "{channel}" not in config.file_pattern:
        return has
    wanted = [channel.strip() for channel in config.channels.split(",")]
    for channel in wanted:
        if channel not in has:
            raise UserError(
                f"--channels={config.channels}: no files of channel {channel}; "
                f"expected some of {has}"
            )
    return wanted


def _numbers(config: DataConfig) -> str:
    """What `config.channels` says about channels within a file."""
    return (
        "" if "{channel}" in config.file_pattern else config.channels.replace(" ", "")
    )
