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
    """How far random changes of each kind go: evenly up to +- the value, if not said.

    What a warp may change is what a category must *not* mean, so a warp states prior
    knowledge about the images: a digit slanted by 20 degrees is the same digit.
    """

    rotation: float = 0.0  # degrees
    flip: float = 0.0  # probability of a mirror image
    scale: float = 0.0  # log of the factor, for each axis by itself
    shear: float = 0.0  # pixels along x per pixel along y
    shift: float = 0.0  # share of the image's side
    bend: float = 0.0  # standard deviation, share of the side, smooth over 4 x 4 nodes
    darken: float = 0.0  # -log of the factor of all pixels, from 0 to the value
    gain: float = 0.0  # log of the factor of each channel by itself
    blur: float = 0.0  # share of a 3 x 3 binomial blur, from 0 to the value
    alone: float = 0.0  # the channel, from 1, that every other copy has alone; 0: none

    @property
    def followed(self) -> tuple[str, ...]:
        """Changes that a continuous code may follow, the first code the first one.

        Slant and width of images that stay upright; of others size, colour and focus;
        as far as the warp changes them.
        """
        if self.rotation <= 45 and self.flip == 0:
            limits = {"slant": max(self.rotation, self.shear), "width": self.scale}
        else:
            limits = {"size": self.scale, "colour": self.gain, "focus": self.blur}
        return tuple(name for name, limit in limits.items() if limit > 0)


# More than this, and a sheared 7 becomes a 2.
_AFFINE = Warp(rotation=20, scale=0.2, shear=0.3, shift=0.09)

WARPS: dict[str, Warp | None] = {
    "affine": _AFFINE,
    "cells": Warp(rotation=180, flip=0.5, scale=0.15, shift=0.06, gain=0.25, blur=0.7),
    "clothes": dataclasses.replace(_AFFINE, darken=0.9),
    "digits": dataclasses.replace(_AFFINE, bend=0.025),
    "none": None,
}
_NODES = 4  # of a bend, along each axis


# Of each part; 10 for logarithms of factors, and for shear
_MOST = {"rotation": 360, "flip": 1, "shift": 1, "bend": 1, "blur": 1, "alone": 1000}


def parse_warp(text: str) -> Warp | None:
    """The warp that a string describes: a row of WARPS, with parts changed.

    `cells`, or `cells:rotation=90:gain=0`, or `none`.

    Raises:
        ValueError: there is no such row or part, or a value cannot be.
    """
    name, *parts = (part.strip() for part in text.split(":"))
    if name not in WARPS:
        raise ValueError(f"warp: {name!r}; expected one of {sorted(WARPS)}")
    warp = WARPS[name]
    if not parts:
        return warp
    if warp is None:
        raise ValueError(f"warp: {text!r}; 'none' has no parts to change")
    known = [field.name for field in dataclasses.fields(Warp)]
    changed = {}
    for part in parts:
        key, _, value = part.partition("=")
        if key not in known:
            raise ValueError(f"warp: {part!r} in {text!r}; expected one of {known}")
        if key in changed:
            raise ValueError(f"warp: {text!r} gives {key} twice")
        try:
            changed[key] = float(value)
        except ValueError:
            changed[key] = math.nan
        most = _MOST.get(key, 10)
        whole = key != "alone" or changed[key].is_integer()
        if not (0 <= changed[key] <= most and whole):
            kind = "a channel's number" if key == "alone" else f"0 to {most}"
            raise ValueError(f"warp: {part!r} in {text!r}; expected {kind}")
    return dataclasses.replace(warp, **changed)


class Maps(NamedTuple):
    """For each image, where each pixel comes from; see `resample`."""

    matrix: Array  # [B, 2, 2], acting on (row, column)
    shift: Array  # [B, 2], share of the image's side
    nodes: Array  # [B, N, N, 2], the bend on an even grid, share of the image's side
    gain: Array  # [B, C], factor of each channel
    blur: Array | None  # [B], share of a 3 x 3 binomial blur; None: of no image


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
    return resample(images, random_maps(key, limits, index, images.shape[-1]))


