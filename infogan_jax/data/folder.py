"""Somebody's folder of images: found, looked through, brought to one form."""

import hashlib
import itertools
import logging
import math
import os
import re
import warnings
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from infogan_jax.config import Config, UserError, first_line
from infogan_jax.data.imaging import resize

_TIFF = {".tif", ".tiff"}
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".npy"} | _TIFF
_UNREADABLE = "no image that can be read"
_SMALLEST = 8  # pixels
_FEWEST = 10  # images
_MOST_VALUES = 1 << 28  # pixels times channels of one file: beyond it, a bomb or a slip
_LOOKED_AT, _PIXELS = 2000, 4096  # images, and pixels of each, for the percentiles
BYTES = 0.0, 255.0  # the range of a channel of bytes
_AHEAD = 16  # images per core that are read before they are asked for
_SHOWN = 5  # files that an error names
_UNSORTED = "unsorted"  # label of images beside subfolders, not in one

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it raises as well


class Item(NamedTuple):
    """One image, in one file or in one for each channel."""

    name: str  # of the image, unique
    paths: tuple[Path, ...]
    label: str
    group: str


class Found(NamedTuple):
    """The files of a folder, none of them read yet."""

    items: list[Item]
    left_out: dict[str, str]  # image with a channel missing -> reason
    passed_over: str  # a line about files that are no images, or empty
    channels: list[str]  # values of {channel}, empty where the pattern has none


class Survey(NamedTuple):
    """What a folder holds, after every file was read once."""

    items: list[Item]
    left_out: dict[str, str]  # file -> reason
    size: int  # side, pixels
    ranges: list[tuple[float, float]]  # of each channel, what becomes 0 and 255


