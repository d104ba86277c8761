"""How often a classification network is right."""

import numpy as np

from infogan_jax.data import Data
from infogan_jax.evaluation.clustering import contingency
from infogan_jax.inference import TrainedClassifier


def measure(trained: TrainedClassifier, data: Data) -> dict:
    """Returns `accuracy` and the `table` of counts `[predicted, true]`, held out."""
    n = len(data.class_names)
    predicted = trained.classify(data.eval_images)
    table = contingency(predicted, np.asarray(data.eval_labels), n, n)
    accuracy = float(np.trace(table) / table.sum())
    return {"accuracy": accuracy, "table": table.tolist()}
