"""Label-preserving warps of a batch of images, cheap enough for every step."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from infogan_jax.latents import Array


@dataclasses.dataclass(frozen=True)
class Warp:
    """How far random changes of each kind go: evenly up to +- the value, but for the
    bend, which is normal with the value as its standard deviation, and the darkening,
    which is from 0 to the value.

    What a warp may change is what a category must *not* mean, so a warp states prior
    knowledge about the images: a digit slanted by 20 degrees is the same digit.
    """

    rotation: float  # degrees
    scale: float  # log of the factor, for each axis by itself
    shear: float  # pixels along x per pixel along y
    shift: float  # share of the image's side
    bend: float = 0.0  # share of the image's side, at 4 x 4 nodes, smooth between them
    darken: float = 0.0  # -log of the factor of all pixels


# More than this, and a sheared 7 becomes a 2.
_AFFINE = Warp(rotation=20, scale=0.2, shear=0.3, shift=0.09)

WARPS: dict[str, Warp | None] = {
    "affine": _AFFINE,
    "clothes": dataclasses.replace(_AFFINE, darken=0.9),
    "digits": dataclasses.replace(_AFFINE, bend=0.025),
    "none": None,
}
_NODES = 4  # of a bend, along each axis


class Maps(NamedTuple):
    """For each image, where each pixel comes from; see `resample`."""

    matrix: Array  # [B, 2, 2], acting on (row, column)
    shift: Array  # [B, 2], share of the image's side
    nodes: Array  # [B, N, N, 2], the bend on an even grid, share of the image's side
    gain: Array  # [B], factor of all pixels


def random_warp(key: Array, images: Array, limits: Warp, index: Array) -> Array:
    """Each image under a warp of its own.

    Args:
        key: a PRNG key.
        images: `[B, H, W, C]`, floating point.
        limits: how far the warps go.
        index: each image's place in the whole batch, `[B]`.

    Returns:
        `[B, H, W, C]`.
    """
    return resample(images, random_maps(key, limits, index))


def random_maps(key: Array, limits: Warp, index: Array) -> Maps:
    """A map for each image of a batch.

    Args:
        key: a PRNG key; image i draws its map from `fold_in(key, index[i])`.
        limits: how far the maps go.
        index: each image's place in the whole batch, `[B]`.
    """
    return jax.vmap(lambda i: _draw(jax.random.fold_in(key, i), limits))(index)


def changes(maps: Maps) -> Array:
    """What the maps do to slant (the tangent) and to width (its log), `[B, 2]`.

    Up to the sign: a code may run either way.
    """
    _, (lean, across) = jnp.moveaxis(maps.matrix, 0, -1)
    return jnp.stack([lean / across, jnp.log(across)], -1)


def resample(images: Array, maps: Maps) -> Array:
    """The pixel at p is gain times that at matrix @ p + shift + bend(p).

    p counts from the centre. By bilinear interpolation; what comes in from outside the
    frame is 0. The bend is cubic between its nodes.

    Args:
        images: `[B, H, W, C]`, floating point.
        maps: of each image.
    """
    _, height, width, _ = images.shape
    matrix, shift, nodes = maps.matrix, maps.shift * height, maps.nodes * height
    centre = jnp.array([height - 1, width - 1]) / 2
    grid = jnp.stack(
        jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), -1
    )
    source = jnp.einsum("bij,hwj->bihw", matrix, grid - centre)
    source += (shift + centre)[:, :, None, None]
    bend = jax.image.resize(nodes, (len(nodes), height, width, 2), "cubic")
    source += jnp.moveaxis(bend, -1, 1)

    def one_channel(image, place):
        return map_coordinates(image, [place[0], place[1]], 1, mode="constant")

    over_channels = jax.vmap(one_channel, in_axes=(-1, None), out_axes=-1)
    moved = jax.vmap(over_channels)(images, source)
    return moved * maps.gain[:, None, None, None]


def _draw(key: Array, limits: Warp) -> Maps:
    turn, stretch, lean, move, bend, light = jax.random.split(key, 6)
    angle = _symmetric(turn, (), math.radians(limits.rotation))
    scale = jnp.exp(_symmetric(stretch, (2,), limits.scale))
    shear = _symmetric(lean, (), limits.shear)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    rotation = jnp.array([[cos, -sin], [sin, cos]])
    shearing = jnp.array([[1.0, 0.0], [shear, 1.0]])
    shift = _symmetric(move, (2,), limits.shift)
    nodes = limits.bend * jax.random.normal(bend, (_NODES, _NODES, 2))
    gain = jnp.exp(-limits.darken * jax.random.uniform(light))
    return Maps(rotation @ shearing * scale, shift, nodes, gain)


def _symmetric(key: Array, shape: tuple[int, ...], limit: float) -> Array:
    return jax.random.uniform(key, shape, minval=-limit, maxval=limit)
