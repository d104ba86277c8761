"""What codes tell of metadata: of treatments, as one hopes, or of plates."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import normalized_mutual_info_score

from infogan_jax.data.metadata import BATCHES, GROUP
from infogan_jax.evaluation import Subject
from infogan_jax.evaluation.results import Measures, Skipped

_TELLING = 0.1  # normalised mutual information from which on a warning is due
_MOST_VALUES = 50  # of a column; numbers of more than these become two halves
_MOST_NUMBERS = 10
_SHUFFLES = 20


def best_auc(
    scores: np.ndarray, values: np.ndarray, n_values: int
) -> tuple[float, int, int]:
    """Returns the largest area under a ROC curve, and whose it is.

    Args:
        scores: `[S, N]`; either sign counts.
        values: which of the values each image has, int `[N]`; each is set against all
            others.
        n_values: how many there are, each of at least one image.

    Returns:
        The area, the place of the score, and the value.
    """
    ranks = rankdata(scores, axis=1)
    is_value = np.eye(n_values)[values]  # [N, n_values]
    count = is_value.sum(0)
    areas = ranks @ is_value - count * (count + 1) / 2
    areas /= count * (len(values) - count)
    areas = np.maximum(areas, 1 - areas)
    score, value = np.unravel_index(areas.argmax(), areas.shape)
    return float(areas[score, value]), int(score), int(value)


def measures(
    categories: np.ndarray | None,
    scores: dict[str, np.ndarray],
    column: Sequence[str],
    groups: Sequence[str],
    rng: np.random.Generator,
) -> dict:
    """Returns how much codes tell of one column, beside chance.

    Chance is the mean over columns whose values are shuffled among groups, such as
    wells, as far as each group has one value, and otherwise among images.

    Args:
        categories: int `[N]`, if there are any.
        scores: name -> a number for each image, `[N]`.
        column: a value for each image, of two kinds or more.
        groups: of each image.
        rng: for the shuffles.

    Returns:
        The fields of `MetadataRow`.
    """
    kinds, values = np.unique(list(column), return_inverse=True)
    _, first, group = np.unique(list(groups), return_index=True, return_inverse=True)
    if not (values == values[first][group]).all():
        first = group = np.arange(len(values))
    table = np.stack(list(scores.values()))

    def both(values: np.ndarray) -> tuple[float, tuple[float, int, int]]:
        nmi = 0.0
        if categories is not None:
            nmi = float(normalized_mutual_info_score(values, categories))
        return nmi, best_auc(table, values, len(kinds))

    nmi, (auc, score, value) = both(values)
    by_chance = [
        (shuffled[0], shuffled[1][0])
        for shuffled in (
            both(rng.permutation(values[first])[group]) for _ in range(_SHUFFLES)
        )
    ]
    nmi_by_chance, auc_by_chance = np.mean(by_chance, axis=0).tolist()
    return {
        "nmi": nmi,
        "nmi_by_chance": nmi_by_chance,
        "auc": auc,
        "auc_by_chance": auc_by_chance,
        "code": list(scores)[score],
        "value": str(kinds[value]),
        "units": len(first),
    }


def halves(column: Sequence[str]) -> Sequence[str]:
    """Returns whether each of many numbers is above their median; else the column."""
    if len(set(column)) <= _MOST_NUMBERS:
        return column
    try:
        numbers = np.array([float(value or "nan") for value in column])
    except ValueError:
        return column
    middle = float(np.nanmedian(numbers))
    words = {True: f"above {middle:g}", False: f"up to {middle:g}"}
    return [words[bool(x > middle)] if x == x else "none" for x in numbers]


def evaluate(subject: Subject) -> Measures | Skipped:
    """Measures each column of held-out images that has two values or more."""
    table, trained = subject.data.eval_metadata, subject.trained
    if not table:
        return Skipped("nothing is known of the images but their pixels")
    scores = trained.read_codes(subject.data.eval_images)
    if not scores:
        return Skipped("there is no code that Q reads")
    category, categories = trained.model.category, None
    if category is not None:
        found = trained.infer_categories(subject.data.eval_images)
        categories = found[category.name]
    rng = np.random.default_rng(subject.seed)
    rows, warnings = {}, []
    for name, values in table.items():
        column = halves(values)
        if name == GROUP or not 2 <= len(set(column)) <= _MOST_VALUES:
            continue
        row = measures(categories, scores, column, table[GROUP], rng)
        rows[name] = row
        if name in BATCHES and row["nmi"] > max(_TELLING, row["nmi_by_chance"]):
            warnings.append(
                f"categories tell {name}s apart (NMI {row['nmi']:.2f}); "
                f"--normalise_by={name}:COLUMN=CONTROL makes them alike before training"
            )
    if not rows:
        return Skipped(
            f"no column has 2 to {_MOST_VALUES} values among held-out images"
        )
    return Measures(rows, {"warnings": warnings})
