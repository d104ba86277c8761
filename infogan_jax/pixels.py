"""Pixels for people: bytes, composites of channels, and the names of channels."""

import numpy as np
from PIL import Image, ImageColor

from infogan_jax.settings import DEFAULT_COMPOSITE

_RGB = "red,lime,blue"


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Returns images in [0, 1] as bytes, on one scale for all."""
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images
    return np.round(np.clip(images, 0, 1) * 255).astype(np.uint8)


def to_picture(image: np.ndarray) -> Image.Image:
    """Returns one image, uint8 `[H, W, C]` with C 1 or 3, as Pillow's."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def parse_colours(names: str) -> list[tuple[int, ...]]:
    """Returns names of colours, separated by commas, as red, green and blue.

    Raises:
        ValueError: there is no such colour.
    """
    return [ImageColor.getrgb(name.strip())[:3] for name in names.split(",")]


def channel_colours(channels: int, names: str) -> list[tuple[int, ...]] | None:
    """Returns the colour of each channel; None for images that are grey or RGB."""
    if channels == 1 or (channels == 3 and names == DEFAULT_COMPOSITE):
        return None
    table = parse_colours(names)
    return [table[k % len(table)] for k in range(channels)]


def begins_with_rgb(channels: int, names: str) -> bool:
    """Returns whether the first three channels are shown as red, green and blue."""
    table = channel_colours(channels, names)
    return channels == 3 if table is None else table[:3] == parse_colours(_RGB)


def channel_names(channels: int, colours: str) -> list[str]:
    """Returns a name for each channel: red, green, blue where it is shown as that."""
    rgb = ["red", "green", "blue"] if begins_with_rgb(channels, colours) else []
    return rgb + [f"channel {k + 1}" for k in range(len(rgb), channels)]


def composite(images: np.ndarray, colours: str = DEFAULT_COMPOSITE) -> np.ndarray:
    """Adds up channels, each in its colour: uint8 `[..., C]` -> `[..., 3]`.

    Images of one channel, or RGB, stay as they are.
    """
    table = channel_colours(images.shape[-1], colours)
    if table is None:
        return images
    weights = np.array(table) / 255
    return np.clip(np.round(images @ weights), 0, 255).astype(np.uint8)


def spread_evenly(places: np.ndarray, most: int) -> np.ndarray:
    """Returns at most so many of the places, evenly from the first to the last."""
    some = np.linspace(0, len(places) - 1, min(len(places), most))
    return places[some.astype(int)]
