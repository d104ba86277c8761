"""Asked is got: does a category give its class? An independent classifier judges."""

import jax
import numpy as np
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score, normalized_mutual_info_score

from infogan_jax.classifier import classify
from infogan_jax.config import UserError
from infogan_jax.evaluation.clustering import contingency, infer_categories, match
from infogan_jax.evaluation.inference import apply
from infogan_jax.evaluation.judge import load_judge
from infogan_jax.latents import (
    join_latents,
    main_category,
    parse_spec,
    sample_latents,
    split_latents,
)
from infogan_jax.steps import generate

_EACH = 1000  # pictures of each category
_COVERED = 0.2  # times the even share: a class with fewer pictures counts as missing


def measures(asked: np.ndarray, got: np.ndarray, code_to_class: list) -> dict:
    """How what was asked for agrees with what was got.

    Args:
        asked: the category of each generated picture, int `[N]`.
        got: its class in the judge's eyes, int `[N]`.
        code_to_class: the class that each category has on *real* images, or None.

    Returns:
        `asked_is_got`, the share of pictures of the class that their category has;
        `per_category`, the same for each; `modes`, how many classes are covered;
        `nmi_asked_got` of the two; `entropy`, of the classes given the category,
        in nats; `table` of counts `[categories, classes]`.

    Raises:
        UserError: there are no pictures.
    """
    if not len(asked):
        raise UserError("generation: 0 pictures; expected some of each category")
    n_classes = max([c for c in code_to_class if c is not None] + [int(got.max())]) + 1
    table = contingency(asked, got, len(code_to_class), n_classes)
    right = [
        0.0 if label is None else float(row[label] / max(row.sum(), 1))
        for row, label in zip(table, code_to_class, strict=True)
    ]
    share = table.sum(0) / table.sum()
    given = float(entropy(share) - mutual_info_score(asked, got))
    return {
        "asked_is_got": float(np.average(right, weights=table.sum(1))),
        "per_category": right,
        "modes": int((share > _COVERED / n_classes).sum()),
        "nmi_asked_got": float(normalized_mutual_info_score(asked, got)),
        "entropy": max(given, 0.0),
        "table": table.tolist(),
    }


def evaluate(state, config, data) -> dict:
    """Of the main category; needs `config.classifier`, and labels to name categories.

    Raises:
        UserError: the classifier is missing or of other classes.
    """
    spec = parse_spec(config.codes)
    category = main_category(spec)
    if category is None:
        return {"skipped": "there is no categorical code"}
    if data.eval_labels is None:
        return {"skipped": "the dataset has no labels"}
    judge, judge_config = load_judge(config, data)
    asked = np.repeat(np.arange(category.size), _EACH)
    latents = sample_latents(jax.random.key(config.seed), len(asked), spec)
    values = split_latents(spec, latents)
    values[category.name] = np.eye(category.size, dtype=np.float32)[asked]
    pictures = apply(generate, state, np.asarray(join_latents(spec, values)), config)
    got = apply(classify, judge, pictures, judge_config)[0].argmax(-1)
    real = infer_categories(state, data.eval_images, config)[category.name]
    n_classes = len(data.class_names)
    table = contingency(real, data.eval_labels, category.size, n_classes)
    return {category.name: measures(asked, got, match(table)[1])}
