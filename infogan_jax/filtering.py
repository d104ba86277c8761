"""Only the images in which a classification network finds one class."""

import jax
import numpy as np
from PIL import Image

from infogan_jax import figures
from infogan_jax import workdir as runs
from infogan_jax.classifier import classify
from infogan_jax.config import Config, UserError
from infogan_jax.data import Data, StoredImages
from infogan_jax.evaluation.inference import apply

_ROWS = 3  # of examples on either side of the threshold


def apply_filter(config: Config, data: Data) -> tuple[Data, Image.Image | None]:
    """The data that `config.filter_by` accepts, and a sheet of doubtful examples.

    Raises:
        UserError: the network lacks the class or is of other images, or accepts none.
    """
    if not config.filter_by:
        return data, None
    with runs.named_by("filter_by", config.filter_by) as folder:
        _, image_shape, classes = runs.load_config(folder, runs.CLASSIFIER)
        state, own = runs.load_classifier(folder)
    if image_shape != data.images.shape[1:]:
        raise UserError(
            f"--filter_by={config.filter_by}: is of images {image_shape}; expected "
            f"{data.images.shape[1:]}"
        )
    if config.filter_class not in classes:
        raise UserError(
            f"--filter_class={config.filter_class}: expected one of {classes}"
        )
    place = classes.index(config.filter_class)
    if isinstance(data.images, StoredImages):
        data = data._replace(images=data.images.bring())  # all of them are read here

    def probability(images):
        logits = apply(classify, state, images, own)[0]
        return np.asarray(jax.nn.softmax(logits))[:, place]

    train, held_out = probability(data.images), probability(data.eval_images)
    kept = np.flatnonzero(train >= config.filter_above)
    kept_out = np.flatnonzero(held_out >= config.filter_above)
    print(
        f"{len(kept):,} of {len(train):,} training images are {config.filter_class} "
        f"by {config.filter_above:g} or more, {len(kept_out):,} of {len(held_out):,} "
        "held out"
    )
    if not (len(kept) and len(kept_out)):
        raise UserError(
            f"--filter_above={config.filter_above}: {len(kept)} training images and "
            f"{len(kept_out)} held out are left; choose less, up to "
            f"{min(train.max(), held_out.max()):.3f}"
        )
    return (
        data._replace(
            images=_part(data.images, kept),
            labels=None if data.labels is None else data.labels[kept],
            eval_images=data.eval_images[kept_out],
            eval_labels=None
            if data.eval_labels is None
            else data.eval_labels[kept_out],
        ),
        _sheet(data.images, train, config),
    )


def _part(images, places: np.ndarray):
    if isinstance(images, StoredImages):
        return images.part(places)
    return images[places]


def _sheet(images, probability: np.ndarray, config: Config) -> Image.Image:
    """The examples nearest to the threshold, kept ones above dropped ones."""
    order = np.argsort(-probability, kind="stable")
    end = int((probability >= config.filter_above).sum())
    most = _ROWS * figures.COLUMNS
    kept, dropped = order[max(0, end - most) : end], order[end : end + most]
    rows = []
    for name, places in (("kept", kept), ("dropped", dropped)):
        for start in range(0, len(places), figures.COLUMNS):
            first = probability[places[start]]
            rows.append(f"{name} {first:.3f}")
    blank = -len(kept) % figures.COLUMNS
    shown = np.concatenate(
        [
            images[kept],
            np.zeros((blank, *images.shape[1:]), np.uint8),
            images[dropped],
        ]
    )
    return figures.sheet(shown, figures.COLUMNS, rows, colours=config.composite)
