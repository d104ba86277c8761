"""InfoGAN in JAX: pure step functions, and runs that measure what they learned.

The names below are the programmatic surface; `experiments/research_step.py` uses them.
They load when first used, so that importing the package is quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infogan_jax.build import build_classifier, build_model
    from infogan_jax.config import Config
    from infogan_jax.core.latents import Code, sample_latents
    from infogan_jax.core.losses import GanLoss, information
    from infogan_jax.core.model import InfoGAN
    from infogan_jax.core.spec import parse_spec
    from infogan_jax.core.state import Net, TrainState
    from infogan_jax.core.train_step import make_train_step
    from infogan_jax.errors import UserError
    from infogan_jax.inference import Trained
    from infogan_jax.training.runs import train

__version__ = "0.2.0"

_HOME = {
    "Code": "core.latents",
    "Config": "config",
    "GanLoss": "core.losses",
    "InfoGAN": "core.model",
    "Net": "core.state",
    "TrainState": "core.state",
    "Trained": "inference",
    "UserError": "errors",
    "build_classifier": "build",
    "build_model": "build",
    "information": "core.losses",
    "make_train_step": "core.train_step",
    "parse_spec": "core.spec",
    "sample_latents": "core.latents",
    "train": "training.runs",
}

__all__ = [
    "Code",
    "Config",
    "GanLoss",
    "InfoGAN",
    "Net",
    "TrainState",
    "Trained",
    "UserError",
    "build_classifier",
    "build_model",
    "information",
    "make_train_step",
    "parse_spec",
    "sample_latents",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
