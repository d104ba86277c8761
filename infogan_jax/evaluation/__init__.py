"""Measures of a trained state: one file each, one row each in EVALUATORS.

An evaluator is a function `evaluate(state, config, data) -> dict`, whose values JSON
can hold. Each file has the measure itself too, as a function of arrays.
"""

import importlib
from collections.abc import Callable

from infogan_jax.config import Config, one_of

# Files of this folder. They are loaded when used, for they use large packages.
EVALUATORS = (
    "clustering",
    "detection",
    "factors",
    "fidelity",
    "generation",
    "pose",
    "unlabelled",
)


def load_evaluator(name: str) -> Callable:
    """The evaluator of a row."""
    return importlib.import_module(f"{__name__}.{name}").evaluate


def evaluator_names(config: Config) -> list[str]:
    """The rows of EVALUATORS that the config asks for.

    Raises:
        UserError: there is no such row.
    """
    names = [name.strip() for name in config.evaluators.split(",") if name.strip()]
    for name in names:
        one_of("evaluators", name, EVALUATORS)
    return names
