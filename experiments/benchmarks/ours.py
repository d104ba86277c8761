"""This project's side of a benchmark: the compiled run of the training loop itself."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from infogan_jax import Config, init_state, make_train_step, parallel

RECOMMENDED = {
    "warp": "digits",
    "warp_every": 1,
    "real_weight": 1.0,
    "balance_weight": 4.0,
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
    """A call that takes `length` steps of all replicas, and waits for them.

    On at most an epoch's number of images, which are taken again from the first. The
    first call compiles, by XLA options.
    """
    mesh, replicas = parallel.make_mesh(devices), config.seeds
    init = functools.partial(init_state, config=config, image_shape=shape)
    keys = jax.random.split(jax.random.key(0), replicas)
    images = noise(min(length * config.batch_size, _EPOCH), shape)
    batches = np.arange(length * config.batch_size) % len(images)
    batches = np.repeat(batches.reshape(1, length, -1), replicas, 0)
    if replicas == 1:
        keys, batches = keys[0], batches[0]
    make = init if replicas == 1 else jax.vmap(init)
    placement = parallel.placement(mesh, replicas)
    state = [jax.jit(make, out_shardings=placement)(keys)]
    arrays = parallel.replicate(jnp.asarray(images), mesh)
    step = make_train_step(config, shape)
    run = parallel.make_run(step, mesh, length, replicas)

    @functools.cache
    def compiled():
        return run.lower(state[0], arrays, batches).compile(options)

    def go():
        state[0], *metrics = compiled()(state[0], arrays, batches)
        jax.block_until_ready((state[0].step, metrics))

    return go