def random_maps(key: Array, limits: Warp, index: Array, channels: int) -> Maps:
    """A map for each image of a batch.

    Args:
        key: a PRNG key; image i draws its map from `fold_in(key, index[i])`.
        limits: how far the maps go.
        index: each image's place in the whole batch, `[B]`.
        channels: of the images.
    """
    return jax.vmap(lambda i: _draw(jax.random.fold_in(key, i), limits, channels))(
        index
    )


def changes(maps: Maps, names: tuple[str, ...]) -> Array:
    """How much the maps change what `Warp.followed` names, `[B, K]`.

    The tangent of the slant, the log of the width or of the side, the log of the first
    channel's share of the third one's (of the second's, if there are two; of one alone
    its brightness), and the share of the blur. Up to the sign: a code may run either
    way.
    """
    _, (lean, across) = jnp.moveaxis(maps.matrix, 0, -1)
    gain = jnp.log(jnp.where(maps.gain > 0, maps.gain, 1))
    other = min(gain.shape[-1], 3) - 1
    found = {
        "slant": lean / across,
        "width": jnp.log(across),
        "size": 0.5 * jnp.log(jnp.abs(jnp.linalg.det(maps.matrix))),
        "colour": gain[:, 0] - (gain[:, other] if other else 0),
    }
    if maps.blur is not None:
        found["focus"] = maps.blur
    return jnp.stack([found[name] for name in names], -1)


def resample(images: Array, maps: Maps) -> Array:
    """The pixel at p is gain times that at matrix @ p + shift + bend(p), then blurred.

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
    moved *= maps.gain[:, None, None, :]
    if maps.blur is None:
        return moved
    return moved + maps.blur[:, None, None, None] * (_blurred(moved) - moved)


def _blurred(images: Array) -> Array:
    """Weights 1 2 1 along each axis."""
    for axis in (1, 2):
        pad = [(int(i == axis),) * 2 for i in range(4)]
        size = images.shape[axis]
        before, here, after = (
            jax.lax.slice_in_dim(jnp.pad(images, pad), i, i + size, axis=axis)
            for i in range(3)
        )
        images = (before + 2 * here + after) / 4
    return images


def _draw(key: Array, limits: Warp, channels: int) -> Maps:
    turn, stretch, lean, move, bend, light, mirror, colour, focus, choice = (
        jax.random.split(key, 10)
    )
    angle = _symmetric(turn, (), math.radians(limits.rotation))
    scale = jnp.exp(_symmetric(stretch, (2,), limits.scale))
    shear = _symmetric(lean, (), limits.shear)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    rotation = jnp.array([[cos, -sin], [sin, cos]])
    shearing = jnp.array([[1.0, 0.0], [shear, 1.0]])
    shift = _symmetric(move, (2,), limits.shift)
    nodes = limits.bend * jax.random.normal(bend, (_NODES, _NODES, 2))
    side = jnp.where(jax.random.bernoulli(mirror, limits.flip), -1.0, 1.0)
    flip = jnp.array([1.0, side])
    gain = jnp.exp(
        _symmetric(colour, (channels,), limits.gain)
        - limits.darken * jax.random.uniform(light)
    )
    # Not from all copies, or "is a copy" would be a category that is read without fail
    is_alone = jax.random.bernoulli(choice)
    if limits.alone:
        gain *= ~(is_alone & (jnp.arange(1, channels + 1) != limits.alone))
    blur = jax.random.uniform(focus, maxval=limits.blur) if limits.blur else None
    return Maps(rotation @ shearing * scale * flip, shift, nodes, gain, blur)


def _symmetric(key: Array, shape: tuple[int, ...], limit: float) -> Array:
    return jax.random.uniform(key, shape, minval=-limit, maxval=limit)
