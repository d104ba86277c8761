"""How well a single code separates one class, such as infected cells, from others."""

import numpy as np
from sklearn.metrics import roc_auc_score

from infogan_jax.errors import UserError
from infogan_jax.evaluation import Subject
from infogan_jax.evaluation.clustering import check_classes
from infogan_jax.evaluation.results import Measures, Skipped
from infogan_jax.pixels import spread_evenly

EXAMPLES = 10  # images of each group


def measures(scores: dict[str, np.ndarray], is_class: np.ndarray) -> dict:
    """Returns the area under the ROC curve of each score, whatever its sign.

    Args:
        scores: name -> a number for each image, `[N]`.
        is_class: whether each image is of the class, bool `[N]`.

    Returns:
        `auc` of the best score, in [0.5, 1], its `code`, `table`, the AUC of each, and
        `examples`. The best of many scores is above 0.5 by chance.

    Raises:
        UserError: no image, or every image, is of the class; or a score is not finite.
    """
    check_classes("code_auc", is_class)
    for name, score in scores.items():
        if not np.isfinite(score).all():
            raise UserError(f"code_auc: {name} is not finite; was the run trained?")
    areas = {name: float(roc_auc_score(is_class, s)) for name, s in scores.items()}
    table = {name: max(area, 1 - area) for name, area in areas.items()}
    best = max(table, key=lambda name: table[name])
    score = scores[best] if areas[best] >= 0.5 else -scores[best]
    return {
        "auc": table[best],
        "code": best,
        "table": table,
        "examples": examples(score, is_class),
    }


def examples(score: np.ndarray, is_class: np.ndarray) -> dict[str, list[int]]:
    """Returns examples of true and false positives and negatives of a score.

    The images with the highest scores, as many as the class has, count as positive.

    Args:
        score: a number for each image, `[N]`, high for the class.
        is_class: whether each image is of the class, bool `[N]`.

    Returns:
        Group -> at most EXAMPLES indices, evenly spread over the images.
    """
    positive = np.zeros(len(score), bool)
    positive[np.argsort(-score, kind="stable")[: is_class.sum()]] = True
    groups = {
        "true positive": positive & is_class,
        "false negative": ~positive & is_class,
        "false positive": positive & ~is_class,
        "true negative": ~positive & ~is_class,
    }
    return {
        name: spread_evenly(np.flatnonzero(group), EXAMPLES).tolist()
        for name, group in groups.items()
    }


def evaluate(subject: Subject) -> Measures | Skipped:
    """Measures each class; of two classes the second is the first's opposite."""
    data = subject.data
    if data.eval_labels is None or len(np.unique(data.eval_labels)) < 2:
        return Skipped("the dataset has no labels of two classes")
    scores = subject.trained.read_codes(data.eval_images)
    if not scores:
        return Skipped("there is no code that Q reads")
    present = np.unique(data.eval_labels)
    return Measures(
        {
            data.class_names[k]: measures(scores, data.eval_labels == k)
            for k in (present if len(present) > 2 else present[:1])
        }
    )
