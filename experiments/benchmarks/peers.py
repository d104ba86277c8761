"""The same network and the same two updates, as others write them."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from infogan_jax import Config
from infogan_jax.core.latents import latent_dim
from infogan_jax.core.spec import parse_spec

LATENTS = latent_dim(parse_spec(Config().codes))


def all_of_them(
    batch_size: int, compiled: bool, bfloat16: bool = False, recommended: bool = False
) -> dict[str, Callable]:
    """Name -> `take(batches)`, of those that are installed; see below."""
    sides = pytorch(batch_size, compiled, bfloat16, recommended)
    return sides | {"Flax as usual": flax_as_usual(batch_size)}


def pytorch(
    batch_size: int, compiled: bool, bfloat16: bool, recommended: bool
) -> dict[str, Callable]:
    """Name -> `take(batches)`, of those that are asked for; none without PyTorch."""
    try:
        from experiments.benchmarks.torch_peer import take_steps
    except ImportError:
        return {}
    sides: dict[str, dict[str, bool]] = {"eager": {}}
    if bfloat16:
        sides["eager, bfloat16"] = {"bfloat16": True}
    if recommended:
        sides["eager, recommended"] = {"recommended": True}
    if compiled:
        sides["torch.compile"] = {"compiled": True}
    if compiled and recommended:
        sides["torch.compile, recommended"] = {"compiled": True, "recommended": True}
    return {
        f"PyTorch, {name}": take_steps(batch_size, LATENTS, **options)
        for name, options in sides.items()
    }


def flax_as_usual(batch_size: int) -> Callable:
    """`take(batches)`: `nn.ConvTranspose`, two jitted updates, a loop, host batches."""

    def norm(train):
        return nn.BatchNorm(use_running_average=not train)

    class Generator(nn.Module):
        @nn.compact
        def __call__(self, z, train=True):
            x = nn.relu(norm(train)(nn.Dense(1024, use_bias=False)(z)))
            x = nn.relu(norm(train)(nn.Dense(6272, use_bias=False)(x)))
            x = x.reshape(len(x), 7, 7, 128)
            x = nn.ConvTranspose(64, (4, 4), (2, 2), use_bias=False)(x)
            x = nn.relu(norm(train)(x))
            return nn.sigmoid(nn.ConvTranspose(1, (4, 4), (2, 2))(x))

    class Judges(nn.Module):
        @nn.compact
        def __call__(self, x, train=True):
            x = nn.leaky_relu(nn.Conv(64, (4, 4), (2, 2))(x), 0.1)
            x = nn.Conv(128, (4, 4), (2, 2), use_bias=False)(x)
            x = nn.leaky_relu(norm(train)(x), 0.1).reshape(len(x), -1)
            x = nn.leaky_relu(norm(train)(nn.Dense(1024, use_bias=False)(x)), 0.1)
            q = nn.leaky_relu(norm(train)(nn.Dense(128, use_bias=False)(x)), 0.1)
            return nn.Dense(1)(x), nn.Dense(12)(q)

    generator, judges = Generator(), Judges()
    adam_g, adam_d = optax.adam(1e-3, b1=0.5), optax.adam(2e-4, b1=0.5)
    g = generator.init(jax.random.key(0), jnp.zeros((2, LATENTS)))
    d = judges.init(jax.random.key(1), jnp.zeros((2, 28, 28, 1)))
    state = [g, adam_g.init(g["params"]), d, adam_d.init(d["params"])]

    def information(q, z):
        category = jnp.sum(jax.nn.log_softmax(q[:, :10]) * z[:, :10], 1)
        return jnp.mean(category - jnp.sum((q[:, 10:] - z[:, 10:12]) ** 2, 1))

    def apply(module, params, stats, x):
        variables = {"params": params, "batch_stats": stats}
        out, new = module.apply(variables, x, mutable=["batch_stats"])
        return out, new["batch_stats"]

    @jax.jit
    def update_d(d, opt, g, real, z):
        fake, _ = apply(generator, g["params"], g["batch_stats"], z)

        def loss(params):
            (on_real, _), stats = apply(judges, params, d["batch_stats"], real)
            (on_fake, q), stats = apply(judges, params, stats, fake)
            value = jnp.mean(nn.softplus(-on_real)) + jnp.mean(nn.softplus(on_fake))
            return value - information(q, z), stats

        grads, stats = jax.grad(loss, has_aux=True)(d["params"])
        updates, opt = adam_d.update(grads, opt)
        params = optax.apply_updates(d["params"], updates)
        return {"params": params, "batch_stats": stats}, opt

    @jax.jit
    def update_g(g, opt, d, z):
        def loss(params):
            fake, stats = apply(generator, params, g["batch_stats"], z)
            (on_fake, q), _ = apply(judges, d["params"], d["batch_stats"], fake)
            return jnp.mean(nn.softplus(-on_fake)) - information(q, z), stats

        grads, stats = jax.grad(loss, has_aux=True)(g["params"])
        updates, opt = adam_g.update(grads, opt)
        params = optax.apply_updates(g["params"], updates)
        return {"params": params, "batch_stats": stats}, opt

    rng = np.random.default_rng(0)

    def take(batches):
        g, opt_g, d, opt_d = state
        for images in batches:
            real = images.astype(np.float32) / 255
            category = np.eye(10, dtype=np.float32)[rng.integers(0, 10, batch_size)]
            rest = rng.uniform(-1, 1, (batch_size, LATENTS - 10)).astype(np.float32)
            z = np.concatenate([category, rest], 1)
            d, opt_d = update_d(d, opt_d, g, real, z)
            g, opt_g = update_g(g, opt_g, d, z)
        state[:] = jax.block_until_ready([g, opt_g, d, opt_d])

    return take
