"""Pixels for people: bytes, composites of channels, and the names of channels."""

import numpy as np
from PIL import Image, ImageColor

from infogan_jax.settings import DEFAULT_COMPOSITE

_RGB = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Returns images in [0, 1] as bytes, on one scale for all."""
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images
    return np.round(np.clip(images, 0, 1) * 255).astype(np.uint8)


def to_picture(image: np.ndarray) -> Image.Image:
    """Returns one image, uint8 `[H, W, C]` with C 1 or 3, as Pillow's."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def parse_composite(text: str) -> list[tuple[str, tuple[int, ...]]]:
    """Returns the name, empty where none is given, and the colour of each channel.

    Args:
        text: colours, separated by commas, each behind `NAME=` if it has a name; such
            as `red,lime` or `brightfield=white,DNA=lime`.

    Raises:
        ValueError: there is no such colour.
    """
    table: list[tuple[str, tuple[int, ...]]] = []
    for item in text.split(","):
        name, _, colour = item.rpartition("=")
        table.append((name.strip(), ImageColor.getrgb(colour.strip())[:3]))
    return table


def with_names(text: str, names: list[str] | None) -> str:
    """Returns a composite whose channels have names, those of `names` if no others."""
    if not names:
        return text
    items = text.split(",")
    parts = []
    for k, name in enumerate(names):
        own, _, colour = items[k % len(items)].rpartition("=")
        name = f"channel {name}" if name.isdigit() else name.replace(",", " ")
        parts.append(f"{own.strip() or name}={colour}")
    return ",".join(parts)


def channel_colours(channels: int, text: str) -> list[tuple[int, ...]] | None:
    """Returns the colour of each channel; None for images that are grey or RGB."""
    if channels == 1 or (channels == 3 and text == DEFAULT_COMPOSITE):
        return None
    table = parse_composite(text)
    return [table[k % len(table)][1] for k in range(channels)]


def begins_with_rgb(channels: int, text: str) -> bool:
    """Returns whether the first three channels are red, green and blue.

    They are shown as these, and have no names of their own, as three stains have.
    """
    if channel_colours(channels, text) is None:
        return channels == 3
    unnamed = [("", colour) for colour in _RGB]
    return channels > 2 and parse_composite(text)[:3] == unnamed


def channel_names(channels: int, text: str) -> list[str]:
    """Returns a name for each channel: its own, or what it is shown as, or a number."""
    standard = ["red", "green", "blue"] if begins_with_rgb(channels, text) else []
    standard += [f"channel {k + 1}" for k in range(len(standard), channels)]
    own = [name for name, _ in parse_composite(text)][:channels]
    own += [""] * (channels - len(own))
    return [name or other for name, other in zip(own, standard, strict=True)]


def composite(images: np.ndarray, text: str = DEFAULT_COMPOSITE) -> np.ndarray:
    """Adds up channels, each in its colour: uint8 `[..., C]` -> `[..., 3]`.

    Images of one channel, or RGB, stay as they are.
    """
    colours = channel_colours(images.shape[-1], text)
    if colours is None:
        return images
    weights = np.array(colours) / 255
    return np.clip(np.round(images @ weights), 0, 255).astype(np.uint8)


def panels(images: np.ndarray, text: str = DEFAULT_COMPOSITE) -> dict[str, np.ndarray]:
    """Returns the pictures that together show images uint8 `[..., C]`, by name.

    Grey and RGB images are one, without a name. Of others each channel is one, in grey,
    but red, green and blue together; and the composite, where it shows more than these.
    """
    channels = images.shape[-1]
    colours = channel_colours(channels, text)
    if colours is None:
        return {"": images}
    shown, first = {}, 0
    if begins_with_rgb(channels, text):
        shown["colours"], first = images[..., :3], 3
    names = channel_names(channels, text)
    shown |= {names[k]: images[..., k : k + 1] for k in range(first, channels)}
    if not first or any(any(colour) for colour in colours[first:]):
        shown["composite"] = composite(images, text)
    return shown


def spread_evenly(places: np.ndarray, most: int) -> np.ndarray:
    """Returns at most so many of the places, evenly from the first to the last."""
    some = np.linspace(0, len(places) - 1, min(len(places), most))
    return places[some.astype(int)]
