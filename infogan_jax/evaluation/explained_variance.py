"""How much of the difference between real images each code explains, and which groups
are at its ends."""

import numpy as np

from infogan_jax.core.latents import Bernoulli, Categorical
from infogan_jax.data.metadata import GROUP
from infogan_jax.evaluation import Subject
from infogan_jax.evaluation.results import Measures, Skipped

_LEAST = 20  # images
_ENDS = 3  # groups at either end
_RIDGE = 1e-6  # so that a code that is constant explains nothing


def explained_variance(images: np.ndarray, features: np.ndarray) -> float:
    """Returns the R2 of pixels as a linear function of features, pooled over pixels.

    Fitted to every other image, measured on the rest.

    Args:
        images: `[N, P]`.
        features: `[N, F]`.

    Returns:
        R2 on the rest, 0 or more.
    """
    x = np.concatenate([np.ones((len(features), 1)), features], 1)
    fit, rest = slice(0, None, 2), slice(1, None, 2)
    gram = x[fit].T @ x[fit] + _RIDGE * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x[fit].T @ images[fit])
    total = ((images[rest] - images[fit].mean(0)) ** 2).sum()
    if total < 1e-9:
        return 0.0
    missing = ((images[rest] - x[rest] @ weights) ** 2).sum()
    return max(0.0, float(1 - missing / total))


def cubic(values: np.ndarray) -> np.ndarray:
    """A code's value, its square and its cube, `[N, 3]`, of values `[N]`."""
    spread = max(float(values.std()), 1e-9)
    scaled = (values - values.mean()) / spread
    return np.stack([scaled, scaled**2, scaled**3], 1)


def groups_at_ends(values: np.ndarray, groups: list[str]) -> tuple[list, list]:
    """Returns the groups with the lowest and with the highest means, outermost first.

    Args:
        values: `[N]`.
        groups: of each value.
    """
    names, places = np.unique(groups, return_inverse=True)
    means = np.bincount(places, values) / np.bincount(places)
    order = [str(names[i]) for i in means.argsort()]
    count = min(_ENDS, len(order) // 2)
    return order[:count], order[::-1][:count]


def evaluate(subject: Subject) -> Measures | Skipped:
    """Measures each code as Q reads it from held-out images."""
    data, spec = subject.data, subject.trained.model.spec
    if len(data.eval_images) < _LEAST:
        return Skipped(f"explained_variance needs {_LEAST} held-out images or more")
    images = data.eval_images.reshape(len(data.eval_images), -1) / np.float32(255)
    codes = subject.trained.infer_codes(data.eval_images)
    groups = (data.eval_metadata or {}).get(GROUP)
    rows, features = {}, []
    for code in spec:
        if not code.n_params:
            continue
        values = codes[code.name]
        is_discrete = isinstance(code, Categorical | Bernoulli)
        features.append(values if is_discrete else cubic(values[:, 0]))
        row = {"r2": explained_variance(images, features[-1]), "low": [], "high": []}
        if groups and not is_discrete and len(set(groups)) < len(groups):
            row["low"], row["high"] = groups_at_ends(values[:, 0], groups)
        rows[code.name] = row
    together = explained_variance(images, np.concatenate(features, 1))
    return Measures(rows, {"together": together})
