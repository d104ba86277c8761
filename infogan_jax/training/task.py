"""What the loop trains."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np


class Task(NamedTuple):
    """The mathematics of a run, and what to do on the way.

    A state has `step`, `key` and `variables()`, as `TrainState` does. The functions
    below the line get the state, or the metrics, of each member; of several processes
    only the primary one calls them.
    """

    init: Callable[[Any], Any]  # key of the run -> state
    train_step: Callable  # (state, batch) -> (state, metrics), or with pseudo-labels
    arrays: Any  # the training set, `[N, ...]` each; a batch has B rows of each
    upper_bounds: Mapping[str, float] = MappingProxyType({})  # of metrics, as shown
    pseudo_label_step: float = math.inf  # the first step with pseudo-labels
    # ----
    evaluate: Callable[[Any], dict[str, float]] = lambda state: {}  # held-out measures
    precompile: Callable[[Any], None] = lambda state: None  # what `evaluate` needs
    pseudo_labels: Callable[[int, list[Any]], np.ndarray] | None = None  # -> `[M, N]`
    on_log: Callable[[int, list[dict[str, float]]], None] = lambda step, rows: None
    on_sample: Callable[[int, list[Any]], None] = lambda step, states: None
    on_checkpoint: Callable[[int, list[Any]], None] = lambda step, states: None
