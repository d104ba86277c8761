"""From an image to the latents that G makes it of.

Q reads the codes; the noise, which nothing reads, descends the squared difference of
image and picture. It starts at a linear reading of D's features, learned
from pictures whose noise is known, so that a few hundred steps are enough.

Few images are pictures of G exactly. What latents cannot explain, a scale and shift of
each channel behind G's normalisations can, image by image; codes change that image's
picture as any other.

References:
    Zhu et al. 2016, arXiv:1609.03552, sections 3.1 and 3.2 (a network predicts the
    latents, an optimiser mends them).
    Abdal et al. 2019, arXiv:1904.03189, section 3 (each layer is modulated by itself).
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from infogan_jax.core.latents import (
    Array,
    Bernoulli,
    Categorical,
    join_latents,
    split_latents,
    split_params,
)
from infogan_jax.core.model import Images, InfoGAN, as_float
from infogan_jax.core.state import TrainState

_PICTURES = 2048  # of known noise
_PICTURES_AT_ONCE = 256
_RIDGE = 1e-2  # of the features' mean square, which is added to the diagonal
_RATE = 0.05  # of Adam, at first
_PRIOR = 1e-4  # weight of the mean square of what descends, beside the squared error
_LEAST = 1e-9  # of the unit, for an image that is the mean


class Inverted(NamedTuple):
    """What G makes images of."""

    latents: Array  # [B, L]
    # Of each normalisation of G in their order, [B, 2, W] for W channels: by how much
    # its output is scaled and shifted. Empty: by nothing.
    modulation: tuple[Array, ...] = ()


class NoiseReading(NamedTuple):
    """A linear reading of latents in D's features."""

    mean: Array  # of the features, [F]
    matrix: Array  # [F, L]
    offset: Array  # mean of the latents, [L]
    picture: Array  # the mean of the pictures, [H, W, C]

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

    def look(some: Array) -> tuple[Array, Array]:
        pictures = model.generate(state, some)
        return model.extract_features(state, pictures), pictures.mean(0)

    parts = latents.reshape(-1, _PICTURES_AT_ONCE, latents.shape[-1])
    seen, pictures = jax.lax.map(look, parts)
    seen = seen.reshape(_PICTURES, -1).astype(jnp.float32)
    mean, offset = seen.mean(0), latents.mean(0)
    x, y = seen - mean, latents - offset
    # The smaller of the two equivalent systems: as many unknowns as pictures
    gram = x @ x.T
    gram += _RIDGE * jnp.trace(gram) / len(x) * jnp.eye(len(x))
    matrix = x.T @ jnp.linalg.solve(gram, y)
    return NoiseReading(mean, matrix, offset, pictures.mean(0))


def first_latents(
    model: InfoGAN, state: TrainState, images: Images, reading: NoiseReading
) -> Array:
    """Returns where the descent begins, `[B, L]`: Q's codes, and the noise as read.

    Args:
        model: codes and networks.
        state: a trained state.
        images: `[B, H, W, C]`, uint8, or floating point in [0, 1].
        reading: of `learn_reading`.
    """
    features = model.extract_features(state, as_float(images))
    params = split_params(model.spec, model.embed(state, features)[0])
    latents = split_latents(model.spec, reading.read(features))
    for code in model.spec:
        if code.n_params:
            latents[code.name] = code.infer(params[code.name])
    return join_latents(model.spec, latents)


def render(model: InfoGAN, state: TrainState, inverted: Inverted) -> Array:
    """Returns the pictures, `[B, H, W, C]` in [0, 1]."""
    rest = iter(inverted.modulation)

    def modulate(layer: Any, args: tuple, kwargs: dict, context: Any) -> Any:
        x = layer(*args, **kwargs)
        if not (inverted.modulation and _normalises(context)):
            return x
        scale, shift = jnp.moveaxis(next(rest), 1, 0)
        shape = len(x), *(1,) * (x.ndim - 2), -1
        return (x * (1 + scale.reshape(shape)) + shift.reshape(shape)).astype(x.dtype)

    with nn.intercept_methods(modulate):
        return model.generate(state, inverted.latents)


def _normalises(context: Any) -> bool:
    is_norm = isinstance(context.module, nn.BatchNorm)
    return is_norm and context.method_name == "__call__"


def _no_modulation(
    model: InfoGAN, state: TrainState, latents: Array
) -> tuple[Array, ...]:
    """Zeros for each normalisation of G."""
    widths: list[int] = []

    def look(layer: Any, args: tuple, kwargs: dict, context: Any) -> Any:
        x = layer(*args, **kwargs)
        if _normalises(context):
            widths.append(x.shape[-1])
        return x

    with nn.intercept_methods(look):
        # A function of its own: one that was traced before would not be looked at
        jax.eval_shape(lambda *inputs: model.generate(*inputs), state, latents)
    return tuple(jnp.zeros((len(latents), 2, width)) for width in widths)


def descent(
    model: InfoGAN, state: TrainState, inverted: Inverted, images: Array, mean: Array
) -> tuple[Inverted, Array]:
    """Returns the gradient that is to be descended, and how much is left to explain.

    Categories and coins stay as they are: their gradient is 0.

    Args:
        model: codes and networks.
        state: a trained state.
        inverted: where it is taken.
        images: in [0, 1], `[B, H, W, C]`.
        mean: an image, `[H, W, C]`, whose squared error is the unit of what is left.

    Returns:
        The gradient, and what is left, `[B]`.
    """
    moves = jnp.concatenate(
        [
            jnp.full(code.dim, float(not isinstance(code, Categorical | Bernoulli)))
            for code in model.spec
        ]
    )

    def loss(inverted: Inverted) -> tuple[Array, Array]:
        made = render(model, state, inverted)
        error = ((made - images) ** 2).mean((1, 2, 3))
        size = (moves * inverted.latents**2).mean(-1)
        size += sum((x**2).mean((1, 2)) for x in inverted.modulation)
        return (error + _PRIOR * size).sum(), error  # images share no gradients

    gradient, error = jax.grad(loss, has_aux=True)(inverted)
    whole = ((images - mean) ** 2).mean((1, 2, 3))
    left = error / jnp.maximum(whole, _LEAST)
    return gradient._replace(latents=moves * gradient.latents), left


@functools.partial(jax.jit, static_argnums=(0, 4))
def invert(
    model: InfoGAN,
    state: TrainState,
    images: Images,
    reading: NoiseReading,
    steps: int = 200,
) -> Inverted:
    """Returns what G makes images of.

    Categories and coins are Q's and stay; continuous codes begin at Q's and move with
    the noise and the modulation.

    Args:
        model: codes and networks.
        state: a trained state.
        images: `[B, H, W, C]`, uint8, or floating point in [0, 1].
        reading: of `learn_reading`.
        steps: of Adam, whose rate falls to 0 as a cosine.
    """
    images = as_float(images)
    optimizer = optax.adam(optax.cosine_decay_schedule(_RATE, steps))

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        inverted, opt_state = carry
        gradient = descent(model, state, inverted, images, reading.picture)[0]
        updates, opt_state = optimizer.update(gradient, opt_state)
        return (optax.apply_updates(inverted, updates), opt_state), None

    latents = first_latents(model, state, images, reading)
    inverted = Inverted(latents, _no_modulation(model, state, latents))
    carry = inverted, optimizer.init(inverted)
    (inverted, _), _ = jax.lax.scan(step, carry, None, steps)
    return inverted
