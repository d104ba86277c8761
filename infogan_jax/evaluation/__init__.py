"""Measures on held-out images: one file each, one row each in EVALUATORS.

An evaluator is a function `(state, config, data) -> dict`, whose values JSON can
hold. Each file has the measure itself too, as a function of arrays.
"""

from infogan_jax.evaluation import (
    clustering,
    factors,
    fidelity,
    generation,
    unlabelled,
)

EVALUATORS = {
    "clustering": clustering.evaluate,
    "factors": factors.evaluate,
    "fidelity": fidelity.evaluate,
    "generation": generation.evaluate,
    "unlabelled": unlabelled.evaluate,
}
