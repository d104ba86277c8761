"""Label-preserving warps of a batch of images, cheap enough for every step."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from infogan_jax.latents import Array


@dataclasses.dataclass(frozen=True)
class Affine:
    """The largest random change of each kind; each is drawn evenly from +- its value.

    What a warp may change is what a category must *not* mean, so a warp states prior
    knowledge about the images: a digit slanted by 20 degrees is the same digit.
    """

    rotation: float  # degrees
    scale: float  # log of the factor, for each axis by itself
    shear: float  # pixels along x per pixel along y
    shift: float  # share of the image's side


WARPS: dict[str, Affine | None] = {
    # More than this, and a sheared 7 becomes a 2.
    "digits": Affine(rotation=20, scale=0.2, shear=0.3, shift=0.09),
    "none": None,
}


def random_affine(key: Array, images: Array, limits: Affine, index: Array) -> Array:
    """Each image under an affine map of its own, by bilinear interpolation.

    What comes in from outside the frame is 0.

    Args:
        key: a PRNG key; image i draws its map from `fold_in(key, index[i])`.
        images: `[B, H, W, C]`, floating point.
        limits: how far the maps go.
        index: each image's place in the whole batch, `[B]`.

    Returns:
        `[B, H, W, C]`.
    """
    matrix, shift = jax.vmap(lambda i: _draw(jax.random.fold_in(key, i), limits))(index)
    return affine(images, matrix, shift * images.shape[1])


def affine(images: Array, matrix: Array, shift: Array) -> Array:
    """Resamples: the pixel at p comes from matrix @ p + shift, p from the centre.

    Args:
        images: `[B, H, W, C]`.
        matrix: `[B, 2, 2]` acting on (row, column).
        shift: `[B, 2]` in pixels.
    """
    _, height, width, _ = images.shape
    centre = jnp.array([height - 1, width - 1]) / 2
    grid = jnp.stack(
        jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), -1
    )
    source = jnp.einsum("bij,hwj->bihw", matrix, grid - centre)
    source += (shift + centre)[:, :, None, None]

    def resample(image, place):
        return map_coordinates(image, [place[0], place[1]], 1, mode="constant")

    over_channels = jax.vmap(resample, in_axes=(-1, None), out_axes=-1)
    return jax.vmap(over_channels)(images, source)


def _draw(key: Array, limits: Affine) -> tuple[Array, Array]:
    """The map from an output pixel to its source: matrix `[2, 2]`, shift `[2]`."""
    turn, stretch, lean, move = jax.random.split(key, 4)
    angle = _symmetric(turn, (), math.radians(limits.rotation))
    scale = jnp.exp(_symmetric(stretch, (2,), limits.scale))
    shear = _symmetric(lean, (), limits.shear)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    rotation = jnp.array([[cos, -sin], [sin, cos]])
    shearing = jnp.array([[1.0, 0.0], [shear, 1.0]])
    return rotation @ shearing * scale, _symmetric(move, (2,), limits.shift)


def _symmetric(key: Array, shape: tuple[int, ...], limit: float) -> Array:
    return jax.random.uniform(key, shape, minval=-limit, maxval=limit)
