"""The paper's networks for MNIST (arXiv:1606.03657, appendix C.1), any width.

| discriminator D / recogniser Q            | generator G                     |
|-------------------------------------------|---------------------------------|
| image [S, S, C]                           | latents                         |
| 4 x 4 conv, stride 2, 64, leaky           | dense 1024, batch norm, relu    |
| 4 x 4 conv, stride 2, 128, batch n., leaky| dense S/4 S/4 128, b. n., relu  |
| dense 1024, batch norm, leaky             | 4 x 4 upconv, 64, b. n., relu   |
| D: dense 1                                | 4 x 4 upconv, C, sigmoid        |
| Q: dense 128, batch norm, leaky, dense    |                                 |

`mnist_residual` has D and Q of half the width, and the generator of `residual.py` on
two stages, which draws smoother strokes of more shapes.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp

from infogan_jax.core.latents import Array
from infogan_jax.core.models.layers import Dense, Downsample, Upsample, batch_norm

_leaky = functools.partial(nn.leaky_relu, negative_slope=0.1)


class Generator(nn.Module):
    """Latents `[B, D]` -> images in [0, 1], `[B, S, S, C]`."""

    image_shape: tuple[int, int, int]
    channels: tuple[int, int] = (64, 128)
    hidden: int = 1024
    dtype: jnp.dtype | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, latents: Array, train: bool) -> Array:
        size = self.image_shape[0] // 4
        outer, inner = self.channels
        norm = functools.partial(batch_norm, train, self.dtype, self.axis_name)
        x = nn.relu(norm()(Dense(self.hidden, False, self.dtype)(latents)))
        x = nn.relu(norm()(Dense(size * size * inner, False, self.dtype)(x)))
        x = x.reshape(-1, size, size, inner)
        x = nn.relu(norm()(Upsample(outer, False, self.dtype)(x)))
        x = Upsample(self.image_shape[2], dtype=self.dtype)(x)
        return nn.sigmoid(x.astype(jnp.float32))


class Discriminator(nn.Module):
    """Images `[B, S, S, C]` in [0, 1] -> logits `[B]` and Q's features `[B, F]`."""

    channels: tuple[int, int] = (64, 128)
    hidden: int = 1024
    dtype: jnp.dtype | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: Array, train: bool) -> tuple[Array, Array]:
        outer, inner = self.channels
        norm = functools.partial(batch_norm, train, self.dtype, self.axis_name)
        x = _leaky(Downsample(outer, True, self.dtype)(images))
        x = _leaky(norm()(Downsample(inner, False, self.dtype)(x)))
        x = x.reshape(x.shape[0], -1)
        features = _leaky(norm()(Dense(self.hidden, False, self.dtype)(x)))
        logits = Dense(1, dtype=self.dtype)(features)
        return logits[:, 0].astype(jnp.float32), features
