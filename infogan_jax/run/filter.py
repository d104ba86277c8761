"""Only the images in which a classification network finds one class."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from infogan_jax.data import Data, ImageArray, StoredImages
from infogan_jax.errors import UserError, expand_path
from infogan_jax.run.directory import Run
from infogan_jax.run.records import CLASSIFIER
from infogan_jax.settings import DataConfig

logger = logging.getLogger(__name__)

EXAMPLES = 36  # on either side of the threshold


class Borderline(NamedTuple):
    """The training images nearest to the threshold, the most probable first."""

    kept: np.ndarray  # [N, H, W, C]
    dropped: np.ndarray
    kept_probability: np.ndarray  # [N]
    dropped_probability: np.ndarray


def apply_filter(config: DataConfig, data: Data) -> tuple[Data, Borderline | None]:
    """Returns the data that `config.filter_classifier` accepts, and examples.

    Raises:
        UserError: the network lacks the class or is of other images, or accepts none.
    """
    if not config.filter_classifier:
        return data, None
    with named_by("filter_classifier", config.filter_classifier) as folder:
        trained = Run.open(folder, CLASSIFIER)
        classifier = trained.load_classifier()
    image_shape, classes = trained.info.image_shape, trained.info.class_names
    if image_shape != data.images.shape[1:]:
        raise UserError(
            f"--filter_classifier={config.filter_classifier}: is of images "
            f"{image_shape}; expected {data.images.shape[1:]}"
        )
    if config.filter_class not in classes:
        raise UserError(
            f"--filter_class={config.filter_class}: expected one of {classes}"
        )
    index = classes.index(config.filter_class)
    if isinstance(data.images, StoredImages):
        data = data._replace(images=data.images.materialize())  # all are read here

    def probability(images: ImageArray) -> np.ndarray:
        return np.asarray(jax.nn.softmax(classifier.logits(images)))[:, index]

    train, held_out = probability(data.images), probability(data.eval_images)
    kept = np.flatnonzero(train >= config.filter_threshold)
    kept_out = np.flatnonzero(held_out >= config.filter_threshold)
    logger.info(
        f"{len(kept):,} of {len(train):,} training images are {config.filter_class} "
        f"by {config.filter_threshold:g} or more, {len(kept_out):,} of "
        f"{len(held_out):,} held out"
    )
    if not (len(kept) and len(kept_out)):
        raise UserError(
            f"--filter_threshold={config.filter_threshold}: {len(kept)} training "
            f"images and {len(kept_out)} held out are left; choose less, up to "
            f"{min(train.max(), held_out.max()):.3f}"
        )
    eval_labels = data.eval_labels
    filtered = data._replace(
        images=_subset(data.images, kept),
        labels=None if data.labels is None else data.labels[kept],
        eval_images=data.eval_images[kept_out],
        eval_labels=None if eval_labels is None else eval_labels[kept_out],
        metadata=_rows(data.metadata, kept),
        eval_metadata=_rows(data.eval_metadata, kept_out),
        eval_factors=data.eval_factors
        and {k: v[kept_out] for k, v in data.eval_factors.items()},
    )
    return filtered, _borderline(data.images, train, config.filter_threshold)


@contextlib.contextmanager
def named_by(flag: str, value: str) -> Iterator[Path]:
    """Gives the folder of a run that a flag names; errors about it name the flag."""
    folder = expand_path(flag, value)
    try:
        yield folder
    except UserError as error:
        raise UserError(f"--{flag}={value}: {error}") from None


def _rows(
    table: dict[str, list[str]] | None, places: np.ndarray
) -> dict[str, list[str]] | None:
    return table and {
        name: [column[i] for i in places] for name, column in table.items()
    }


def _subset(images: ImageArray, places: np.ndarray) -> ImageArray:
    if isinstance(images, StoredImages):
        return images.subset(places)
    return images[places]


def _borderline(
    images: ImageArray, probability: np.ndarray, threshold: float
) -> Borderline:
    order = np.argsort(-probability, kind="stable")
    end = int((probability >= threshold).sum())
    kept, dropped = order[max(0, end - EXAMPLES) : end], order[end : end + EXAMPLES]
    return Borderline(
        images[kept], images[dropped], probability[kept], probability[dropped]
    )
