"""Measured properties of images: what the object is like, and how well it is drawn."""

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt, laplace, white_tophat

from infogan_jax.errors import UserError
from infogan_jax.pixels import begins_with_rgb, channel_names, to_uint8
from infogan_jax.settings import DEFAULT_COMPOSITE

_BACKGROUND = 40  # of 255, the largest value of the brightest channel
_TINY = 1e-6
_SPOT = 7  # pixels
_SPOT_SHAPE = np.hypot(*np.mgrid[:_SPOT, :_SPOT] - _SPOT // 2) <= _SPOT / 2 - 0.4
_FAINT = 0.1  # of what is white: less is no stain


def properties(
    images: np.ndarray, colours: str = DEFAULT_COMPOSITE
) -> dict[str, np.ndarray]:
    """Returns measured properties of images, `[N]` each.

    Lengths are in pixels. The moments of an empty image are 0.

    Args:
        images: `[N, H, W, C]` in [0, 1], bright on dark.
        colours: of channels in a composite; if the first three are red, green and blue,
            hue and saturation are measured too.

    Raises:
        UserError: a pixel is not finite.
    """
    _check(images)
    grey = np.asarray(images, np.float64).mean(-1)
    _, height, width = grey.shape
    y = np.arange(height)[:, None] - (height - 1) / 2
    x = np.arange(width)[None, :] - (width - 1) / 2
    lit = grey > np.maximum(grey.max((1, 2), keepdims=True) / 4, 1e-6)
    mass = grey.sum((1, 2))
    safe = np.maximum(mass, 1e-6)

    def mean(values: np.ndarray) -> np.ndarray:
        return (grey * values).sum((1, 2)) / safe

    centre_y, centre_x = mean(y), mean(x)
    dy, dx = y - centre_y[:, None, None], x - centre_x[:, None, None]
    var_y, var_x, cov = mean(dy**2), mean(dx**2), mean(dy * dx)
    measured = {
        # The tangent of the lean: positive as in italics
        "slant": -cov / np.maximum(var_y, 1e-6),
        "width": 4 * np.sqrt(var_x),  # four standard deviations
        "height": 4 * np.sqrt(var_y),
        "stroke width": _stroke_width(grey),
        "area": (grey > 0.5).sum((1, 2)).astype(float),
        # Over the foreground only: otherwise it would grow with the object's size.
        "brightness": (grey * lit).sum((1, 2)) / np.maximum(lit.sum((1, 2)), 1),
        # Between percentiles, whatever the number of dark and bright pixels.
        "contrast": np.subtract(*np.percentile(grey, (99, 1), axis=(1, 2))),
        "sharpness": np.array([np.abs(laplace(image)).mean() for image in grey])
        / np.maximum(grey.mean((1, 2)), 1e-6),
        "horizontal position": centre_x,
        "vertical position": -centre_y,
    }
    channels = images.shape[-1]
    if channels > 1:
        measured["area"] = lit.sum((1, 2)).astype(float)
        measured["roundness"] = _roundness(var_y, var_x, cov)
    is_rgb = begins_with_rgb(channels, colours)
    if is_rgb:
        measured |= _colour(np.asarray(images[..., :3], np.float64))
    if channels > 1:
        names = channel_names(channels, colours)
        for k in range(3 * is_rgb, channels):
            stain = np.asarray(images[..., k], np.float64)
            measured |= _stain(stain, names[k], measured["area"])
    return measured


def _stain(images: np.ndarray, name: str, area: np.ndarray) -> dict[str, np.ndarray]:
    """Returns properties of one channel, whatever its exposure but for the intensity.

    Spots are what a white top-hat leaves, peaks that hold no disc of _SPOT pixels: its
    largest value over the channel's.

    Args:
        images: `[N, H, W]`.
        name: of the channel.
        area: of the whole object, pixels `[N]`.
    """
    top = np.percentile(images, 99, axis=(1, 2))
    shown = images > np.maximum(top / 2, _FAINT)[:, None, None]
    own = shown.sum((1, 2)).astype(float)
    spots = np.array(
        [white_tophat(image, footprint=_SPOT_SHAPE).max() for image in images]
    )
    return {
        f"area of {name}": own,
        f"share of {name}": own / np.maximum(area, 1),
        f"intensity of {name}": top,
        f"spots of {name}": spots / np.maximum(images.max((1, 2)), _FAINT),
    }


def _roundness(var_y: np.ndarray, var_x: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """Returns the short axis over the long one, by second moments; 1 for a disc."""
    middle, half = (var_y + var_x) / 2, np.hypot((var_y - var_x) / 2, cov)
    ratio = np.maximum(middle - half, 0) / np.maximum(middle + half, 1e-6)
    return np.sqrt(ratio)


def _stroke_width(grey: np.ndarray) -> np.ndarray:
    """Returns four times the mean distance to the edge, which is a bar's width."""
    result = np.zeros(len(grey))
    for i, image in enumerate(grey):
        ink = image > 0.5
        if ink.any():
            # Distances count from pixel centres; the edge lies half a pixel nearer.
            result[i] = 4 * (distance_transform_edt(ink)[ink] - 0.5).mean()
    return result


def _colour(images: np.ndarray) -> dict[str, np.ndarray]:
    """Returns hue, the mean colour's angle in degrees, and saturation in [0, 1]."""
    mean = images.mean((1, 2))
    red, green, blue = mean.T
    hue = np.degrees(np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue))
    high, low = mean.max(-1), mean.min(-1)
    return {"hue": hue, "saturation": (high - low) / np.maximum(high, 1e-6)}


def artifacts(
    images: np.ndarray, colours: str = DEFAULT_COMPOSITE
) -> dict[str, np.ndarray]:
    """Returns properties that faults of a generator change, `[N]` each.

    - row power, column power: what part of the grey picture's variance, in the middle
      half of the image, is a pattern of lines 2.3 to 6.4 pixels apart. Grids that
      upconvolutions leave (Odena et al. 2016, doi:10.23915/distill.00003) are such.
    - edge chromaticity, interior chromaticity, of images that begin with red, green and
      blue: how far the chromaticity (R, G, B) / (R + G + B) of pixels at the object's
      edge, and within it, is from the object's own: a mean, and a median.
    - perimeter: of the object, over the root of its area; 3.5 or more.

    An image without an object has chromaticities and a perimeter of 0.

    Args:
        images: `[N, H, W, C]` in [0, 1], an object on a dark background.
        colours: of channels in a composite.

    Raises:
        UserError: a pixel is not finite, or an image is smaller than 16 x 16.
    """
    _check(images)
    if min(images.shape[1:3]) < 16:
        raise UserError(
            f"artifacts: images of {images.shape[1:3]} pixels; expected 16 x 16 or more"
        )
    is_rgb = begins_with_rgb(images.shape[-1], colours)
    grey = np.asarray(images[..., :3] if is_rgb else images, np.float64).mean(-1)
    rows, columns = _line_power(grey)
    objects = foreground(images)
    edges = find_edges(objects)
    measured = {
        "row power": rows,
        "column power": columns,
        "perimeter": edges.sum((1, 2)) / np.sqrt(np.maximum(objects.sum((1, 2)), 1)),
    }
    if is_rgb:
        at_edge, within = _chromaticity(images[..., :3], objects, edges)
        measured |= {"edge chromaticity": at_edge, "interior chromaticity": within}
    return measured


def foreground(images: np.ndarray) -> np.ndarray:
    """Returns where an object on a dark background is, bool `[N, H, W]`.

    Args:
        images: `[N, H, W, C]`, uint8, or floating point in [0, 1].
    """
    return np.asarray(to_uint8(images).max(-1) > _BACKGROUND)


def find_edges(objects: np.ndarray) -> np.ndarray:
    """Returns the outermost pixels of objects, bool `[N, H, W]` like them."""
    return np.array([object_ & ~binary_erosion(object_) for object_ in objects])


def _line_power(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the parts of the variance that are horizontal and vertical lines."""
    side = min(grey.shape[1:]) // 2
    top, left = (np.array(grey.shape[1:]) - side) // 2
    middle = grey[:, top : top + side, left : left + side]
    middle = middle - middle.mean((1, 2), keepdims=True)
    window = np.hanning(side)
    power = np.abs(np.fft.fft2(middle * window[:, None] * window)) ** 2
    power[:, 0, 0] = 0
    total = np.maximum(power.sum((1, 2)), _TINY)
    cycles = np.abs(np.fft.fftfreq(side))  # per pixel
    fine, flat = (cycles >= 5 / 32) & (cycles <= 14 / 32), cycles <= 2 / side
    return (
        power[:, fine][:, :, flat].sum((1, 2)) / total,
        power[:, flat][:, :, fine].sum((1, 2)) / total,
    )


def _chromaticity(
    images: np.ndarray, objects: np.ndarray, edges: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distance of chromaticity from the object's own, at edges and within.

    What counts as within is as deep as a sixteenth of the side, 2 pixels at least.
    """
    depth = max(2, images.shape[1] // 16)
    chroma = images / np.maximum(images.sum(-1, keepdims=True), _TINY)
    at_edge, within = np.zeros(len(images)), np.zeros(len(images))
    for i, (values, edge) in enumerate(zip(chroma, edges, strict=True)):
        inside = binary_erosion(objects[i], iterations=depth)
        if inside.any():
            distance = np.linalg.norm(values - np.median(values[inside], 0), axis=-1)
            at_edge[i], within[i] = distance[edge].mean(), np.median(distance[inside])
    return at_edge, within


def _check(images: np.ndarray) -> None:
    if not np.isfinite(images).all():
        raise UserError("properties: pixels are not finite; was the run trained?")
