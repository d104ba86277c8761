"""DCGAN with residual layers, and objects with a matte; 16 to 128 pixels, any channels.

| discriminator D                             | generator G                        |
|---------------------------------------------|------------------------------------|
| image [S, S, C]                             | latents                            |
| 4 x 4 conv, stride 2, W, leaky              | dense b b 2^(n-1) W, b. n., relu   |
| residual layer                              | n - 1 times: 4 x 4 upconv, half as |
| n - 1 times: 4 x 4 conv, stride 2, twice as | wide, blur, norm, relu;            |
| wide, batch norm, leaky; residual layer but | residual layer                     |
| for the last: features b b F                | 4 x 4 upconv, W, blur, norm, relu  |
| dense 1                                     | 3 x 3 conv, C + 1: colours, matte  |

A residual layer adds relu(norm(conv 3 x 3)) of its input to its input. A norm of G is
batch normalisation whose scale and shift are linear in the latents, so that codes and
noise act at every resolution (Brock et al. 2019, BigGAN, arXiv:1809.11096, section 3).

The image is sigmoid(colours) * sigmoid(4 matte). One outline for all channels draws the
edge of an object on a dark background; without it, channels that end one by one leave
coloured rims. Where images fill the frame the matte stays at 1.

The side is S = b 2^n, b from 4 to 7; no layer is wider than 8 W.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from infogan_jax.core.latents import Array
from infogan_jax.core.models.layers import (
    Convolve,
    Dense,
    Downsample,
    Upsample,
    batch_norm,
    leaky,
    smooth,
)

_MATTE_SLOPE = 4  # outlines are sharper than shades


class ModulatedNorm(nn.Module):
    """Batch normalisation, scaled and shifted by the latents: `[B, H, W, C]`."""

    dtype: Any = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, latents: Array, train: bool) -> Array:
        x = batch_norm(train, self.dtype, self.axis_name)(x)
        modulation = Dense(2 * x.shape[-1], dtype=self.dtype)(latents)
        scale, shift = jnp.split(modulation[:, None, None], 2, -1)
        return x * (1 + scale) + shift


class Generator(nn.Module):
    """Latents `[B, D]` -> images in [0, 1], `[B, S, S, C]`."""

    image_shape: tuple[int, int, int]
    widths: tuple[int, ...]  # of the stages, from full resolution inwards
    dtype: Any = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, latents: Array, train: bool) -> Array:
        def norm(x: Array) -> Array:
            return ModulatedNorm(self.dtype, self.axis_name)(x, latents, train)

        side, _, channels = self.image_shape
        base, widths = side >> len(self.widths), self.widths
        x = Dense(base * base * widths[-1], False, self.dtype)(latents)
        x = x.reshape(-1, base, base, widths[-1])
        x = nn.relu(batch_norm(train, self.dtype, self.axis_name)(x))
        for width in reversed(widths[:-1]):
            x = nn.relu(norm(smooth(Upsample(width, False, self.dtype)(x))))
            x += nn.relu(norm(Convolve(width, False, self.dtype)(x)))
        x = nn.relu(norm(smooth(Upsample(widths[0], False, self.dtype)(x))))
        x = Convolve(channels + 1, dtype=self.dtype)(x).astype(jnp.float32)
        colours, matte = x[..., :channels], x[..., channels:]
        return nn.sigmoid(colours) * nn.sigmoid(_MATTE_SLOPE * matte)


class Discriminator(nn.Module):
    """Images `[B, S, S, C]` in [0, 1] -> logits `[B]` and Q's features `[B, F]`."""

    widths: tuple[int, ...]  # of the stages, from full resolution inwards
    dtype: Any = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: Array, train: bool) -> tuple[Array, Array]:
        def norm(x: Array) -> Array:
            return batch_norm(train, self.dtype, self.axis_name)(x)

        def residual(x: Array) -> Array:
            return x + leaky(norm(Convolve(x.shape[-1], False, self.dtype)(x)))

        outer, *inner = self.widths
        x = residual(leaky(Downsample(outer, dtype=self.dtype)(images)))
        for width in inner[:-1]:
            x = residual(leaky(norm(Downsample(width, False, self.dtype)(x))))
        x = leaky(norm(Downsample(inner[-1], False, self.dtype)(x)))
        features = x.reshape(x.shape[0], -1)
        logits = Dense(1, dtype=self.dtype)(features)
        return logits[:, 0].astype(jnp.float32), features
