"""DCGAN's networks (arXiv:1511.06434) for images of 16 to 128 pixels, any channels.

| discriminator D                             | generator G                       |
|---------------------------------------------|-----------------------------------|
| image [S, S, C]                             | latents                           |
| 4 x 4 conv, stride 2, W, leaky              | dense b b 2^(n-1) W, b. n., relu  |
| n - 1 times: 4 x 4 conv, stride 2, twice as | n - 1 times: 4 x 4 upconv, half   |
| wide, batch norm, leaky: features b b F     | as wide, batch norm, relu         |
| dense 1                                     | 4 x 4 upconv, C, sigmoid          |

Upconvolutions leave a grid in the pictures, the more of them the more; `residual` blurs
each one, and has none.

Batch normalisation in D makes an image's gradient depend on others, so `dcgan_plain`
has none there, as gradient penalties want it, and kernels begin as He et al. have them.

The side is S = b 2^n, b from 4 to 7; no layer is wider than 8 W.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp

from infogan_jax.core.latents import Array
from infogan_jax.core.models.layers import (
    Dense,
    Downsample,
    Upsample,
    batch_norm,
    leaky,
    normal_init,
)


class Generator(nn.Module):
    """Latents `[B, D]` -> images in [0, 1], `[B, S, S, C]`."""

    image_shape: tuple[int, int, int]
    widths: tuple[int, ...]  # of the stages, from full resolution inwards
    dtype: jnp.dtype | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, latents: Array, train: bool) -> Array:
        norm = functools.partial(batch_norm, train, self.dtype, self.axis_name)
        base = self.image_shape[0] >> len(self.widths)
        x = Dense(base * base * self.widths[-1], False, self.dtype)(latents)
        x = nn.relu(norm()(x.reshape(-1, base, base, self.widths[-1])))
        for width in reversed(self.widths[:-1]):
            x = nn.relu(norm()(Upsample(width, False, self.dtype)(x)))
        x = Upsample(self.image_shape[2], dtype=self.dtype)(x)
        return nn.sigmoid(x.astype(jnp.float32))


class Discriminator(nn.Module):
    """Images `[B, S, S, C]` in [0, 1] -> logits `[B]` and Q's features `[B, F]`."""

    widths: tuple[int, ...]  # of the stages, from full resolution inwards
    normalise: bool = True
    dtype: jnp.dtype | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: Array, train: bool) -> tuple[Array, Array]:
        init = normal_init if self.normalise else nn.initializers.he_normal()
        down = functools.partial(Downsample, dtype=self.dtype, kernel_init=init)
        outer, *inner = self.widths
        x = leaky(down(outer)(images))
        for width in inner:
            x = down(width, not self.normalise)(x)
            if self.normalise:
                x = batch_norm(train, self.dtype, self.axis_name)(x)
            x = leaky(x)
        features = x.reshape(x.shape[0], -1)
        logits = Dense(1, dtype=self.dtype)(features)
        return logits[:, 0].astype(jnp.float32), features
