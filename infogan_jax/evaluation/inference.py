"""A trained state applied to any number of inputs, compiled for one shape."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from infogan_jax.latents import Bernoulli, Categorical, parse_spec, split_params
from infogan_jax.steps import recognize

_BATCH = 500


def apply(function: Callable, state, inputs: np.ndarray, config):
    """What `function(state, part, config)` gives for all inputs, as numpy arrays.

    Args:
        function: such as `steps.generate` or `steps.infer_codes`; row i of all that it
            returns belongs to row i of the part. Floating point comes as float32.
        state: a trained state.
        inputs: `[N, ...]`, N at least 1.
        config: the config of the state.
    """
    # Replicas differ in their seed only, and share what is compiled.
    compiled = _compiled(function, dataclasses.replace(config, seed=0, seeds=1))
    parts = []
    for start in range(0, len(inputs), _BATCH):
        part = np.asarray(inputs[start : start + _BATCH])
        missing = [(0, _BATCH - len(part))] + [(0, 0)] * (part.ndim - 1)
        out = compiled(state, np.pad(part, missing))
        parts.append(jax.tree.map(_as_numpy, out))
    return jax.tree.map(lambda *x: np.concatenate(x)[: len(inputs)], *parts)


def _as_numpy(x: jax.Array) -> np.ndarray:
    """Of bfloat16 as float32: numpy would sum it in bfloat16."""
    is_float = jnp.issubdtype(x.dtype, jnp.floating)
    return np.asarray(x, np.float32 if is_float else None)


def read_codes(state, images: np.ndarray, config) -> dict[str, np.ndarray]:
    """What Q says of images, `[N]` each.

    The probability of each category and of a Bernoulli code's 1; another code's mean.
    """
    return apply(_read, state, images, config)


def _read(state, images, config):
    spec = parse_spec(config.codes)
    params = split_params(spec, recognize(state, images, config))
    found = {}
    for code in spec:
        if isinstance(code, Categorical):
            shares = jax.nn.softmax(params[code.name])
            for k, share in enumerate(shares.T):
                found[f"{code.name} {k}"] = share
        elif isinstance(code, Bernoulli):
            found[code.name] = jax.nn.sigmoid(params[code.name])[:, 0]
        elif code.n_params:
            found[code.name] = code.infer(params[code.name])[:, 0]
    return found


def shares_of(category: Categorical, codes: dict[str, np.ndarray]) -> np.ndarray:
    """Each category's probability, `[N, size]`, from what `read_codes` gives."""
    return np.stack([codes[f"{category.name} {k}"] for k in range(category.size)], 1)


@functools.lru_cache(maxsize=16)
def _compiled(function, config):
    return jax.jit(functools.partial(function, config=config))


def digest(weights) -> str:
    """Twelve hexadecimal digits of SHA-256 over all weights."""
    total = hashlib.sha256()
    for leaf in jax.tree.leaves(weights):
        total.update(np.asarray(leaf).tobytes())
    return total.hexdigest()[:12]
