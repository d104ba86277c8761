"""What each continuous code does: properties measured along it, and its name."""

import jax
import numpy as np
from scipy.ndimage import distance_transform_edt, laplace
from scipy.optimize import linear_sum_assignment

from infogan_jax.config import UserError
from infogan_jax.evaluation.inference import apply
from infogan_jax.figures import COLOURS, begins_with_rgb, channel_names
from infogan_jax.latents import (
    Gaussian,
    Uniform,
    join_latents,
    parse_spec,
    sample_latents,
    split_latents,
)
from infogan_jax.steps import generate

_BASES, _STEPS = 200, 9  # pictures that differ in all but the code; values of the code
_LIMIT = 1.0  # the code runs from -1 to 1, where it was trained
_NAMED = 0.5  # least R2 of a property that gives its name


def properties(images: np.ndarray, colours: str = COLOURS) -> dict[str, np.ndarray]:
    """Measured properties of images, each `[N]`.

    Lengths are in pixels. Where an image is empty, its moments are 0.

    Args:
        images: `[N, H, W, C]` in [0, 1], bright on dark.
        colours: of channels in a composite; if it says red, green and blue, the first
            three have hue and saturation.

    Raises:
        UserError: a pixel is not finite.
    """
    if not np.isfinite(images).all():
        raise UserError("factors: pixels are not finite; was the run trained?")
    grey = np.asarray(images, np.float64).mean(-1)
    _, height, width = grey.shape
    y = np.arange(height)[:, None] - (height - 1) / 2
    x = np.arange(width)[None, :] - (width - 1) / 2
    lit = grey > np.maximum(grey.max((1, 2), keepdims=True) / 4, 1e-6)
    mass = grey.sum((1, 2))
    safe = np.maximum(mass, 1e-6)

    def mean(values):
        return (grey * values).sum((1, 2)) / safe

    centre_y, centre_x = mean(y), mean(x)
    dy, dx = y - centre_y[:, None, None], x - centre_x[:, None, None]
    var_y, var_x, cov = mean(dy**2), mean(dx**2), mean(dy * dx)
    found = {
        # The tangent of the lean: positive as in italics
        "slant": -cov / np.maximum(var_y, 1e-6),
        "width": 4 * np.sqrt(var_x),  # four standard deviations
        "height": 4 * np.sqrt(var_y),
        "stroke width": _stroke_width(grey),
        "area": (grey > 0.5).sum((1, 2)).astype(float),
        # Of what is not background, or the size would be in it
        "brightness": (grey * lit).sum((1, 2)) / np.maximum(lit.sum((1, 2)), 1),
        # From dark to bright, however many pixels are either
        "contrast": np.subtract(*np.percentile(grey, (99, 1), axis=(1, 2))),
        "sharpness": np.array([np.abs(laplace(image)).mean() for image in grey])
        / np.maximum(grey.mean((1, 2)), 1e-6),
        "horizontal position": centre_x,
        "vertical position": -centre_y,
    }
    channels = images.shape[-1]
    if channels > 1:
        found["area"] = lit.sum((1, 2)).astype(float)
        found["roundness"] = _roundness(var_y, var_x, cov)
    is_rgb = begins_with_rgb(channels, colours)
    if is_rgb:
        found |= _colour(np.asarray(images[..., :3], np.float64))
    if channels > 1:
        names = channel_names(channels, colours)
        for k in range(3 * is_rgb, channels):
            found[f"area of {names[k]}"] = (images[..., k] > 0.5).sum((1, 2)) * 1.0
    return found


def _roundness(var_y, var_x, cov) -> np.ndarray:
    """The short axis over the long one, by second moments; 1 for a disc."""
    middle, half = (var_y + var_x) / 2, np.hypot((var_y - var_x) / 2, cov)
    ratio = np.maximum(middle - half, 0) / np.maximum(middle + half, 1e-6)
    return np.sqrt(ratio)


def _stroke_width(grey: np.ndarray) -> np.ndarray:
    """Four times the mean distance to the edge, which is a bar's width."""
    result = np.zeros(len(grey))
    for i, image in enumerate(grey):
        ink = image > 0.5
        if ink.any():
            # Distances count from pixel centres; the edge lies half a pixel nearer.
            result[i] = 4 * (distance_transform_edt(ink)[ink] - 0.5).mean()
    return result


def _colour(images: np.ndarray) -> dict[str, np.ndarray]:
    """Hue (an angle, from the mean colour; degrees) and saturation in [0, 1]."""
    mean = images.mean((1, 2))
    red, green, blue = mean.T
    hue = np.degrees(np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue))
    high, low = mean.max(-1), mean.min(-1)
    return {"hue": hue, "saturation": (high - low) / np.maximum(high, 1e-6)}


def explained(codes: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """How far one code determines a property, all else being equal.

    Args:
        codes: the values that the code takes, `[K]`.
        values: the property of pictures that differ in nothing else, `[N, K]`.

    Returns:
        R2 of the best straight line within the rows, in [0, 1], and its slope, in the
        property's unit per unit of the code.
    """
    x = codes - codes.mean()
    y = values - values.mean(1, keepdims=True)
    total = (y**2).sum()
    slope = (x * y).sum() / ((x**2).sum() * len(y))
    if total < 1e-12:
        return 0.0, 0.0
    return float(1 - ((y - slope * x) ** 2).sum() / total), float(slope)


def name_codes(tables: dict[str, dict[str, float]]) -> dict[str, str]:
    """A property's name for each code, none given twice, or "unnamed".

    Args:
        tables: code -> property -> R2.
    """
    codes = list(tables)
    kinds = list(next(iter(tables.values()), {}))
    scores = np.array([[tables[code][kind] for kind in kinds] for code in codes])
    names = dict.fromkeys(codes, "unnamed")
    if scores.size:
        for row, column in zip(*linear_sum_assignment(-scores), strict=True):
            if scores[row, column] >= _NAMED:
                names[codes[row]] = kinds[column]
    return names


def evaluate(state, config, data) -> dict:
    """The name of each continuous code, with R2 and slope of all properties."""
    spec = parse_spec(config.codes)
    codes = [code for code in spec if isinstance(code, Uniform | Gaussian)]
    if not codes:
        return {"skipped": "there is no continuous code"}
    bases = sample_latents(jax.random.key(config.seed), _BASES, spec)
    bases = np.repeat(np.asarray(bases), _STEPS, axis=0)
    along = np.linspace(-_LIMIT, _LIMIT, _STEPS)
    tables: dict[str, dict[str, tuple[float, float]]] = {}
    for code in codes:
        values = split_latents(spec, bases)
        values[code.name] = np.tile(along, _BASES)[:, None].astype(np.float32)
        latents = np.asarray(join_latents(spec, values))
        pictures = apply(generate, state, latents, config)
        tables[code.name] = {
            kind: explained(along, measured.reshape(_BASES, _STEPS))
            for kind, measured in properties(pictures, config.composite).items()
        }
    names = name_codes(
        {
            code: {kind: r2 for kind, (r2, _) in table.items()}
            for code, table in tables.items()
        }
    )
    return {
        code: {
            "name": names[code],
            "r2": {kind: r2 for kind, (r2, _) in table.items()},
            "slope": {kind: slope for kind, (_, slope) in table.items()},
        }
        for code, table in tables.items()
    }
