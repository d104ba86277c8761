"""Measures on held-out images: one file each, one row each in EVALUATORS.

An evaluator is a function `(state, config, data) -> dict`, whose values JSON can
hold. Each file has the measure itself too, as a function of arrays.
"""

from infogan_jax.evaluation import clustering

EVALUATORS = {"clustering": clustering.evaluate}
