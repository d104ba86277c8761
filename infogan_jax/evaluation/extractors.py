"""Networks whose features images are compared by: a classifier's, or a random one's."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from infogan_jax.core.latents import Array
from infogan_jax.core.model import as_float
from infogan_jax.core.models import ImageShape
from infogan_jax.core.models.layers import downsample
from infogan_jax.evaluation import Subject
from infogan_jax.inference import in_batches, weight_digest


class Features(NamedTuple):
    """Features of images, and the extractor that they are from."""

    values: np.ndarray  # float32 [N, F]
    extractor: str  # name and digest


class Extractor(NamedTuple):
    """Images -> features, with the digest of the network's weights."""

    name: str  # "classifier" or "random"
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
    weights = _random_weights(subject.trained.model.image_shape)

    def features(images: np.ndarray) -> np.ndarray:
        return in_batches(_random_features, None, weights, images)

    return Extractor("random", weight_digest(weights), features)


def _random_weights(image_shape: ImageShape) -> list[jax.Array]:
    """Two convolutions and a dense layer, He-normal, the same ones every time."""
    height, width, channels = image_shape
    shapes = [(4, 4, channels, 32), (4, 4, 32, 64), (height * width * 4, 256)]
    init = jax.nn.initializers.he_normal()
    return [init(jax.random.key(i), shape) for i, shape in enumerate(shapes)]


def _random_features(model: None, weights: list[Array], images: Array) -> Array:
    *kernels, dense = weights
    x = as_float(images)
    for kernel in kernels:
        x = jax.nn.relu(downsample(x, kernel))
    return jax.nn.relu(x.reshape(len(x), -1) @ dense)
