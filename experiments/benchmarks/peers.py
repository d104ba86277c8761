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
    batch_size: int, compiled: bool, bfloat16: bool = False
) -> dict[str, Callable]:
    """Name -> `take(batches)`, of those that are installed; see below."""
    sides = {"PyTorch, eager": pytorch(batch_size)}
    if bfloat16:
        sides["PyTorch, eager, bfloat16"] = pytorch(batch_size, bfloat16=True)
    if compiled:
        sides["PyTorch, torch.compile"] = pytorch(batch_size, compiled=True)
    sides["Flax as usual"] = flax_as_usual(batch_size)
    return {name: take for name, take in sides.items() if take is not None}


def pytorch(
    batch_size: int, compiled: bool = False, bfloat16: bool = False
) -> Callable | None:
    """`take(batches)`: a step for each, `[B, 28, 28, 1]`; None without PyTorch.

    In bfloat16 is what its own `autocast` chooses.
    """
    try:
        import torch
    except ImportError:
        return None
    from torch import nn as layers
    from torch.nn import functional as f

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = True  # as XLA does by default
    cast = torch.autocast(device, torch.bfloat16, enabled=bfloat16)
    generator = layers.Sequential(
        layers.Linear(LATENTS, 1024, bias=False),
        layers.BatchNorm1d(1024),
        layers.ReLU(),
        layers.Linear(1024, 6272, bias=False),
        layers.BatchNorm1d(6272),
        layers.ReLU(),
        layers.Unflatten(1, (128, 7, 7)),
        layers.ConvTranspose2d(128, 64, 4, 2, 1, bias=False),
        layers.BatchNorm2d(64),
        layers.ReLU(),
        layers.ConvTranspose2d(64, 1, 4, 2, 1),
        layers.Sigmoid(),
    ).to(device)
    trunk = layers.Sequential(
        layers.Conv2d(1, 64, 4, 2, 1),
        layers.LeakyReLU(0.1),
        layers.Conv2d(64, 128, 4, 2, 1, bias=False),
        layers.BatchNorm2d(128),
        layers.LeakyReLU(0.1),
        layers.Flatten(),
        layers.Linear(6272, 1024, bias=False),
        layers.BatchNorm1d(1024),
        layers.LeakyReLU(0.1),
    ).to(device)
    head = layers.Linear(1024, 1).to(device)
    recognizer = layers.Sequential(
        layers.Linear(1024, 128, bias=False),
        layers.BatchNorm1d(128),
        layers.LeakyReLU(0.1),
        layers.Linear(128, 12),
    ).to(device)
    betas = (0.5, 0.999)
    judges = [*trunk.parameters(), *head.parameters(), *recognizer.parameters()]
    adam_d = torch.optim.Adam(judges, 2e-4, betas)
    adam_g = torch.optim.Adam(generator.parameters(), 1e-3, betas)

    def information(features, category, uniform):
        q = recognizer(features)
        continuous = ((q[:, 10:] - uniform) ** 2).sum(1).mean()
        return -f.cross_entropy(q[:, :10], category) - continuous

    def losses_d(real, fake, category, uniform):
        on_real, on_fake = trunk(real), trunk(fake)
        loss = f.softplus(-head(on_real)).mean() + f.softplus(head(on_fake)).mean()
        return loss - information(on_fake, category, uniform)

    def losses_g(fake, category, uniform):
        features = trunk(fake)
        loss = f.softplus(-head(features)).mean()
        return loss - information(features, category, uniform)

    draw = generator
    if compiled:
        import torch._inductor.config as inductor

        # Forward and backward passes disagreed on the layout of activations on a GPU
        inductor.layout_optimization = False
        draw, losses_d, losses_g = map(torch.compile, (generator, losses_d, losses_g))

    def step(real):
        category = torch.randint(10, (batch_size,), device=device)
        uniform = torch.rand(batch_size, 2, device=device) * 2 - 1
        noise = torch.rand(batch_size, LATENTS - 12, device=device) * 2 - 1
        codes = (f.one_hot(category, 10).float(), uniform, noise)
        with cast:
            fake = draw(torch.cat(codes, 1))
            loss = losses_d(real, fake.detach(), category, uniform)
        adam_d.zero_grad()
        loss.backward()
        adam_d.step()
        adam_g.zero_grad()
        with cast:
            loss = losses_g(fake, category, uniform)
        loss.backward(inputs=list(generator.parameters()))
        adam_g.step()

    def take(batches):
        for images in batches:
            batch = torch.from_numpy(images).to(device)
            step((batch.permute(0, 3, 1, 2).float() / 255).contiguous())
        if device == "cuda":
            torch.cuda.synchronize()

    return take


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
