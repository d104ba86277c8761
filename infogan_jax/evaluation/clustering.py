"""How well categories agree with classes that training never saw."""

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from infogan_jax.errors import UserError
from infogan_jax.evaluation import Subject
from infogan_jax.evaluation.results import Measures, Skipped


def contingency(
    categories: np.ndarray, labels: np.ndarray, n_categories: int, n_classes: int
) -> np.ndarray:
    """Counts images by category and class, int `[n_categories, n_classes]`."""
    table = np.zeros((n_categories, n_classes), int)
    np.add.at(table, (categories, labels), 1)
    return table


def match(table: np.ndarray) -> tuple[float, list[int | None]]:
    """Returns the best one-to-one naming of categories by classes.

    Args:
        table: counts `[n_categories, n_classes]`.

    Returns:
        The fraction of images that the naming gets right, and each category's class,
        None for categories beyond the number of classes.

    References:
        Kuhn 1955, the Hungarian method.
    """
    rows, columns = linear_sum_assignment(table, maximize=True)
    names: list[int | None] = [None] * len(table)
    for row, column in zip(rows, columns, strict=True):
        names[row] = int(column)
    return float(table[rows, columns].sum()) / float(table.sum()), names


def purity(table: np.ndarray) -> float:
    """Returns the fraction of images of their category's most frequent class."""
    return float(table.max(axis=1).sum()) / float(table.sum())


def measures(
    categories: np.ndarray, labels: np.ndarray, n_categories: int, n_classes: int
) -> dict:
    """Returns all measures of two arrays of integers `[N]`.

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
    """Categories that share their most frequent class, and classes without one."""
    owner = table.argmax(axis=1)
    warnings = []
    for label in range(table.shape[1]):
        codes = [int(c) for c in np.flatnonzero(owner == label) if table[c].any()]
        if len(codes) > 1:
            warnings.append(f"categories {codes} share class {label}")
        elif not codes and table[:, label].any():
            warnings.append(f"class {label} has no category of its own")
    unused = np.flatnonzero(~table.any(axis=1))
    return warnings + [f"category {int(c)} is unused" for c in unused]


def evaluate(subject: Subject) -> Measures | Skipped:
    """Measures each categorical code; the only use of held-out labels."""
    data, model = subject.data, subject.trained.model
    if data.eval_labels is None:
        return Skipped("the dataset has no labels")
    if len(np.unique(data.eval_labels)) < 2:
        return Skipped("the held-out images are all of one class")
    if not model.categories:
        return Skipped("there is no categorical code")
    categories = subject.trained.infer_categories(data.eval_images)
    n_classes = len(data.class_names)
    return Measures(
        {
            code.name: measures(
                categories[code.name], data.eval_labels, code.size, n_classes
            )
            for code in model.categories
        }
    )