def survey(root: Path, files: Found, config: Config) -> Survey:
    """Reads every image once, to see what can be used and how.

    Args:
        root: named in errors.
        files: of `find`.
        config: says how to read, and what size.

    Raises:
        UserError: too few images or too many bad ones, of several channel counts, or
            of several sizes without `config.image_size`.
    """
    items, seen = files.items, []
    sample = set(range(0, len(items), -(-len(items) // _LOOKED_AT) or 1))
    looks = in_order(
        lambda i: _look(items[i], config, i in sample), range(len(items)), "looking at"
    )
    left_out = dict(files.left_out)
    for item, look in zip(items, looks, strict=True):
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
    found = [look for _, look in seen if look.dtype == usual]
    _check_channels(root, [look.shape[-1] for look in found])
    total = len(good) + len(left_out)
    if not good or len(left_out) > config.max_bad / 100 * total:
        few = [f"{name}: {left_out[name]}" for name in sorted(left_out)[:_SHOWN]]
        more = f"; and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
        raise UserError(
            f"{root}: {len(left_out)} of {total} images cannot be used, more than "
            f"--max_bad={config.max_bad:g} %: {'; '.join(few)}{more}"
        )
    if len(good) < _FEWEST:
        raise UserError(
            f"{root}: {len(good)} image{'s' * (len(good) > 1)}; expected {_FEWEST} or "
            "more, and thousands to learn from"
        )
    sides = sorted({look.shape[:2] for look in found})
    size = config.image_size or sides[0][0]
    if not config.image_size and sides != [(size, size)]:
        raise UserError(
            f"{root}: images are not square or of {len(sides)} sizes, such as "
            f"{sides[0][1]} x {sides[0][0]}; bring them to one square by --image_size"
        )
    return Survey(good, left_out, size, _ranges(found, usual, config))


def find(root: Path, config: Config) -> Found:
    """The images below a folder, in the order of their names, and what is none.

    Without `config.pattern` each file with a suffix of SUFFIXES is an image, and the
    folder it lies in, directly below the root, is its label. Hidden files are passed
    over, and other files are told.

    Raises:
        UserError: the folder cannot be read, or has none; the pattern is none.
    """
    try:
        paths = sorted(Path(f) / n for f, _, names in _walk(root) for n in names)
    except OSError as error:
        raise UserError(f"{root}: cannot be read ({error.strerror})") from None
    regex = _compile(config.pattern) if config.pattern else None
    parts: dict[str, dict[str, Path]] = {}
    about: dict[str, tuple[str, str]] = {}
    left_out: dict[str, str] = {}
    others: list[Path] = []
    for path in paths:
        relative = path.relative_to(root)
        if any(part.startswith(".") for part in relative.parts):
            continue  # as macOS leaves them beside each file
        # tfds keeps a label on a line of its own
        label = " ".join(relative.parts[0].split()) if len(relative.parts) > 1 else ""
        label = label or _UNSORTED
        name, channel, group = relative.as_posix(), "", ""
        match = None
        if regex:
            match = regex.fullmatch(name if "/" in config.pattern else relative.name)
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
                f"--pattern={config.pattern}: {former.relative_to(root)} and "
                f"{relative} are both channel {channel} of {name}; expected a pattern "
                "that tells images apart"
            )
        about[name] = label, group or name
    passed_over = ""
    if others:
        what = f"match --pattern={config.pattern}" if regex else "end as images do"
        few = ", ".join(map(str, others[:_SHOWN]))
        more = ", .." if len(others) > _SHOWN else ""
        passed_over = f"passed over: {len(others)} that do not {what}: {few}{more}"
    if not parts:
        of = f"that match --pattern={config.pattern}" if config.pattern else "of images"
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
    return Found(items, left_out, passed_over, [c for c in channels if c])


def read(item: Item, channels: str = "") -> np.ndarray:
    """The image as it is stored, `[h, w, C]` of its own type.

    A person's view of it: turned as EXIF says, palettes and CMYK as colours, what is
    transparent on black. Pages and samples of a TIFF file are channels, alpha as well:
    microscopes' programs call a fourth channel that.

    Args:
        item: of `find`.
        channels: `grey`, `rgb`, or numbers from 1; empty: all as they are.

    Raises:
        ValueError: with the reason why it cannot be used.
    """
    arrays = [_read_file(path, channels) for path in item.paths]
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
    if min(height, width) < _SMALLEST:
        raise ValueError(f"{width} x {height} pixels; expected {_SMALLEST} or more")
    if not np.isfinite(image).all():
        raise ValueError("holds values that are not finite")
    if image.min() == image.max():
        raise ValueError(f"constant: every value is {image.min():g}")
    return image


def convert(
    item: Item, found: Survey, config: Config, is_new: bool = False
) -> np.ndarray:
    """The image in its final form, uint8 `[size, size, C]`.

    Args:
        item: of `find`.
        found: says which form that is.
        config: says how to read.
        is_new: whether the survey has not seen it.

    Raises:
        ValueError: a new image is unlike those of the survey; the reason says how.
    """
    image = read(item, _numbers(config))
    if is_new:
        _check_like(image, found.ranges)
    if image.dtype != np.uint8:
        low, high = np.array(found.ranges).T
        image = (image.astype(np.float32) - low) / np.maximum(high - low, 1e-12)
        image = np.clip(255 * image, 0, 255).astype(np.float32)
        if is_new and image.min() == image.max():
            raise ValueError(f"nothing within {_told(found.ranges)}")
    return np.round(resize(image, found.size, config.fit)).astype(np.uint8)


def _check_like(image: np.ndarray, ranges: list[tuple[float, float]]) -> None:
    """Raises ValueError unless the ranges say what an image's values mean."""
    if image.shape[-1] != len(ranges):
        raise ValueError(f"channels: {image.shape[-1]}; expected {len(ranges)}")
    lowest, highest = image.min(), image.max()
    are_bytes = all(tuple(ends) == BYTES for ends in ranges)
    if image.dtype == np.uint8:
        is_like = are_bytes
    elif are_bytes:  # floating point up to 1 is on another scale
        is_like = lowest >= 0 and highest <= 255
        is_like &= highest > 1 or image.dtype.kind != "f"
    else:
        is_like = True
    if not is_like:
        found = f"{image.dtype} from {lowest:g} to {highest:g}"
        raise ValueError(f"{found}; expected {_told(ranges)}")


def _told(ranges: list[tuple[float, float]]) -> str:
    return " or ".join(dict.fromkeys(f"{low:g} to {high:g}" for low, high in ranges))


def in_order(function, inputs, doing: str) -> Iterator:
    """What the function gives for each input, by all cores, with a progress bar."""
    from tqdm import tqdm

    cores = os.cpu_count() or 1

    def results(pool):
        waiting: deque[Future] = deque()  # results that nobody took yet
        for x in inputs:
            waiting.append(pool.submit(function, x))
            if len(waiting) > _AHEAD * cores:
                yield waiting.popleft().result()
        for last in waiting:
            yield last.result()

    with ThreadPoolExecutor(cores) as pool:
        # None: no bar where nobody sees it
        yield from tqdm(results(pool), doing, len(inputs), leave=False, disable=None)


def listing_digest(items: list[Item]) -> str:
    """Changes whenever a file is changed, added or taken away."""
    total = hashlib.sha256()
    for item in items:
        for path in item.paths:
            try:
                stat = path.stat()
                found = f"{stat.st_size} {stat.st_mtime_ns}"
            except OSError:  # such as a link to nowhere
                found = "missing"
            total.update(f"{item} {found}\n".encode())
    return total.hexdigest()


class _Look(NamedTuple):
    shape: tuple[int, ...]
    dtype: str
    lowest: float
    highest: float
    pixels: np.ndarray | None  # some, `[n, C]`


def _look(item: Item, config: Config, with_pixels: bool) -> _Look | str:
    """What an image is like, or why it cannot be used."""
    try:
        image = read(item, _numbers(config))
    except Exception as error:  # decoders raise anything for a damaged file
        return first_line(error)
    pixels = image.reshape(-1, image.shape[-1])
    some = pixels[:: -(-len(pixels) // _PIXELS)] if with_pixels else None
    extremes = float(image.min()), float(image.max())
    return _Look(image.shape, str(image.dtype), *extremes, some)


def _ranges(found: list[_Look], dtype: str, config: Config):
    """0 and 255 for bytes, and for bytes in wider clothes; else percentiles."""
    channels = found[0].shape[-1]
    is_whole = np.issubdtype(np.dtype(dtype), np.integer)
    are_bytes = all(look.lowest >= 0 and look.highest <= 255 for look in found)
    if is_whole and are_bytes:
        return [BYTES] * channels
    pixels = np.concatenate([x.pixels for x in found if x.pixels is not None])
    percents = [float(p) for p in config.percentiles.split(",")]
    low, high = np.percentile(pixels.astype(np.float64), percents, axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def _check_channels(root: Path, counts: list[int]) -> None:
    if len(set(counts)) > 1:
        table = ", ".join(f"{n} with {c}" for c, n in sorted(Counter(counts).items()))
        raise UserError(
            f"{root}: images of several channel counts ({table}); bring them to one by "
            "--channels=grey, --channels=rgb, or choose some by --pattern"
        )


def _walk(root: Path):
    def fail(error):
        raise error

    return os.walk(root, onerror=fail, followlinks=True)


def _compile(pattern: str) -> re.Pattern:
    """{id}_ch{channel}.tif as a regular expression."""
    known = "id", "channel", "label", "group"
    regex, stars = "", itertools.count()
    for text, field in re.findall(r"([^{}]*)(?:\{([^{}]*)\})?", pattern):
        regex += re.sub(
            r"\\\*", lambda _: f"(?P<_{next(stars)}>[^/]*)", re.escape(text)
        )
        if field and field not in known:
            raise UserError(f"--pattern={pattern}: {{{field}}}; expected {known}")
        regex += f"(?P<{field}>[^/]+?)" if field else ""
    if "{id}" not in pattern or any(pattern.count(f"{{{k}}}") > 1 for k in known):
        raise UserError(f"--pattern={pattern}: expected {{id}}, and no field twice")
    return re.compile(regex)


def _name_of(relative: Path, match: re.Match) -> str:
    """All that tells images apart: slides may number their cells alike."""
    fields = match.groupdict()
    stars = [key for key in fields if key.startswith("_")]
    known = [fields[k] for k in ("label", "group", *stars, "id") if k in fields]
    folder = relative.parent.as_posix()
    begin, end = match.span("channel")
    if match.string == relative.as_posix() and end <= len(folder):
        folder = folder[:begin] + folder[end:]  # one subfolder per channel
    return Path(folder, *known).as_posix()


def _wanted(parts: dict[str, dict[str, Path]], config: Config) -> list[str]:
    """Values of {channel}, in their order."""
    has = sorted(set(itertools.chain.from_iterable(parts.values())))
    if not config.channels or "{channel}" not in config.pattern:
        return has
    wanted = [channel.strip() for channel in config.channels.split(",")]
    for channel in wanted:
        if channel not in has:
            raise UserError(
                f"--channels={config.channels}: no files of channel {channel}; "
                f"expected some of {has}"
            )
    return wanted


def _numbers(config: Config) -> str:
    """What --channels says about the inside of a file."""
    return "" if "{channel}" in config.pattern else config.channels.replace(" ", "")


def _read_file(path: Path, channels: str) -> np.ndarray:
    if path.stat().st_size == 0:
        raise ValueError("an empty file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.suffix.lower() == ".npy":
            stored = np.load(path, mmap_mode="r", allow_pickle=False)
            _check_size(stored.shape)
            image = _with_channels(np.array(stored))
        elif path.suffix.lower() in _TIFF:
            image = _read_tiff(path)
        else:
            image = _read_picture(path)
    if image.dtype.kind not in "uif":
        raise ValueError(f"values of type {image.dtype}; expected numbers")
    if image.dtype.kind == "f":
        image = image.astype(np.float32)
    if channels in ("grey", "rgb") and image.shape[-1] not in (1, 3):
        raise ValueError(f"{image.shape[-1]} channels cannot become {channels}")
    if channels == "rgb" and image.shape[-1] == 1:
        image = np.repeat(image, 3, axis=-1)
    if channels == "grey" and image.shape[-1] == 3:
        grey = image @ np.array([0.299, 0.587, 0.114])  # ITU-R 601, as Pillow does
        image = np.round(grey)[..., None].astype(image.dtype)
    return image


def _read_tiff(path: Path) -> np.ndarray:
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            _check_size(file.series[0].shape)
            image = file.asarray()
            page, pages = file.pages.first, len(file.pages)
            kind, turn = page.photometric, page.tags.valueof("Orientation", 1)
            inks = page.tags.valueof("InkSet", 1)
    except (tifffile.TiffFileError, KeyError, IndexError, RuntimeError):
        raise ValueError(_UNREADABLE) from None
    is_cmyk = kind == tifffile.PHOTOMETRIC.SEPARATED and inks == 1
    if pages == 1 and (is_cmyk or kind == tifffile.PHOTOMETRIC.PALETTE):
        return _read_picture(path)
    if kind == tifffile.PHOTOMETRIC.MINISWHITE and image.dtype.kind == "u":
        image = np.iinfo(image.dtype).max - image
    return _turned(_with_channels(image), turn)


def _turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """As EXIF's orientation, 1 to 8, says where the first row and column are."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return image


def _check_size(shape: tuple[int, ...]) -> None:
    """Before memory is taken for it."""
    if math.prod(shape) > _MOST_VALUES:
        raise ValueError(f"an array of shape {shape}; that is too large")


def _with_channels(image: np.ndarray) -> np.ndarray:
    """`[h, w, C]`: channels are the first axis, if that is shorter than the last."""
    image = np.squeeze(image)
    if image.ndim == 2:
        return image[..., None]
    if image.ndim != 3:
        raise ValueError(f"an array of shape {image.shape}; expected an image")
    first, _, last = image.shape
    return np.moveaxis(image, 0, -1) if first < last else image


def _read_picture(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as file:
            _check_size((*file.size, len(file.getbands())))
            wide = any(isinstance(x[3], str) and ";16" in x[3] for x in file.tile)
            picture = ImageOps.exif_transpose(file)
    except UnidentifiedImageError:
        raise ValueError(_UNREADABLE) from None
    except (SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{_UNREADABLE} ({error})") from None
    if wide and not picture.mode.startswith("I"):
        raise ValueError("16-bit colours, of which 8 would be lost; save it as TIFF")
    is_grey = picture.mode in ("1", "L", "LA") or (
        picture.mode == "P" and not np.ptp(picture.convert("RGB"), axis=-1).any()
    )
    # Of deeper images one value may be transparent; as colours they would lose bits
    if picture.has_transparency_data and picture.mode[0] not in "IF":
        picture = picture.convert("RGBA")
        black = Image.new("RGBA", picture.size, "black")
        picture = Image.alpha_composite(black, picture)
    if is_grey:
        picture = picture.convert("L")
    elif picture.mode not in ("L", "I", "I;16", "F", "RGB"):
        picture = picture.convert("RGB")
    image = np.asarray(picture)
    if image.dtype == np.int32:  # how Pillow reads 16 bits in some files
        image = image.astype(np.uint16) if image.max() < 1 << 16 else image
    return image.reshape(*image.shape[:2], -1)
