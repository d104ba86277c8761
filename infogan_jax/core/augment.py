"""Label-preserving augmentation of a batch of images, cheap enough for every step."""

import dataclasses
import math
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from infogan_jax.core.latents import Array


class Augmentation(Protocol):
    """A random change of images that leaves their category as it is.

    Parameters are drawn first and applied afterwards, so that a continuous code can
    learn from how much each factor of variation was changed.
    """

    @property
    def factor_names(self) -> tuple[str, ...]:
        """The factors of variation that `factors` gives; codes follow them in order."""

    def draw(self, key: Array, index: Array, channels: int) -> Any:
        """Random parameters for a batch.

        Args:
            key: a PRNG key; image i uses `fold_in(key, index[i])`.
            index: each image's place in the whole batch, int `[B]`.
            channels: of the images.

        Returns:
            A tree of arrays, `[B, ...]` each.
        """

    def apply(self, images: Array, params: Any) -> Array:
        """The changed images, `[B, H, W, C]` floating point -> the same shape."""

    def factors(self, params: Any) -> tuple[Array, Array]:
        """How much each factor was changed, `[B, K]`, and where that shows, `[B]`.

        The second array is 1 for images that show their change and 0 for others.
        """


class WarpParams(NamedTuple):
    """For each image, where each pixel comes from; see `Warp.apply`."""

    matrix: Array  # [B, 2, 2], acting on (row, column)
    shift: Array  # [B, 2], fraction of the image's side
    elastic: Array | None  # [B, N, N, 2] displacements on an even grid, likewise
    gain: Array  # [B, C], factor of each channel
    blur: Array | None  # [B], fraction of a 3 x 3 binomial blur


