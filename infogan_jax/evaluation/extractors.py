"""Networks whose features images are compared by: a classifier's, or random ones."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from infogan_jax.core.latents import Array
from infogan_jax.core.model import as_float
from infogan_jax.core.models import ImageShape
from infogan_jax.core.models.layers import downsample
from infogan_jax.evaluation import Subject
from infogan_jax.inference import in_batches, weight_digest

_TEXTURE_PARTS = 4  # three resolutions, and the middle
_TEXTURE_FILTERS = 32  # of each part
_FAINT = 1e-3  # mean response below which differences do not count
_DIM = 0.1  # mean of the channels below which chromaticity fades


class Features(NamedTuple):
    """Features of images, and the extractor that they are from."""

    values: np.ndarray  # float32 [N, F]
    extractor: str  # name and digest


class Extractor(NamedTuple):
    """Images -> features, with the digest of the network's weights."""

    name: str  # "classifier", "random" or "texture"
    digest: str  # of its weights: distances compare under the same one only
    features: Callable[[np.ndarray], np.ndarray]  # [N, H, W, C] -> float32 [N, F]

    def __call__(self, images: np.ndarray) -> Features:
        """Features of images `[N, H, W, C]`."""
        return Features(self.features(images), f"{self.name} {self.digest}")


def make_extractor(subject: Subject) -> Extractor:
    """Returns the classifier's features if there is one, else a random network's."""
    classifier = subject.classifier
    if classifier is not None:
        digest = weight_digest(classifier.state.ema)
        return Extractor("classifier", digest, classifier.features)
    return random_extractor(subject.trained.model.image_shape)


def random_extractor(image_shape: ImageShape) -> Extractor:
    """Features of a random network, which sees where things are: outlines, places.

    Two convolutions and a dense layer, He-normal, the same ones every time.
    """
    height, width, channels = image_shape
    shapes = [(4, 4, channels, 32), (4, 4, 32, 64), (height * width * 4, 256)]
    init = jax.nn.initializers.he_normal()
    weights = [init(jax.random.key(i), shape) for i, shape in enumerate(shapes)]
    return _make("random", _random_features, weights)


def texture_extractor(image_shape: ImageShape) -> Extractor:
    """Features that see how things are drawn, wherever they are: lines, rims, mottle.

    The log of how strongly random 5 x 5 filters respond, on average over the image, in
    each sign: to full, half and quarter resolution, and to the middle of the image by
    itself. Half of the filters see chromaticity, if there are several channels. A log
    lets a faint pattern count by its own measure, beside the strong edges of an object.

    Reference: Ustyuzhaninov et al. 2016, arXiv:1606.00021, on random filters whose
    responses describe textures.
    """
    channels = image_shape[2]
    weights = [
        _texture_filters(jax.random.key(i), channels) for i in range(_TEXTURE_PARTS)
    ]
    return _make("texture", _texture_features, weights)


def _make(name: str, method: Callable, weights: list[Array]) -> Extractor:
    def features(images: np.ndarray) -> np.ndarray:
        return in_batches(method, None, weights, images)

    return Extractor(name, weight_digest(weights), features)


def _random_features(model: None, weights: list[Array], images: Array) -> Array:
    *kernels, dense = weights
    x = as_float(images)
    for kernel in kernels:
        x = jax.nn.relu(downsample(x, kernel))
    return jax.nn.relu(x.reshape(len(x), -1) @ dense)


def _texture_filters(key: Array, channels: int) -> Array:
    """Filters blind to a constant picture, `[5, 5, C, 32]`, or on twice the channels.

    Of several channels the first half of the filters sees the image, the other half its
    chromaticity, which stands behind the image's channels.
    """
    plain_key, chroma_key = jax.random.split(key)
    if channels == 1:
        return _normalized(jax.random.normal(plain_key, (5, 5, 1, _TEXTURE_FILTERS)))
    shape = (5, 5, channels, _TEXTURE_FILTERS // 2)
    plain = _normalized(jax.random.normal(plain_key, shape))
    chroma = jax.random.normal(chroma_key, shape)
    chroma = _normalized(chroma - chroma.mean(2, keepdims=True))
    none = jnp.zeros(shape)
    return jnp.concatenate(
        [jnp.concatenate([plain, none], 2), jnp.concatenate([none, chroma], 2)], -1
    )


def _normalized(filters: Array) -> Array:
    filters = filters - filters.mean((0, 1), keepdims=True)
    return filters / jnp.sqrt((filters**2).sum((0, 1, 2), keepdims=True))


def _texture_features(model: None, weights: list[Array], images: Array) -> Array:
    x = as_float(images)
    if x.shape[-1] > 1:
        chroma = x / (x.mean(-1, keepdims=True) + _DIM)
        x = jnp.concatenate([x, chroma - chroma.mean(-1, keepdims=True)], -1)
    n, height, width, channels = x.shape
    top, left = height // 4, width // 4
    parts = [
        jax.image.resize(x, (n, height >> k, width >> k, channels), "linear")
        for k in range(3)
    ] + [x[:, top : height - top, left : width - left]]
    logs = []
    for part, kernel in zip(parts, weights, strict=True):
        response = jax.lax.conv_general_dilated(
            part, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        logs += [
            jnp.log(jax.nn.relu(sign * response).mean((1, 2)) + _FAINT)
            for sign in (1, -1)
        ]
    return jnp.concatenate(logs, -1)
