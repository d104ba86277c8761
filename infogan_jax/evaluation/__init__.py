"""Measures of a trained model: one file each, one row each in `settings.EVALUATORS`.

An evaluator is a function `evaluate(subject) -> Measures | Skipped`. Each file has the
measure itself too, as a function of arrays. Nothing here knows a work directory.
"""

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

from infogan_jax.data import Data
from infogan_jax.evaluation.results import Measures, Skipped
from infogan_jax.inference import Trained, TrainedClassifier
from infogan_jax.settings import Comparison


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is measured, on which images, and by which classification network."""

    trained: Trained
    data: Data
    seed: int = 0  # of the latents that evaluators draw
    composite: str = ""  # colours of the channels, as `Config.composite`
    classifier: TrainedClassifier | None = None  # of real images
    comparisons: tuple[Comparison, ...] = ()  # of treatments with their controls


def load_evaluator(name: str) -> Callable[[Subject], Measures | Skipped]:
    """Returns the evaluator of that name; its file is loaded when it is used."""
    return importlib.import_module(f"{__name__}.{name}").evaluate


def evaluate(subject: Subject, names: list[str]) -> dict[str, Measures | Skipped]:
    """Returns the measures of the named evaluators.

    Raises:
        UserError: one of them lacks what it needs.
    """
    return {name: load_evaluator(name)(subject) for name in names}


def scalar_metrics(results: dict[str, Any]) -> dict[str, float]:
    """Returns the numbers among results, as `eval/code/measure`."""
    return {
        f"eval/{code}/{name}": value
        for measures in results.values()
        if isinstance(measures, Measures)
        for code, row in measures.rows.items()
        for name, value in row.items()
        if isinstance(value, float)
    }
