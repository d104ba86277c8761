"""Shapes drawn from their factors: a set of images whose truth is known in full.

Like dSprites (Matthey et al. 2017): three shapes, six sizes, 40 orientations and 32 x
32 places on 64 x 64 pixels, 0 or 1, without anti-aliasing. The outlines are our own, so
figures on one of the two sets are not those on the other. With three hues there is one
factor more.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

SIDE = 64  # pixels
SHAPES = ["square", "ellipse", "heart"]
FACTORS = {"shape": 3, "size": 6, "orientation": 40, "column": 32, "row": 32}
HUES = ((1.0, 0.2, 0.2), (0.2, 1.0, 0.2), (0.3, 0.3, 1.0))  # red, green, blue

_RADIUS = 13.0  # pixels of the circle around the largest sprite
_SMALLEST = 0.5  # of the largest
_FIRST, _LAST = 16.0, 48.0  # pixels at which a centre may be
_BATCH = 1000


def draw_sprite(factors: jax.Array) -> jax.Array:
    """Returns a sprite, 0 or 1, `[64, 64]`.

    Args:
        factors: shape, size, orientation, column and row, whole numbers from 0 below
            those of `FACTORS`, `[5]`.
    """
    shape, size, turn, column, row = factors
    scale = _SMALLEST + (1 - _SMALLEST) * size / (FACTORS["size"] - 1)
    angle = 2 * jnp.pi * turn / FACTORS["orientation"]
    pixel = jnp.arange(SIDE) + 0.5

    def place(number: jax.Array, count: int) -> jax.Array:
        return _FIRST + (_LAST - _FIRST) * number / (count - 1)

    x = (pixel[None] - place(column, FACTORS["column"])) / (_RADIUS * scale)
    y = (place(row, FACTORS["row"]) - pixel[:, None]) / (_RADIUS * scale)  # upwards
    u = jnp.cos(angle) * x + jnp.sin(angle) * y
    v = jnp.cos(angle) * y - jnp.sin(angle) * x
    square = jnp.maximum(jnp.abs(u), jnp.abs(v)) <= jnp.sqrt(0.5)
    ellipse = u**2 + (2 * v) ** 2 <= 1
    a, b = 1.25 * u, 1.25 * v + 0.2
    heart = (a**2 + b**2 - 1) ** 3 <= a**2 * b**3
    return jnp.stack([square, ellipse, heart])[shape].astype(jnp.float32)


@functools.partial(jax.jit, static_argnums=1)
def _draw_batch(factors: jax.Array, in_hues: bool) -> jax.Array:
    images = jax.vmap(draw_sprite)(factors[:, -len(FACTORS) :])[..., None]
    if in_hues:
        images = images * jnp.asarray(HUES)[factors[:, 0]][:, None, None]
    return jnp.round(255 * images).astype(jnp.uint8)


def draw_sprites(factors: np.ndarray) -> np.ndarray:
    """Returns sprites, uint8 `[N, 64, 64, 1]`, or `[N, 64, 64, 3]` with hues.

    Args:
        factors: those of `FACTORS`, `[N, 5]`, or `[N, 6]` with the hue, from 0 below 3,
            in front.
    """
    in_hues = factors.shape[1] > len(FACTORS)
    missing = -len(factors) % _BATCH  # for one compiled program
    padded = np.pad(factors, ((0, missing), (0, 0)))
    images = [
        np.asarray(_draw_batch(padded[start : start + _BATCH], in_hues))
        for start in range(0, len(padded), _BATCH)
    ]
    return np.concatenate(images)[: len(factors)]


def draw_factors(count: int, sizes: Sequence[int], seed: int) -> np.ndarray:
    """Returns whole numbers from 0 below each of F sizes, int32 `[count, F]`."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, sizes, (count, len(sizes)), dtype=np.int32)
