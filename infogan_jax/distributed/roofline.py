"""How fast a step could be at best on this machine: its roofline."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from infogan_jax.core.model import InfoGAN

_REPEATS = 5


def min_step_time(
    train_step: Callable, state: Any, batch: Any, dtype: str = "float32"
) -> float:
    """Returns the seconds of a step on one device at full speed.

    The step's FLOPs over the rate of a matrix product, plus Adam's bytes over the rate
    of a sum in place, both measured here. 0 if the FLOPs are unknown.

    Args:
        train_step: `(state, batch) -> (state, metrics)`.
        state: or its shapes, with `variables()`.
        batch: or its shapes.
        dtype: of the products.
    """
    needed = flops(train_step, state, batch)
    if needed is None:
        return 0.0
    return needed / matmul_rate(dtype) + adam_bytes(state) / memory_rate()


def flops(function: Callable, *inputs: Any) -> float | None:
    """Returns the FLOPs of a call before optimisation; inputs may be shapes.

    None if jax has no CPU device: accelerators report them for compiled programs only.
    """
    try:
        cpu = jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None
    with jax.default_device(cpu):
        return (jax.jit(function).lower(*inputs).cost_analysis() or {}).get("flops")


def network_costs(model: InfoGAN) -> dict[str, tuple[int, float | None]]:
    """Returns the parameters of each network, and its FLOPs for one image."""
    x: dict[str, Any] = {
        "generator": jax.ShapeDtypeStruct((1, model.latent_dim), jnp.float32),
        "discriminator": jax.ShapeDtypeStruct((1, *model.image_shape), jnp.float32),
    }
    costs = {}
    for name, network in model.networks._asdict().items():
        init = functools.partial(network.init, train=False)
        variables = jax.eval_shape(init, jax.random.key(0), x[name])
        forward: Callable = functools.partial(network.apply, train=False)
        if name == "discriminator":
            x["recognizer"] = jax.eval_shape(forward, variables, x[name])[1]
        parameters = sum(p.size for p in jax.tree.leaves(variables["params"]))
        costs[name] = parameters, flops(forward, variables, x[name])
    return costs


def adam_bytes(state: Any) -> int:
    """Returns the bytes of one update by Adam.

    It reads parameters, gradients and two moments, and writes all but the gradients.
    """
    parameters = jax.tree.leaves(state.variables())
    return 7 * sum(x.size * x.dtype.itemsize for x in parameters)


def matmul_rate(dtype: str = "float32") -> float:
    """Returns the FLOP/s of a product of two square matrices on one device."""
    side = 2048 if jax.local_devices()[0].platform == "cpu" else 8192
    # Not ones or zeros: they take less power, which makes accelerators faster.
    a = jax.random.normal(jax.random.key(0), (side, side), dtype)
    return 2 * side**3 / seconds(functools.partial(jax.jit(jnp.matmul), a, a))


def memory_rate() -> float:
    """Returns the bytes read and written per second, in an array beyond any cache.

    In place, as Adam works: a new array takes a CPU five times as long, since the
    system clears its pages first.
    """
    x = [jnp.ones(2**26, jnp.float32)]
    add = jax.jit(lambda x: x + 1, donate_argnums=0)

    def call() -> jax.Array:
        x[0] = add(x[0])
        return x[0]

    return 2 * x[0].nbytes / seconds(call)


def seconds(call: Callable) -> float:
    """Returns the median time of a call, after a first one that compiles."""
    times = []
    for _ in range(1 + _REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))
