"""What each continuous code does: properties measured along it, and its name."""

import jax
import numpy as np
from scipy.ndimage import distance_transform_edt, laplace
from scipy.optimize import linear_sum_assignment

from infogan_jax.core.latents import join_latents, split_latents
from infogan_jax.errors import UserError
from infogan_jax.evaluation import Subject
from infogan_jax.evaluation.results import Measures, Skipped
from infogan_jax.pixels import begins_with_rgb, channel_names
from infogan_jax.settings import DEFAULT_COMPOSITE

_BASES, _STEPS = 200, 9  # images that a code is varied in; values that it takes
_MIN_R2 = 0.5  # of the property that a code is named after


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
    if not np.isfinite(images).all():
        raise UserError("traversal: pixels are not finite; was the run trained?")
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
            measured[f"area of {names[k]}"] = (images[..., k] > 0.5).sum((1, 2)) * 1.0
    return measured


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


def explained(codes: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Returns how well one code determines a property, all else being equal.

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
    """Returns a property's name for each code, none given twice, or "unnamed".

    Args:
        tables: code -> property -> R2.
    """
    codes = list(tables)
    kinds = list(next(iter(tables.values()), {}))
    scores = np.array([[tables[code][kind] for kind in kinds] for code in codes])
    names = dict.fromkeys(codes, "unnamed")
    if scores.size:
        for row, column in zip(*linear_sum_assignment(-scores), strict=True):
            if scores[row, column] >= _MIN_R2:
                names[codes[row]] = kinds[column]
    return names


def evaluate(subject: Subject) -> Measures | Skipped:
    """Names each continuous code, with R2 and slope of all properties."""
    model = subject.trained.model
    if not model.continuous:
        return Skipped("there is no continuous code")
    bases = subject.trained.sample_latents(jax.random.key(subject.seed), _BASES)
    bases = np.repeat(bases, _STEPS, axis=0)
    tables: dict[str, dict[str, tuple[float, float]]] = {}
    for code in model.continuous:
        along = np.linspace(*code.trained_range, _STEPS)
        values = split_latents(model.spec, bases)
        values[code.name] = np.tile(along, _BASES)[:, None].astype(np.float32)
        images = subject.trained.generate(join_latents(model.spec, values))
        tables[code.name] = {
            kind: explained(along, measured.reshape(_BASES, _STEPS))
            for kind, measured in properties(images, subject.composite).items()
        }
    r2 = {
        code: {kind: value for kind, (value, _) in table.items()}
        for code, table in tables.items()
    }
    names = name_codes(r2)
    return Measures(
        {
            code: {
                "name": names[code],
                "r2": r2[code],
                "slope": {kind: slope for kind, (_, slope) in table.items()},
            }
            for code, table in tables.items()
        }
    )
