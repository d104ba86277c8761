"""Can a network tell generated images from real ones? A test of onlookers.

Reference: Lopez-Paz and Oquab 2017, Revisiting Classifier Two-Sample Tests,
arXiv:1610.06545.
"""

import functools

import jax
import numpy as np
from sklearn.metrics import roc_auc_score

from infogan_jax.core.classifier import (
    ClassifierState,
    ImageClassifier,
    make_classifier_step,
)
from infogan_jax.core.latents import Array
from infogan_jax.core.models.classifier import Classifier
from infogan_jax.core.state import adam
from infogan_jax.errors import UserError
from infogan_jax.evaluation import Subject, fidelity
from infogan_jax.evaluation.results import Measures, Skipped
from infogan_jax.inference import TrainedClassifier
from infogan_jax.pixels import to_uint8

_MAX_IMAGES = 2000  # of each set; half of them train the network
_MIN_IMAGES = 100
_BATCH = 64
_RATE = 1e-3  # of Adam, falling to 0


def tell_apart(
    a: np.ndarray, b: np.ndarray, seed: int = 0, steps: int = 600
) -> dict[str, float]:
    """Trains a network to tell two sets of images apart, and tests it on other images.

    A small convolutional network with dropout and mirrored images, from a fresh seed.
    It learns from the first half of each set and is tested on the second.

    Args:
        a: uint8 `[N, H, W, C]`, height and width multiples of 4.
        b: uint8 `[M, H, W, C]`; of the larger set the end is left out.
        seed: of the network and of the order of images.
        steps: updates of the network, of 64 images each.

    Returns:
        `accuracy` on the second halves, in [0, 1], and `auc`: 0.5 for sets that are
        alike, to its eye; 1 for sets that it always tells apart.

    Raises:
        UserError: a set has fewer than 100 images, or they have other shapes.
    """
    if a.shape[1:] != b.shape[1:] or min(len(a), len(b)) < _MIN_IMAGES:
        raise UserError(
            f"two_sample: images {a.shape} and {b.shape}; expected {_MIN_IMAGES} or "
            "more of each, of one shape"
        )
    half = min(len(a), len(b)) // 2
    labels = np.repeat([0, 1], half)
    train, test = (
        np.concatenate([images[part : part + half] for images in (a, b)])
        for part in (0, half)
    )
    scores = np.diff(_train(train, labels, seed, steps).logits(test))[:, 0]
    return {
        "accuracy": float(((scores > 0) == labels).mean()),
        "auc": float(roc_auc_score(labels, scores)),
    }


def _train(
    images: np.ndarray, labels: np.ndarray, seed: int, steps: int
) -> TrainedClassifier:
    images = np.concatenate([images, images[:, :, ::-1]])  # and mirrored
    labels = np.concatenate([labels, labels])
    optimizer = adam(_RATE, 0.9, 0.999, steps, 1.0)
    model = ImageClassifier(
        images.shape[1:], Classifier(2, channels=(32, 64), features=128), optimizer
    )
    rng = np.random.default_rng(seed)
    epochs = -(-steps * _BATCH // len(images))
    order = np.concatenate([rng.permutation(len(images)) for _ in range(epochs)])
    batches = order[: steps * _BATCH].reshape(steps, _BATCH)
    state = _train_steps(
        model, model.init(jax.random.key(seed)), images, labels, batches
    )
    return TrainedClassifier(model, state, ["a", "b"])


@functools.partial(jax.jit, static_argnums=0)
def _train_steps(
    model: ImageClassifier,
    state: ClassifierState,
    images: Array,
    labels: Array,
    batches: Array,
) -> ClassifierState:
    step = make_classifier_step(model)

    def on_batch(state: ClassifierState, rows: Array) -> tuple[ClassifierState, None]:
        return step(state, (images[rows], labels[rows]))[0], None

    return jax.lax.scan(on_batch, state, batches)[0]


def evaluate(subject: Subject) -> Measures | Skipped:
    """Tells held-out images from generated ones, and from training images."""
    data = subject.data
    n = min(_MAX_IMAGES, len(data.eval_images), len(data.images))
    if n < _MIN_IMAGES:
        return Skipped(f"{n} held-out images; expected {_MIN_IMAGES} or more")
    height, width, _ = subject.trained.model.image_shape
    if height % 4 or width % 4:
        return Skipped(f"images of {height} x {width}; expected multiples of 4")
    fake = to_uint8(fidelity.sample(subject.trained, subject.seed, n))
    held_out = data.eval_images[:n]
    return Measures(
        {
            "generated": tell_apart(held_out, fake, subject.seed),
            "real_reference": tell_apart(held_out, data.images[:n], subject.seed),
        }
    )
