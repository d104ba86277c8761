"""This project's side of a benchmark: the compiled run of the training loop itself."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from infogan_jax import Config, build_model, make_train_step
from infogan_jax.distributed import devices as placing

RECOMMENDED: dict[str, Any] = {
    "augment": "digits",
    "augment_every": 1,
    "real_mi_weight": 1.0,
    "entropy_weight": 4.0,
    "equivariance_weight": 0.2,
}

_EPOCH = 60_000


def noise(count: int, shape: tuple[int, int, int] = (28, 28, 1)) -> np.ndarray:
    """Images, uint8 `[count, H, W, C]`."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, *shape), dtype=np.uint8)


def steps(
    config: Config,
    length: int,
    shape: tuple[int, int, int] = (28, 28, 1),
    devices: list | None = None,
    options: dict[str, Any] | None = None,
) -> Callable[[], None]:
    """A call that takes `length` steps of all members, and waits for them.

    On at most an epoch's number of images, which are taken again from the first. The
    first call compiles, by XLA options.
    """
    mesh, members = placing.make_mesh(devices), config.num_seeds
    model = build_model(config, shape)
    keys = jax.random.split(jax.random.key(0), members)
    images = noise(min(length * config.batch_size, _EPOCH), shape)
    batches = np.arange(length * config.batch_size) % len(images)
    batches = np.repeat(batches.reshape(1, length, -1), members, 0)
    if members == 1:
        keys, batches = keys[0], batches[0]
    make = model.init if members == 1 else jax.vmap(model.init)
    placement = placing.placement(mesh, members)
    state = [jax.jit(make, out_shardings=placement)(keys)]
    arrays = placing.replicate(jnp.asarray(images), mesh)
    step = make_train_step(model)
    run = placing.make_multi_step(step, mesh, length, members)

    @functools.cache
    def compiled():
        return run.lower(state[0], arrays, batches).compile(options)

    def go():
        state[0], *metrics = compiled()(state[0], arrays, batches)
        jax.block_until_ready((state[0].step, metrics))

    return go
