"""One image file as an array, `[h, w, C]` of its own type."""

import math
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

TIFF = {".tif", ".tiff"}
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.suffix.lower() == ".npy":
            stored = np.load(path, mmap_mode="r", allow_pickle=False)
            _check_size(stored.shape)
            image = _with_channels(np.array(stored))
        elif path.suffix.lower() in TIFF:
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
    return _apply_orientation(_with_channels(image), turn)


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
    """Returns `[h, w, C]`; the first axis is the channels if shorter than the last."""
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
