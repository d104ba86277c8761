"""The classification network, by which generated images are measured."""

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from infogan_jax.core.latents import Array
from infogan_jax.core.models.layers import Dense, Downsample


class Classifier(nn.Module):
    """Images `[B, H, W, C]` in [0, 1] -> logits `[B, K]` and features `[B, features]`.

    Height and width are multiples of 4. The features, behind the last nonlinearity and
    before dropout, are what distances between sets of images are measured in.
    """

    n_classes: int
    channels: tuple[int, ...] = (64, 128)
    features: int = 256
    dropout: float = 0.4
    dtype: Any = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: Array, train: bool) -> tuple[Array, Array]:
        norm = functools.partial(
            nn.BatchNorm,
            use_running_average=not train,
            momentum=0.9,
            dtype=self.dtype,
            axis_name=self.axis_name,
        )
        x = images
        for width in self.channels:
            x = nn.relu(norm()(Downsample(width, False, self.dtype)(x)))
        dense = functools.partial(
            Dense, dtype=self.dtype, kernel_init=nn.initializers.lecun_normal()
        )
        x = nn.relu(norm()(dense(self.channels[-1], use_bias=False)(_around(x))))
        x = x.reshape(x.shape[0], -1)
        features = nn.relu(norm()(dense(self.features, use_bias=False)(x)))
        x = nn.Dropout(self.dropout, deterministic=not train)(features)
        return dense(self.n_classes)(x).astype(jnp.float32), features


def _around(x: Array) -> Array:
    """Each pixel with its eight neighbours, `[B, H, W, 9 C]`.

    A dense layer on it is a 3 x 3 convolution, as a matrix product in both directions;
    see `layers.py` for why.
    """
    _, height, width, _ = x.shape
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [x[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifted, -1)
