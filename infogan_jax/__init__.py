"""InfoGAN in JAX: pure step functions, and runs that name what they found.

The names below are the programmatic surface; `experiments/research_step.py` uses them.
Names load when first used, so that `--help` need not wait for all of them.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infogan_jax.config import Config, UserError
    from infogan_jax.latents import Code, parse_spec, sample_latents
    from infogan_jax.losses import Adversarial, information
    from infogan_jax.state import Net, TrainState, init_state
    from infogan_jax.steps import generate, infer_codes, make_train_step
    from infogan_jax.training import train

_HOME = {
    "Adversarial": "losses",
    "Code": "latents",
    "Config": "config",
    "Net": "state",
    "TrainState": "state",
    "UserError": "config",
    "generate": "steps",
    "infer_codes": "steps",
    "information": "losses",
    "init_state": "state",
    "make_train_step": "steps",
    "parse_spec": "latents",
    "sample_latents": "latents",
    "train": "training",
}

__all__ = [
    "Adversarial",
    "Code",
    "Config",
    "Net",
    "TrainState",
    "UserError",
    "generate",
    "infer_codes",
    "information",
    "init_state",
    "make_train_step",
    "parse_spec",
    "sample_latents",
    "train",
]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
