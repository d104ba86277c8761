"""Changes of one image before training: size, position, stains."""

import functools
import io
from collections.abc import Callable

import imagecodecs
import numpy as np
from PIL import Image, ImageOps

# Optical density of the DNA-binding azure dyes in a Giemsa stain, in red, green, blue:
# the mean direction, over 20,000 cells of the NLM set, in which the darkest spots
# exceed their cell's median; no label was involved.
_AZURE = np.array([0.190, 0.972, 0.137])
_FULL = np.array([0.9, 1.5])  # densities (natural logarithm) that become 255
_MODES: dict[str, tuple] = {"L": (), "RGB": (3,)}  # the shape of a pixel
_CELL = 40  # the brightest channel of a pixel on the slide; outside a cell it is less


def decode(encoded: bytes, mode: str) -> np.ndarray:
    """Returns an encoded image as uint8 `[h, w, C]`.

    Args:
        encoded: of any format that Pillow reads.
        mode: Pillow's name of the colours, "L" or "RGB".
    """
    image = _decode_lossless(encoded)
    if image is None or image.dtype != np.uint8 or image.shape[2:] != _MODES[mode]:
        image = np.asarray(Image.open(io.BytesIO(encoded)).convert(mode))
    return image.reshape(*image.shape[:2], -1)


def _decode_lossless(encoded: bytes) -> np.ndarray | None:
    """Decodes PNG and lossless WebP faster than Pillow does; None for other files."""
    try:
        if encoded.startswith(b"\x89PNG"):
            return imagecodecs.png_decode(encoded)
        if encoded[12:16] == b"VP8L":  # WebP without loss
            return imagecodecs.webp_decode(encoded)
    except (RuntimeError, ValueError):  # Pillow's error will be clearer
        pass
    return None


def resize(
    image: np.ndarray, size: int, mode: str, scale: float | None = None
) -> np.ndarray:
    """Returns a square image, by Lanczos' filter.

    Args:
        image: uint8 or float32 `[h, w, C]`.
        size: side in pixels; 0 leaves the image as it is.
        mode: `pad`, and `auto`, keeps all of it and the aspect, with 0 around; `crop`
            keeps the aspect and the middle; `stretch` keeps all of it.
        scale: factor of the side, in place of what the mode would choose; what is
            beyond `size` then is cut off, what is missing 0.
    """
    if not size or (image.shape[:2] == (size, size) and scale in (None, 1)):
        return image
    changes: dict[str, Callable[..., Image.Image]] = {
        "auto": ImageOps.pad,
        "pad": ImageOps.pad,
        "crop": ImageOps.fit,
        "stretch": lambda picture, size, method: picture.resize(size, method),
    }
    change = changes[mode] if scale is None else functools.partial(_scaled, scale)
    channels = [
        np.asarray(
            change(Image.fromarray(channel), (size, size), Image.Resampling.LANCZOS)
        )
        for channel in np.ascontiguousarray(np.moveaxis(image, -1, 0))
    ]
    resized = np.stack(channels, axis=-1)
    return np.clip(resized, min(image.min(), 0), image.max())  # the filter rings


def _scaled(
    scale: float,
    picture: Image.Image,
    size: tuple[int, int],
    method: Image.Resampling,
) -> Image.Image:
    """A picture's middle, in a window of that size, after its sides were scaled."""
    width, height = (max(1, round(side * scale)) for side in picture.size)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    box = (left, top, left + size[0], top + size[1])
    return picture.resize((width, height), method).crop(box)


def pose(image: np.ndarray) -> tuple[float, float, float]:
    """Returns the object's position and orientation, by moments of the foreground.

    Args:
        image: `[H, W, C]`.

    Returns:
        Row and column of its centre, and the angle of its long axis to the horizontal,
        in radians. The heavier tail of the axis points along the angle. For an empty
        image its middle, and 0.
    """
    from skimage.measure import centroid, moments_central

    mass = _foreground(image)
    if not mass.any():
        return (mass.shape[0] - 1) / 2, (mass.shape[1] - 1) / 2, 0.0
    m = moments_central(mass, order=3)  # powers of row, of column
    angle = 0.5 * np.arctan2(2 * m[1, 1], m[0, 2] - m[2, 0])
    x, y = np.cos(angle), np.sin(angle)
    tail = x**3 * m[0, 3] + 3 * x**2 * y * m[1, 2]
    tail += 3 * x * y**2 * m[2, 1] + y**3 * m[3, 0]
    row, column = centroid(mass)
    return float(row), float(column), float(angle + np.pi * (tail < 0))


def align(image: np.ndarray, how: str) -> np.ndarray:
    """Returns the image with its object in the middle, its long axis horizontal.

    Pixels from beyond the border get the border's median.

    Args:
        image: uint8 `[H, W, C]`.
        how: `none`, `centre` or `axis`; only the last one turns the object.
    """
    from skimage.transform import EuclideanTransform, warp

    if how == "none":
        return image
    row, column, angle = pose(image)
    height, width, _ = image.shape
    middle = EuclideanTransform(translation=(-(width - 1) / 2, -(height - 1) / 2))
    turned = angle if how == "axis" else 0.0
    back = EuclideanTransform(rotation=turned, translation=(column, row))
    # Fill with background: a repeated edge would draw an object out in rays.
    background = _background(image)
    moved = background + warp(image - background, middle + back, order=1, cval=0)
    return np.round(moved).astype(image.dtype)


def _background(image: np.ndarray) -> np.ndarray:
    """The median of the border, `[C]`."""
    return np.median(
        np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]]), axis=0
    )


def _foreground(image: np.ndarray) -> np.ndarray:
    """Each pixel's distance from the background, `[H, W]`; small ones are 0."""
    mass = np.abs(image - _background(image)).mean(-1)
    return np.where(mass > 0.1 * mass.max(), mass, 0)


def with_dna_stain(image: np.ndarray) -> np.ndarray:
    """A stained cell's red, green and blue, and its DNA stain, uint8 `[H, W, 4]`.

    Args:
        image: uint8 `[H, W, 3]`.
    """
    return np.concatenate([image, separate_stains(image)[..., 1:]], axis=-1)


def stretch_bits(image: np.ndarray) -> np.ndarray:
    """An image of 0 and another value as one of 0 and 255, uint8 `[H, W, C]`."""
    return np.where(image > 0, np.uint8(255), np.uint8(0))


def separate_stains(image: np.ndarray) -> np.ndarray:
    """A Giemsa-stained cell on black as absorbance and DNA stain, uint8 `[H, W, 2]`.

    Colour deconvolution with a matrix for each cell: its own median colour, which
    differs between slides, and that of the azure dyes, which hold to DNA: parasites,
    for red cells have no nucleus.

    Args:
        image: uint8 `[H, W, 3]`.

    References:
        Ruifrok & Johnston 2001, colour deconvolution.
    """
    from skimage.color import separate_stains as deconvolve
    from skimage.morphology import erosion

    cell = erosion(image.max(-1) > _CELL)
    if not cell.any():
        return np.zeros((*image.shape[:2], 2), np.uint8)
    values = np.maximum(image, 1) / 255
    density = -np.log(values)
    own = np.median(density[cell], axis=0) + 1e-3
    own /= np.linalg.norm(own)
    stains = np.stack([own, _AZURE, np.cross(own, _AZURE)])
    amounts = deconvolve(values, np.linalg.inv(stains)) * -np.log(1e-6)  # its unit
    both = np.stack([density.mean(-1), amounts[..., 1]], axis=-1) * cell[..., None]
    return np.round(255 * np.clip(both / _FULL, 0, 1)).astype(np.uint8)
