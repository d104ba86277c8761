"""The networks that measure others: a classifier of real images, or a random one."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from infogan_jax import workdir as runs
from infogan_jax.classifier import ClassifierState, classify
from infogan_jax.config import Config, UserError
from infogan_jax.evaluation import evaluator_names
from infogan_jax.evaluation.inference import apply, digest
from infogan_jax.latents import main_category, parse_spec
from infogan_jax.models.layers import downsample
from infogan_jax.steps import as_float


class Features(NamedTuple):
    """Features of images, and whose they are."""

    values: np.ndarray  # float32 [N, F]
    extractor: str  # its name and digest


class Extractor(NamedTuple):
    """Images -> features, and the proof of which network it was."""

    name: str  # "classifier" or "random"
    digest: str  # of its weights: distances compare under the same one only
    features: Callable[[np.ndarray], np.ndarray]  # [N, H, W, C] -> float32 [N, F]

    def __call__(self, images: np.ndarray) -> Features:
        """Of images `[N, H, W, C]`."""
        return Features(self.features(images), f"{self.name} {self.digest}")


def load_judge(config: Config, data) -> tuple[ClassifierState, Config]:
    """The classification network of `config.classifier`.

    Raises:
        UserError: none is named, or it is of another dataset's classes or image shape.
    """
    if not config.classifier:
        raise UserError(
            "--classifier: expected the work directory of a classification network; "
            "train one by --mode=classify"
        )
    with runs.named_by("classifier", config.classifier) as folder:
        _, image_shape, classes = runs.load_config(folder, runs.CLASSIFIER)
        loaded = _load(folder)
    if classes != data.class_names or image_shape != data.images.shape[1:]:
        raise UserError(
            f"--classifier={config.classifier}: is of images {image_shape} in classes "
            f"{classes}; expected {data.images.shape[1:]} in {data.class_names}"
        )
    return loaded


@functools.lru_cache(maxsize=2)
def _load(folder: Path) -> tuple[ClassifierState, Config]:
    return runs.load_classifier(folder)


def load_extractor(config: Config, data) -> Extractor:
    """The classifier's features where one is named, else those of a random network."""
    if config.classifier:
        state, own = load_judge(config, data)
        return Extractor(
            "classifier",
            digest(state.ema),
            lambda images: apply(classify, state, images, own)[1],
        )
    weights = _random_weights(data.images.shape[1:])
    return Extractor(
        "random",
        digest(weights),
        lambda images: apply(_random_features, weights, images, config),
    )


def check_judges(config: Config, data) -> None:
    """Raises UserError before a training whose end could not be measured."""
    spec = parse_spec(config.codes)
    asks = "generation" in evaluator_names(config) and main_category(spec) is not None
    if config.classifier or (asks and data.eval_labels is not None):
        load_judge(config, data)
    if config.baseline:
        with runs.named_by("baseline", config.baseline) as folder:
            runs.load_config(folder)


def _random_weights(image_shape: tuple[int, int, int]) -> list[jax.Array]:
    """Two convolutions and a dense layer, He-normal, the same ones every time."""
    height, width, channels = image_shape
    shapes = [(4, 4, channels, 32), (4, 4, 32, 64), (height * width * 4, 256)]
    init = jax.nn.initializers.he_normal()
    return [init(jax.random.key(i), shape) for i, shape in enumerate(shapes)]


def _random_features(weights, images, config):
    *kernels, dense = weights
    x = as_float(images)
    for kernel in kernels:
        x = jax.nn.relu(downsample(x, kernel))
    return jax.nn.relu(x.reshape(len(x), -1) @ dense)
