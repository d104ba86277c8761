"""Residual networks without normalisation, for images of 16 to 256 pixels.

After R3GAN (Huang et al. 2024, arXiv:2501.05441, section 3.2): G and D mirror each
other, resampling is bilinear, and the last convolution of every block begins at zero.
Blocks are narrower than theirs, and not grouped.

| discriminator D                              | generator G                       |
|----------------------------------------------|-----------------------------------|
| image [S, S, C]; 1 x 1 conv, W               | latents; dense b b F              |
| n times: block, half the side, 1 x 1 conv,   | n times: block, twice the side,   |
| twice as wide                                | 1 x 1 conv, half as wide          |
| block; dense 256, leaky: features; dense 1   | block; 1 x 1 conv, C, sigmoid     |

The side is S = b 2^n, b from 4 to 7; no layer is wider than 8 W.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from infogan_jax.core.latents import Array
from infogan_jax.core.models.layers import Convolve, Dense, Initializer, leaky

_FEATURES = 256


def _pointwise(width: int, dtype: Any, init: Initializer | None = None) -> Dense:
    """A 1 x 1 convolution."""
    init = init or nn.initializers.he_normal()
    return Dense(width, dtype=dtype, kernel_init=init)


def _resize(x: Array, factor: float) -> Array:
    """As `jax.image.resize` does it, bilinear, in a form that exports to ONNX."""
    _, height, width, _ = x.shape
    down, across = _weights(height, factor), _weights(width, factor)
    return jnp.einsum(
        "bhwc,yh,xw->byxc", x, down.astype(x.dtype), across.astype(x.dtype)
    )


def _weights(size: int, factor: float) -> Array:
    """What each new pixel takes of each old one, `[size * factor, size]`."""
    centres = (jnp.arange(int(size * factor)) + 0.5) / factor - 0.5
    distance = jnp.abs(centres[:, None] - jnp.arange(size)) * min(factor, 1)
    weights = jax.nn.relu(1 - distance)
    return weights / weights.sum(1, keepdims=True)


class Block(nn.Module):
    """x plus what two layers make of it, which is nothing at first: `[B, H, W, C]`."""

    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        width = x.shape[-1]
        y = Convolve(width, True, self.dtype)(leaky(x))
        return x + _pointwise(width, self.dtype, nn.initializers.zeros)(leaky(y))


class Generator(nn.Module):
    """Latents `[B, D]` -> images in [0, 1], `[B, S, S, C]`."""

    image_shape: tuple[int, int, int]
    widths: tuple[int, ...]  # at each resolution, from the full one inwards
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, latents: Array, train: bool) -> Array:
        base = self.image_shape[0] >> (len(self.widths) - 1)
        x = _pointwise(base * base * self.widths[-1], self.dtype)(latents)
        x = Block(self.dtype)(x.reshape(-1, base, base, self.widths[-1]))
        for width in reversed(self.widths[:-1]):
            x = _resize(_pointwise(width, self.dtype)(x), 2)
            x = Block(self.dtype)(x)
        x = _pointwise(self.image_shape[2], self.dtype)(leaky(x))
        return nn.sigmoid(x.astype(jnp.float32))


class Discriminator(nn.Module):
    """Images `[B, S, S, C]` in [0, 1] -> logits `[B]` and Q's features `[B, F]`."""

    widths: tuple[int, ...]  # at each resolution, from the full one inwards
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, images: Array, train: bool) -> tuple[Array, Array]:
        x = _pointwise(self.widths[0], self.dtype)(images)
        for width in self.widths[1:]:
            x = Block(self.dtype)(x)
            x = _pointwise(width, self.dtype)(_resize(x, 0.5))
        x = Block(self.dtype)(x)
        x = leaky(x).reshape(x.shape[0], -1)
        features = leaky(_pointwise(_FEATURES, self.dtype)(x))
        logits = _pointwise(1, self.dtype)(features)
        return logits[:, 0].astype(jnp.float32), features
