"""How well the categories that Q found agree with classes it was never told."""

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from infogan_jax.config import UserError
from infogan_jax.evaluation.inference import apply
from infogan_jax.latents import categorical_codes, parse_spec
from infogan_jax.state import TrainState
from infogan_jax.steps import infer_codes


def contingency(
    categories: np.ndarray, labels: np.ndarray, n_categories: int, n_classes: int
) -> np.ndarray:
    """How many images have each category and class, int `[n_categories, n_classes]`."""
    table = np.zeros((n_categories, n_classes), int)
    np.add.at(table, (categories, labels), 1)
    return table


def match(table: np.ndarray) -> tuple[float, list[int | None]]:
    """The best one-to-one naming of categories by classes.

    Args:
        table: counts `[n_categories, n_classes]`.

    Returns:
        The share of images that the naming gets right, and each category's class,
        None for a category too many.

    References:
        Kuhn 1955, the Hungarian method.
    """
    rows, columns = linear_sum_assignment(table, maximize=True)
    names: list[int | None] = [None] * len(table)
    for row, column in zip(rows, columns, strict=True):
        names[row] = int(column)
    return float(table[rows, columns].sum() / table.sum()), names


def purity(table: np.ndarray) -> float:
    """The share of images that are of their category's commonest class."""
    return float(table.max(axis=1).sum() / table.sum())


def measures(
    categories: np.ndarray, labels: np.ndarray, n_categories: int, n_classes: int
) -> dict:
    """All of them, on two arrays of integers `[N]`.

    Raises:
        UserError: fewer than two classes, or no images.
    """
    check_classes("clustering", labels)
    table = contingency(categories, labels, n_categories, n_classes)
    accuracy, names = match(table)
    return {
        "accuracy": accuracy,
        "purity": purity(table),
        "nmi": float(normalized_mutual_info_score(labels, categories)),
        "ari": float(adjusted_rand_score(labels, categories)),
        "code_to_class": names,
        "table": table.tolist(),
        "warnings": _warnings(table),
    }


def check_classes(measure: str, labels: np.ndarray) -> None:
    """Raises UserError unless there are images of two classes or more."""
    if (classes := len(np.unique(labels))) < 2:
        raise UserError(
            f"{measure}: {len(labels)} images of {classes} classes; expected images of "
            "two classes or more"
        )


def _warnings(table: np.ndarray) -> list[str]:
    """Categories whose commonest class is the same, and classes that are none's."""
    owner = table.argmax(axis=1)
    found = []
    for label in range(table.shape[1]):
        codes = [int(c) for c in np.flatnonzero(owner == label) if table[c].any()]
        if len(codes) > 1:
            found.append(f"categories {codes} share class {label}")
        elif not codes and table[:, label].any():
            found.append(f"class {label} has no category of its own")
    found += [f"category {int(c)} is unused" for c in np.flatnonzero(~table.any(1))]
    return found


def infer_categories(
    state: TrainState, images: np.ndarray, config
) -> dict[str, np.ndarray]:
    """Q's category for each image, by code, int `[N]`."""
    codes = apply(infer_codes, state, images, config)
    names = [code.name for code in categorical_codes(parse_spec(config.codes))]
    return {name: codes[name].argmax(-1) for name in names}


def evaluate(state: TrainState, config, data) -> dict:
    """The measures of each categorical code, by its name; labels are used here only."""
    if data.eval_labels is None:
        return {"skipped": "the dataset has no labels"}
    if len(np.unique(data.eval_labels)) < 2:
        return {"skipped": "the held-out images are all of one class"}
    found = infer_categories(state, data.eval_images, config)
    sizes = {code.name: code.dim for code in parse_spec(config.codes)}
    n_classes = len(data.class_names)
    if not found:
        return {"skipped": "there is no categorical code"}
    return {
        name: measures(categories, data.eval_labels, sizes[name], n_classes)
        for name, categories in found.items()
    }
