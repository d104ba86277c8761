"""How fast a step could be at best, on this machine."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from infogan_jax.latents import latent_dim, param_dim, parse_spec
from infogan_jax.models import build_networks

_REPEATS = 5


def step_floor(train_step: Callable, state, batch, dtype: str = "float32") -> float:
    """Seconds of a step on one device that only multiplies and updates, at full speed.

    Its FLOPs over the rate of a product of matrices, and Adam's bytes over that of a
    sum in place, both measured here. 0 where the FLOPs are not known.

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


def flops(function: Callable, *inputs) -> float | None:
    """What a call takes, before anything is optimised; inputs, or their shapes.

    None where jax has no CPU device: accelerators tell of compiled programs only.
    """
    try:
        cpu = jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None
    with jax.default_device(cpu):
        return jax.jit(function).lower(*inputs).cost_analysis()["flops"]


def network_costs(config, image_shape) -> dict[str, tuple[int, float | None]]:
    """Parameters of each network, and FLOPs that it takes to see or make an image."""
    spec = parse_spec(config.codes)
    networks = build_networks(config, image_shape, param_dim(spec))
    x: dict[str, Any] = {
        "generator": jax.ShapeDtypeStruct((1, latent_dim(spec)), jnp.float32),
        "discriminator": jax.ShapeDtypeStruct((1, *image_shape), jnp.float32),
    }
    found = {}
    for name, network in networks._asdict().items():
        init = functools.partial(network.init, train=False)
        variables = jax.eval_shape(init, jax.random.key(0), x[name])
        see = functools.partial(network.apply, train=False)
        if name == "discriminator":
            x["recognizer"] = jax.eval_shape(see, variables, x[name])[1]
        parameters = sum(p.size for p in jax.tree.leaves(variables["params"]))
        found[name] = parameters, flops(see, variables, x[name])
    return found


def adam_bytes(state) -> int:
    """Read are parameters, gradients and two moments; written, all but gradients."""
    parameters = jax.tree.leaves(state.variables())
    return 7 * sum(x.size * x.dtype.itemsize for x in parameters)


def matmul_rate(dtype: str = "float32") -> float:
    """FLOP/s of a product of two square matrices on one device."""
    side = 2048 if jax.local_devices()[0].platform == "cpu" else 8192
    # Not of ones or zeros, with which accelerators are faster: they take less power
    a = jax.random.normal(jax.random.key(0), (side, side), dtype)
    return 2 * side**3 / seconds(functools.partial(jax.jit(jnp.matmul), a, a))


def memory_rate() -> float:
    """Bytes read and written per second, of an array larger than any cache.

    In place, as Adam is: a new array of a CPU takes five times as long, for the system
    clears its pages first.
    """
    x = [jnp.ones(2**26, jnp.float32)]
    add = jax.jit(lambda x: x + 1, donate_argnums=0)

    def call():
        x[0] = add(x[0])
        return x[0]

    return 2 * x[0].nbytes / seconds(call)


def seconds(call: Callable) -> float:
    """The median time of a call, after a first one that compiles."""
    times = []
    for _ in range(1 + _REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))
