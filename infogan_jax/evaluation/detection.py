"""How well a single code tells one class from the others, such as infected cells."""

import numpy as np
from sklearn.metrics import roc_auc_score

from infogan_jax.config import UserError
from infogan_jax.evaluation.clustering import check_classes
from infogan_jax.evaluation.inference import read_codes
from infogan_jax.figures import evenly

EXAMPLES = 10  # images of each group


def measures(scores: dict[str, np.ndarray], is_class: np.ndarray) -> dict:
    """The area under the ROC curve of each score, whichever way it points.

    Args:
        scores: name -> a number for each image, `[N]`.
        is_class: whether each image is of the class, bool `[N]`.

    Returns:
        `auc` of the best score, in [0.5, 1], its `code`, `table`, the AUC of each, and
        `examples`. The best of many scores is above 0.5 by chance.

    Raises:
        UserError: no image, or every image, is of the class; or a score is not finite.
    """
    check_classes("detection", is_class)
    for name, score in scores.items():
        if not np.isfinite(score).all():
            raise UserError(f"detection: {name} is not finite; was the run trained?")
    areas = {name: float(roc_auc_score(is_class, s)) for name, s in scores.items()}
    table = {name: max(area, 1 - area) for name, area in areas.items()}
    best = max(table, key=lambda name: table[name])
    score = scores[best] if areas[best] >= 0.5 else -scores[best]
    shown = examples(score, is_class)
    return {"auc": table[best], "code": best, "table": table, "examples": shown}


def examples(score: np.ndarray, is_class: np.ndarray) -> dict[str, list[int]]:
    """Places of images that a score finds, misses, mistakes for the class, and rejects.

    As many are said to be of the class as there are, those with the highest score.

    Args:
        score: a number for each image, `[N]`, high for the class.
        is_class: whether each image is of the class, bool `[N]`.

    Returns:
        Group -> at most EXAMPLES places, evenly spread over the images.
    """
    said = np.zeros(len(score), bool)
    said[np.argsort(-score, kind="stable")[: is_class.sum()]] = True
    groups = {
        "found": said & is_class,
        "missed": ~said & is_class,
        "mistaken": said & ~is_class,
        "rejected": ~said & ~is_class,
    }
    return {
        name: evenly(np.flatnonzero(group), EXAMPLES).tolist()
        for name, group in groups.items()
    }


def evaluate(state, config, data) -> dict:
    """Of each class, by its name; of two classes the second is the first's opposite."""
    labels = data.eval_labels
    if labels is None or len(np.unique(labels)) < 2:
        return {"skipped": "the dataset has no labels of two classes"}
    scores = read_codes(state, data.eval_images, config)
    if not scores:
        return {"skipped": "there is no code that Q reads"}
    present = np.unique(labels)
    return {
        data.class_names[k]: measures(scores, labels == k)
        for k in (present if len(present) > 2 else present[:1])
    }
