"""How often a generated image has the class of the category that it was made for.

A classification network of real images, which training never saw, decides.
"""

import jax
import numpy as np
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score, normalized_mutual_info_score

from infogan_jax.core.latents import join_latents, split_latents
from infogan_jax.errors import UserError
from infogan_jax.evaluation import Subject
from infogan_jax.evaluation.clustering import contingency, match
from infogan_jax.evaluation.results import Measures, Skipped

_IMAGES = 1000  # generated for each category
_MIN_SHARE = 0.2  # of an even share: a class with fewer images counts as missing


def measures(
    categories: np.ndarray, classes: np.ndarray, code_to_class: list[int | None]
) -> dict:
    """Returns how well categories determine the classes of generated images.

    Args:
        categories: that each image was generated for, int `[N]`.
        classes: of each image by the classifier, int `[N]`.
        code_to_class: the class that each category has on *real* images, or None.

    Returns:
        `conditional_accuracy`, the fraction of images of their category's class;
        `per_category`, the same for each; `modes`, how many classes are covered;
        `class_nmi` of the two; `entropy`, of the classes given the category, in nats;
        `table` of counts `[categories, classes]`.

    Raises:
        UserError: there are no pictures.
    """
    if not len(categories):
        raise UserError(
            "conditional_accuracy: 0 images; expected some of each category"
        )
    known = [c for c in code_to_class if c is not None]
    n_classes = max([*known, int(classes.max())]) + 1
    table = contingency(categories, classes, len(code_to_class), n_classes)
    right = [
        0.0 if label is None else float(row[label] / max(row.sum(), 1))
        for row, label in zip(table, code_to_class, strict=True)
    ]
    share = table.sum(0) / table.sum()
    given = float(entropy(share) - mutual_info_score(categories, classes))
    return {
        "conditional_accuracy": float(np.average(right, weights=table.sum(1))),
        "per_category": right,
        "modes": int((share > _MIN_SHARE / n_classes).sum()),
        "class_nmi": float(normalized_mutual_info_score(categories, classes)),
        "entropy": max(given, 0.0),
        "table": table.tolist(),
    }


def evaluate(subject: Subject) -> Measures | Skipped:
    """Measures the main category; labels serve to name categories.

    Raises:
        UserError: there is no classification network.
    """
    trained, data = subject.trained, subject.data
    category, spec = trained.model.category, trained.model.spec
    if category is None:
        return Skipped("there is no categorical code")
    if data.eval_labels is None:
        return Skipped("the dataset has no labels")
    if subject.classifier is None:
        raise UserError(
            "--eval_classifier: expected the work directory of a classification "
            "network; train one by --mode=train_classifier"
        )
    wanted = np.repeat(np.arange(category.size), _IMAGES)
    latents = trained.sample_latents(jax.random.key(subject.seed), len(wanted))
    values = split_latents(spec, latents)
    values[category.name] = np.eye(category.size, dtype=np.float32)[wanted]
    images = trained.generate(join_latents(spec, values))
    classes = subject.classifier.classify(images)
    on_real = trained.infer_categories(data.eval_images)[category.name]
    n_classes = len(data.class_names)
    table = contingency(on_real, data.eval_labels, category.size, n_classes)
    return Measures({category.name: measures(wanted, classes, match(table)[1])})
