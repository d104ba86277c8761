"""How often a classification network is right."""

import numpy as np

from infogan_jax.classifier import ClassifierState, classify
from infogan_jax.evaluation.clustering import contingency
from infogan_jax.evaluation.inference import apply


def measure(state: ClassifierState, config, data) -> dict:
    """On held-out images.

    Returns:
        `accuracy`, and the `table` of counts `[predicted, true]`.
    """
    n = len(data.class_names)
    found = apply(classify, state, data.eval_images, config)[0].argmax(-1)
    table = contingency(found, np.asarray(data.eval_labels), n, n)
    accuracy = float(np.trace(table) / table.sum())
    return {"accuracy": accuracy, "table": table.tolist()}
