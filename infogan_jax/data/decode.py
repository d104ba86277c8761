"""One image file as an array, `[h, w, C]` of its own type.

What a file is, and how its axes, colours and bits are meant, is asked of the file; its
name says nothing. What is not understood is refused, with the reason.
"""

import math
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

_TIFF_MAGIC = b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"
_NPY_MAGIC = b"\x93NUMPY"
_MAX_CHANNELS = 10  # of an array that does not say which axis they are
_UNREADABLE = "no image that can be read"
_MAX_VALUES = 1 << 28  # pixels times channels of one file; more is a bomb or a slip


def read_file(path: Path, channels: str) -> np.ndarray:
    """Returns the image in a file.

    Args:
        path: of the file.
        channels: `grey` or `rgb` to convert colours; anything else: as they are.

    Raises:
        ValueError: with the reason why it cannot be used.
    """
    if path.stat().st_size == 0:
        raise ValueError("an empty file")
    with path.open("rb") as file:
        magic = file.read(8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if magic.startswith(_NPY_MAGIC):
            image = _with_channels(_read_npy(path))
        elif magic.startswith(_TIFF_MAGIC):
            image = _read_tiff(path)
        else:
            image = _read_picture(path)
    if image.dtype == bool:
        image = _bits_to_bytes(image)
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


def _read_npy(path: Path) -> np.ndarray:
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        if "mmap length" in str(error):
            raise ValueError("a truncated file") from None
        raise
    _check_size(stored.shape)
    return np.array(stored)


def _read_tiff(path: Path) -> np.ndarray:
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            whole = [s for s in file.series if not s.keyframe.is_reduced]
            if len(whole) > 1:
                found = ", ".join(f"{s.shape} {s.dtype}" for s in whole)
                raise ValueError(f"{len(whole)} series ({found}); save each as a file")
            series, pages = (whole or file.series)[0], len(file.pages)
            _check_size(series.shape)
            page = series.keyframe
            if len(series.pages) > pages:  # the others are in other files
                image = np.stack([p.asarray() for p in file.pages])
                axes = f"C{page.axes}"
            else:
                image, axes = series.asarray(), series.axes
            kind, turn = page.photometric, page.tags.valueof("Orientation", 1)
            inks, is_bits = page.tags.valueof("InkSet", 1), page.bitspersample == 1
            is_jpeg = page.compression in (6, 7)  # decoded to red, green and blue
    except (tifffile.TiffFileError, KeyError, IndexError, RuntimeError):
        raise ValueError(_UNREADABLE) from None
    kinds = tifffile.PHOTOMETRIC
    if kind in (kinds.CIELAB, kinds.ICCLAB, kinds.ITULAB):
        raise ValueError("CIELAB colours; save it as RGB")
    is_converted = kind == kinds.PALETTE or (
        (kind == kinds.SEPARATED and inks == 1) or (kind == kinds.YCBCR and not is_jpeg)
    )
    if pages == 1 and is_converted:
        return _read_picture(path)
    if is_bits:
        image = _bits_to_bytes(image)
    if kind == kinds.MINISWHITE:
        if image.dtype.kind != "u":
            raise ValueError(f"0 is white, in values of type {image.dtype}; invert it")
        image = np.iinfo(image.dtype).max - image
    return _apply_orientation(_arrange(image, axes), turn)


def _bits_to_bytes(image: np.ndarray) -> np.ndarray:
    return np.where(image, np.uint8(255), np.uint8(0))


def _arrange(image: np.ndarray, axes: str) -> np.ndarray:
    """Returns `[h, w, C]`, of an array whose axes have tifffile's letters."""
    long = [(axis, n) for axis, n in zip(axes, image.shape, strict=True) if n > 1]
    names = "".join(axis for axis, _ in long)
    image = np.squeeze(image)
    for axis, n in long:
        if axis in "TZ":
            what = {"T": "times", "Z": "depths"}[axis]
            raise ValueError(f"{n} {what} (axes {axes}); save each as an image")
    if len(names) == 3 and set("YX") < set(names):
        channels = next(i for i, axis in enumerate(names) if axis not in "YX")
        if names[channels] in "CS":
            return np.moveaxis(image, channels, -1)
    return _with_channels(image)


def _apply_orientation(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turns an image upright by EXIF's orientation, 1 to 8."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return image


def _check_size(shape: tuple[int, ...]) -> None:
    """Raises ValueError before memory is allocated for too large an array."""
    if math.prod(shape) > _MAX_VALUES:
        raise ValueError(f"an array of shape {shape}; that is too large")


def _with_channels(image: np.ndarray) -> np.ndarray:
    """Returns `[h, w, C]` of an array whose axes have no names.

    The channels are the first or the last axis, whichever is short and the shortest.
    """
    image = np.squeeze(image)
    if image.ndim == 2:
        return image[..., None]
    if image.ndim != 3:
        raise ValueError(f"an array of shape {image.shape}; expected an image")
    first, _, last = shape = image.shape
    if min(first, last) > _MAX_CHANNELS or first == last:
        raise ValueError(
            f"an array of shape {shape}: {first} images of {shape[1]} x {last}, or one "
            f"of {first} x {shape[1]} with {last} channels? Save one image a file, "
            f"with at most {_MAX_CHANNELS} channels"
        )
    return np.moveaxis(image, 0, -1) if first < last else image


def _read_picture(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as file:
            _check_size((*file.size, len(file.getbands())))
            if (frames := getattr(file, "n_frames", 1)) > 1:
                raise ValueError(f"{frames} frames; save each as an image")
            wide = any(isinstance(x[3], str) and ";16" in x[3] for x in file.tile)
            picture = ImageOps.exif_transpose(file)
    except UnidentifiedImageError:
        raise ValueError(_UNREADABLE) from None
    except (SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{_UNREADABLE} ({error})") from None
    if wide and not picture.mode.startswith("I"):
        raise ValueError("16-bit colours, of which 8 would be lost; save it as TIFF")
    is_grey = picture.mode in ("1", "L", "LA") or (
        picture.mode == "P"
        and not np.ptp(np.asarray(picture.convert("RGB")), axis=-1).any()
    )
    # 16- and 32-bit images keep their transparent value: converting to RGBA would
    # truncate them to 8 bits.
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