@dataclasses.dataclass(frozen=True)
class Warp:
    """Random changes of geometry and colour, each drawn uniformly up to +- its limit.

    What a warp may change is what a category must *not* mean, so a warp states prior
    knowledge about the images: a digit slanted by 20 degrees is the same digit.
    """

    rotation: float = 0.0  # degrees
    flip: float = 0.0  # probability of a mirror image
    scale: float = 0.0  # log of the factor, for each axis by itself
    size: float = 0.0  # log of the factor, for both axes
    shear: float = 0.0  # pixels along x per pixel along y
    shift: float = 0.0  # fraction of the image's side
    elastic: float = 0.0  # standard deviation, fraction of the side, on 4 x 4 nodes
    brightness: float = 0.0  # -log of the factor of all pixels, from 0 to the limit
    gain: float = 0.0  # log of the factor of each channel by itself
    blur: float = 0.0  # fraction of a 3 x 3 binomial blur, from 0 to the limit
    isolate_channel: float = 0.0  # every other copy keeps only this channel; 0: none
    about_object: float = 0.0  # 1: turns and scales about the object, not the middle

    @property
    def factor_names(self) -> tuple[str, ...]:
        """Slant and width of upright images; size, colour and focus of all others.

        Of objects whose place varies, the place and the size.
        """
        if self.about_object:
            limits = {"column": self.shift, "row": self.shift}
            limits["size"] = max(self.scale, self.size)
        elif self.rotation <= 45 and self.flip == 0:
            limits = {"slant": max(self.rotation, self.shear), "width": self.scale}
        else:
            limits = {"size": self.scale, "colour": self.gain, "focus": self.blur}
        return tuple(name for name, limit in limits.items() if limit > 0)

    def draw(self, key: Array, index: Array, channels: int) -> WarpParams:
        """Random parameters for a batch; see `Augmentation.draw`."""
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
        return jax.vmap(lambda k: _draw(k, self, channels))(keys)

    def apply(self, images: Array, params: WarpParams) -> Array:
        """Moves pixels, scales channels, then blurs.

        The pixel at p is gain times that at matrix @ p + shift + elastic(p). p counts
        from the centre, or from the object's. Interpolation is bilinear; beyond the
        frame lies 0. The elastic displacement is cubic between its nodes.

        Args:
            images: `[B, H, W, C]`, floating point.
            params: of each image.

        Returns:
            `[B, H, W, C]`.
        """
        _, height, width, _ = images.shape
        shift = params.shift * height
        centre = jnp.array([height - 1, width - 1]) / 2
        if self.about_object:
            place = _centroid(images) - centre  # which stays where it is
            shift += place - jnp.einsum("bij,bj->bi", params.matrix, place)
        grid = jnp.stack(
            jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), -1
        )
        source = jnp.einsum("bij,hwj->bihw", params.matrix, grid - centre)
        source += (shift + centre)[:, :, None, None]
        if params.elastic is not None:
            nodes = params.elastic * height
            field = jax.image.resize(nodes, (len(nodes), height, width, 2), "cubic")
            source += jnp.moveaxis(field, -1, 1)

        def one_channel(image: Array, place: Array) -> Array:
            return map_coordinates(image, [place[0], place[1]], 1, mode="constant")

        over_channels = jax.vmap(one_channel, in_axes=(-1, None), out_axes=-1)
        moved = jax.vmap(over_channels)(images, source)
        moved *= params.gain[:, None, None, :]
        if params.blur is None:
            return moved
        # XLA would move each pixel again for each of its neighbours.
        moved = jax.lax.optimization_barrier(moved)
        return moved + params.blur[:, None, None, None] * (_blur(moved) - moved)

    def factors(self, params: WarpParams) -> tuple[Array, Array]:
        """See `Augmentation.factors`.

        The tangent of the slant, the log of the width or of the side, the log of the
        first channel's gain over the third one's (over the second's, if there are two;
        the brightness, if there is one), the blur; of the place a fraction of the
        image's side. Signs carry no meaning.
        """
        _, (lean, across) = jnp.moveaxis(params.matrix, 0, -1)
        gain = jnp.log(jnp.where(params.gain > 0, params.gain, 1))
        other = min(gain.shape[-1], 3) - 1
        known = {
            "slant": lean / across,
            "width": jnp.log(across),
            "size": 0.5 * jnp.log(jnp.abs(jnp.linalg.det(params.matrix))),
            "colour": gain[:, 0] - (gain[:, other] if other else 0),
        }
        if self.about_object:
            back = jnp.linalg.inv(params.matrix)
            row, column = jnp.einsum("bij,bj->ib", back, params.shift)
            known |= {"row": row, "column": column}
        if params.blur is not None:
            known["focus"] = params.blur
        values = jnp.stack([known[name] for name in self.factor_names], -1)
        if not self.isolate_channel:
            return values, jnp.ones(len(params.gain))
        # A copy of one channel does not show what was done to the others.
        return values, (params.gain > 0).all(-1).astype(jnp.float32)


# Larger changes turn a sheared 7 into a 2.
_AFFINE = Warp(rotation=20, scale=0.2, shear=0.3, shift=0.09)

WARPS: dict[str, Warp | None] = {
    "affine": _AFFINE,
    "cells": Warp(rotation=180, flip=0.5, scale=0.15, shift=0.06, gain=0.25, blur=0.7),
    "clothes": dataclasses.replace(_AFFINE, brightness=0.9),
    "digits": dataclasses.replace(_AFFINE, elastic=0.025),
    "none": None,
    "sprites": Warp(rotation=180, size=0.3, shift=0.2, about_object=1),
}
_NODES = 4  # of an elastic displacement, along each axis

# Largest limit of each part; 10 for logarithms of factors, and for shear.
_LARGEST = {
    **{"rotation": 360, "flip": 1, "shift": 1, "elastic": 1, "blur": 1},
    "about_object": 1,
    "isolate_channel": 1000,
}


