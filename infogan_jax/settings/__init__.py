"""The settings of a run, in sections that are types; `Config` joins them.

One field is one setting, one flag and one help text. Numbers are checked against their
limits, and each section by its own `check`.
"""

from infogan_jax.settings.data import Comparison, DataConfig
from infogan_jax.settings.training import (
    DEFAULT_COMPOSITE,
    EVALUATORS,
    ModelConfig,
    ObjectiveConfig,
    OptimizerConfig,
    RunConfig,
)

SECTIONS = DataConfig, ModelConfig, ObjectiveConfig, OptimizerConfig, RunConfig

__all__ = [
    "DEFAULT_COMPOSITE",
    "EVALUATORS",
    "SECTIONS",
    "Comparison",
    "DataConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "RunConfig",
]
