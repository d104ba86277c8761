"""How generated images differ from real ones in properties that one can name.

Distances between network features say that two sets differ, and hardly see thin lines
or coloured rims; these say in what.
"""

import numpy as np
from scipy.stats import wasserstein_distance

from infogan_jax.errors import UserError
from infogan_jax.evaluation import Subject, fidelity
from infogan_jax.evaluation.properties import artifacts, properties
from infogan_jax.evaluation.results import Measures, Skipped
from infogan_jax.pixels import to_uint8

_MAX_IMAGES = 2000  # of each set
_MIN_IMAGES = 20


def relative_distance(real: np.ndarray, other: np.ndarray) -> float:
    """Returns Wasserstein-1 between two samples, in standard deviations of the first.

    0.1 is a shift of all values by a tenth of the natural spread, say. If the first has
    no spread, the result is 0 for a second that has the same value, else infinite.

    Args:
        real: values, `[N]`.
        other: values, `[M]`.

    Raises:
        UserError: one of them is empty.
    """
    if not (len(real) and len(other)):
        raise UserError(
            f"appearance: {len(real)} and {len(other)} images; expected 1 or more"
        )
    distance, spread = wasserstein_distance(real, other), np.std(real)
    if spread > 1e-9:
        return float(distance / spread)
    return 0.0 if distance < 1e-9 else float("inf")


def compare(
    real: np.ndarray, fake: np.ndarray, other: np.ndarray, colours: str
) -> dict[str, dict[str, float]]:
    """Returns, of each property, means and distances from real images.

    Args:
        real: uint8 `[N, H, W, C]`.
        fake: generated images, likewise.
        other: other real images, the reference.
        colours: of channels in a composite.

    Returns:
        Name of the property -> `real` and `generated`, its means; `distance`, between
        the two, and `real_reference`, between both halves of the real images, by
        `relative_distance`.
    """
    sets = []
    for images in (real, fake, other):
        pixels = images.astype(np.float32) / 255
        sets.append(properties(pixels, colours) | artifacts(pixels, colours))
    return {
        name: {
            "real": float(values.mean()),
            "generated": float(sets[1][name].mean()),
            "distance": relative_distance(values, sets[1][name]),
            "real_reference": relative_distance(values, sets[2][name]),
        }
        for name, values in sets[0].items()
    }


def evaluate(subject: Subject) -> Measures | Skipped:
    """Compares properties of generated images with those of training images."""
    data = subject.data
    n = min(_MAX_IMAGES, len(data.images) // 2)
    if n < _MIN_IMAGES:
        return Skipped(f"{len(data.images)} images; expected {2 * _MIN_IMAGES} or more")
    if min(subject.trained.model.image_shape[:2]) < 16:
        return Skipped("images are smaller than 16 x 16 pixels")
    fake = to_uint8(fidelity.sample(subject.trained, subject.seed, n))
    real, other = data.images[:n], data.images[n : 2 * n]
    return Measures(compare(real, fake, other, subject.composite))