def parse_warp(text: str) -> Warp | None:
    """Returns the warp that a string describes: a row of WARPS, with parts changed.

    For example `cells`, `cells:rotation=90:gain=0`, or `none`.

    Raises:
        ValueError: there is no such row or part, or its value is out of range.
    """
    name, *parts = (part.strip() for part in text.split(":"))
    if name not in WARPS:
        raise ValueError(f"augment: {name!r}; expected one of {sorted(WARPS)}")
    warp = WARPS[name]
    if not parts:
        return warp
    if warp is None:
        raise ValueError(f"augment: {text!r}; 'none' has no parts to change")
    known = [field.name for field in dataclasses.fields(Warp)]
    changed: dict[str, float] = {}
    for part in parts:
        key, _, value = part.partition("=")
        if key not in known:
            raise ValueError(f"augment: {part!r} in {text!r}; expected one of {known}")
        if key in changed:
            raise ValueError(f"augment: {text!r} gives {key} twice")
        try:
            changed[key] = float(value)
        except ValueError:
            changed[key] = math.nan
        largest = _LARGEST.get(key, 10)
        is_channel = key == "isolate_channel"
        is_allowed = not is_channel or changed[key].is_integer()
        if not (0 <= changed[key] <= largest and is_allowed):
            kind = "a channel's number" if is_channel else f"0 to {largest}"
            raise ValueError(f"augment: {part!r} in {text!r}; expected {kind}")
    return dataclasses.replace(warp, **changed)


def augment_batch(
    augment: Augmentation, key: Array, images: Array, index: Array
) -> Array:
    """Each image under a random change of its own.

    Args:
        augment: the augmentation.
        key: a PRNG key.
        images: `[B, H, W, C]`, floating point.
        index: each image's place in the whole batch, int `[B]`.

    Returns:
        `[B, H, W, C]`.
    """
    return augment.apply(images, augment.draw(key, index, images.shape[-1]))


def _blur(images: Array) -> Array:
    """A binomial blur: weights 1 2 1 along each axis."""
    for axis in (1, 2):
        pad = [(int(i == axis),) * 2 for i in range(4)]
        size = images.shape[axis]
        before, here, after = (
            jax.lax.slice_in_dim(jnp.pad(images, pad), i, i + size, axis=axis)
            for i in range(3)
        )
        images = (before + 2 * here + after) / 4
    return images


def _centroid(images: Array) -> Array:
    """The mean place of the light in each image, (row, column), `[B, 2]`."""
    light = images.sum(-1) + 1e-6  # of a black image, its middle
    whole = light.sum((1, 2))
    places = [jnp.arange(n, dtype=light.dtype) for n in light.shape[1:]]
    row = jnp.einsum("bhw,h->b", light, places[0]) / whole
    column = jnp.einsum("bhw,w->b", light, places[1]) / whole
    return jnp.stack([row, column], -1)


def _draw(key: Array, limits: Warp, channels: int) -> WarpParams:
    turn, stretch, lean, move, bend, light, mirror, colour, focus, choice = (
        jax.random.split(key, 10)
    )
    angle = _symmetric(turn, (), math.radians(limits.rotation))
    scale = jnp.exp(_symmetric(stretch, (2,), limits.scale))
    if limits.size:
        scale *= jnp.exp(_symmetric(jax.random.fold_in(stretch, 1), (), limits.size))
    shear = _symmetric(lean, (), limits.shear)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    rotation = jnp.array([[cos, -sin], [sin, cos]])
    shearing = jnp.array([[1.0, 0.0], [shear, 1.0]])
    shift = _symmetric(move, (2,), limits.shift)
    elastic = None
    if limits.elastic:
        elastic = limits.elastic * jax.random.normal(bend, (_NODES, _NODES, 2))
    side = jnp.where(jax.random.bernoulli(mirror, limits.flip), -1.0, 1.0)
    flip = jnp.array([1.0, side])
    gain = jnp.exp(
        _symmetric(colour, (channels,), limits.gain)
        - limits.brightness * jax.random.uniform(light)
    )
    # Mask only half of the copies; otherwise "is a copy" is itself a perfectly
    # predictable category.
    is_masked = jax.random.bernoulli(choice)
    if limits.isolate_channel:
        others = jnp.arange(1, channels + 1) != limits.isolate_channel
        gain *= ~(is_masked & others)
    blur = jax.random.uniform(focus, maxval=limits.blur) if limits.blur else None
    matrix = rotation @ shearing * scale * flip
    return WarpParams(matrix, shift, elastic, gain, blur)


def _symmetric(key: Array, shape: tuple[int, ...], limit: float) -> Array:
    return jax.random.uniform(key, shape, minval=-limit, maxval=limit)
