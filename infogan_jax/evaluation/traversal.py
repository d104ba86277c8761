"""What each continuous code does: properties measured along it, and its name."""

import jax
import numpy as np
from scipy.optimize import linear_sum_assignment

from infogan_jax.core.latents import join_latents, split_latents
from infogan_jax.evaluation import Subject
from infogan_jax.evaluation.properties import properties
from infogan_jax.evaluation.results import Measures, Skipped

_BASES, _STEPS = 200, 9  # images that a code is varied in; values that it takes
_MIN_R2 = 0.5  # of the property that a code is named after


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
