"""From an image to the latents that G makes it of.

Q reads the codes; the noise, which nothing reads, descends the squared difference of
image and picture. It starts at a linear reading of D's features, learned
from pictures whose noise is known, so that a few hundred steps are enough.

Reference: Zhu et al. 2016, arXiv:1609.03552, sections 3.1 and 3.2 (a network predicts
the latents, an optimiser mends them).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from infogan_jax.core.latents import Array, join_latents, split_latents, split_params
from infogan_jax.core.model import Images, InfoGAN, as_float
from infogan_jax.core.state import TrainState

_PICTURES = 2048  # of known noise
_PICTURES_AT_ONCE = 256
_RIDGE = 1e-2  # of the features' mean square, which is added to the diagonal
_RATE = 0.05  # of Adam, at first
_PRIOR = 1e-4  # weight of the noise's mean square, beside the mean squared error


class NoiseReading(NamedTuple):
    """A linear reading of latents in D's features."""

    mean: Array  # of the features, [F]
    matrix: Array  # [F, L]
    offset: Array  # mean of the latents, [L]

    def read(self, features: Array) -> Array:
        """Latents, `[B, L]`, of features `[B, F]`."""
        return (features - self.mean) @ self.matrix + self.offset


@functools.partial(jax.jit, static_argnums=0)
def learn_reading(model: InfoGAN, state: TrainState, key: Array) -> NoiseReading:
    """Returns what reads latents, by ridge regression on 2,048 generated pictures.

    Args:
        model: codes and networks.
        state: a trained state.
        key: a PRNG key, of the pictures.
    """
    latents = model.sample_latents(key, _PICTURES, 0, state.frequencies)

    def features(some: Array) -> Array:
        return model.extract_features(state, model.generate(state, some))

    parts = latents.reshape(-1, _PICTURES_AT_ONCE, latents.shape[-1])
    seen = jax.lax.map(features, parts).reshape(_PICTURES, -1).astype(jnp.float32)
    mean, offset = seen.mean(0), latents.mean(0)
    x, y = seen - mean, latents - offset
    # The smaller of the two equivalent systems: as many unknowns as pictures
    gram = x @ x.T
    gram += _RIDGE * jnp.trace(gram) / len(x) * jnp.eye(len(x))
    return NoiseReading(mean, x.T @ jnp.linalg.solve(gram, y), offset)


@functools.partial(jax.jit, static_argnums=(0, 4))
def invert(
    model: InfoGAN,
    state: TrainState,
    images: Images,
    reading: NoiseReading,
    steps: int = 200,
) -> Array:
    """Returns the latents of images, `[B, L]`.

    Categories and coins are Q's and stay; continuous codes begin at Q's and move with
    the noise.

    Args:
        model: codes and networks.
        state: a trained state.
        images: `[B, H, W, C]`, uint8, or floating point in [0, 1].
        reading: of `learn_reading`.
        steps: of Adam, whose rate falls to 0 as a cosine.
    """
    images = as_float(images)
    features = model.extract_features(state, images)
    codes = split_params(model.spec, model.embed(state, features)[0])
    start = split_latents(model.spec, reading.read(features))
    continuous = {code.name for code in model.continuous}
    for code in model.spec:
        if code.n_params:
            start[code.name] = code.infer(codes[code.name])
    moving = {c.name for c in model.spec if not c.n_params} | continuous
    fixed = {name: value for name, value in start.items() if name not in moving}
    optimizer = optax.adam(optax.cosine_decay_schedule(_RATE, steps))

    def loss(free: dict[str, Array]) -> Array:
        made = model.generate(state, join_latents(model.spec, fixed | free))
        error = ((made - images) ** 2).mean((1, 2, 3))
        size = sum(((value**2).mean(-1) for value in free.values()), jnp.zeros(()))
        return (error + _PRIOR * size).sum()  # images do not share their gradients

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        free, opt_state = carry
        updates, opt_state = optimizer.update(jax.grad(loss)(free), opt_state)
        return (optax.apply_updates(free, updates), opt_state), None

    free = {name: value for name, value in start.items() if name in moving}
    (free, _), _ = jax.lax.scan(step, (free, optimizer.init(free)), None, steps)
    return join_latents(model.spec, fixed | free)
