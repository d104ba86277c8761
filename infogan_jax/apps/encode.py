"""What Q reads in a folder of images, as a table: `--mode=encode`."""

import dataclasses
import itertools
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from infogan_jax.apps.tables import Rows, check_ending, new_table
from infogan_jax.config import Config
from infogan_jax.core.latents import Categorical
from infogan_jax.data import Foreign, held_out_names, is_folder_of, read_foreign
from infogan_jax.errors import UserError, check_is_new, expand_path
from infogan_jax.inference import most_probable
from infogan_jax.run.directory import Run

logger = logging.getLogger(__name__)

_BATCH = 5000  # images in memory at once


def encode_folder(
    run: Run,
    images: str,
    output: Path,
    seed: int | None = None,
    metadata: str | None = None,
) -> None:
    """Writes a row for each image of a folder, in the order of names.

    Its columns are those of `tables`: the file's name below the folder, label, group,
    whether training never saw it, what a table and the file's name say of it; the main
    category, and its class, if the checkpoint's evaluation matched one; and what
    `Trained.embed` gives.

    Args:
        run: its newest checkpoint is used.
        images: a folder; empty: the one that the run was trained on.
        output: FILE of a `tables` ending, which does not exist yet.
        seed: of the member, if there are several; by default the chosen one's.
        metadata: a table of the images; by default that of the run's own folder.

    Raises:
        UserError: there is no such folder, or none of its images can be used; or
            `output` exists already, or cannot be written; or a package is missing.
    """
    check_ending(output)
    config = reading_config(run, images, metadata)
    _, _, trained_on = run.config.dataset.partition(":")
    root = expand_path("input_dir", images or trained_on)
    if not root.is_dir():
        raise UserError(f"--input_dir={root}: is no folder; expected one with images")
    check_is_new("output", output)
    folder, trained = run.load_trained(seed)
    category, class_names = trained.model.category, run.info.class_names
    evaluation, classes = folder.load_evaluation(trained.step), []
    if category and evaluation:
        classes = evaluation.class_of_category(category.name, class_names)
    channels = tuple(run.info.channels or ())
    left_out: list[str] = []
    counts: Counter[int] = Counter()
    written = 0
    is_own = is_folder_of(config, root)
    unseen = held_out_names(run.config) if is_own else None
    with new_table(output) as write:
        read = read_foreign(root, config, run.info.image_shape, run.info.form)
        while batch := list(itertools.islice(read, _BATCH)):
            left_out += [
                f"{image.name}: {image.pixels}" for image in batch if not image.is_read
            ]
            if usable := [image for image in batch if image.is_read]:
                pixels = np.stack([image.pixels for image in usable])
                codes, features = trained.embed(pixels)
                about = _known(usable, is_own, unseen)
                written += len(usable)
                if category:
                    about["Category"] = most_probable(category, codes).tolist()
                    counts.update(about["Category"])
                if classes:
                    about["Class"] = [classes[k] or "" for k in about["Category"]]
                write(Rows(about, codes, features, pixels, channels))
        for line in left_out:
            logger.info(f"left out: {line}")
        if not written:
            raise UserError(f"--input_dir={root}: none of its images can be used")
    if category:
        logger.info(_counts(category, classes, counts))
    logger.info(f"{written:,} images in {output}")


def _known(
    images: Sequence[Foreign], is_own: bool, unseen: set[str] | None
) -> dict[str, list]:
    """What is known of images: `Metadata_*` without the prefix."""
    items = [image.item for image in images if image.item is not None]
    columns: dict[str, list] = {
        "Image": [item.name for item in items],
        "Label": [item.label for item in items],
        "Group": [item.group for item in items],
    }
    if unseen is not None:
        columns["HeldOut"] = [item.name in unseen for item in items]
    elif not is_own:
        columns["HeldOut"] = [True] * len(items)
    for name in items[0].metadata:
        title = "_".join(word.capitalize() for word in name.split("_"))
        columns.setdefault(title, [item.metadata.get(name, "") for item in items])
    return columns


def reading_config(run: Run, images: str, metadata: str | None) -> Config:
    """The run's config, with which a folder is to be read."""
    config = run.config
    if images and metadata is None and not config.normalise_by:
        metadata = ""  # the run's table is of other images
    if metadata is not None:
        config = dataclasses.replace(config, metadata=metadata)
    kind = config.dataset.partition(":")[0]
    if not images and kind != "folder":
        raise UserError(
            "--input_dir: expected a folder; the run is of "
            f"--dataset={config.dataset}, whose images have no files of their own"
        )
    if not config.has_channel_files or config.channels:
        return config
    # The channels of the run's own folder, whichever another one has.
    channels = run.info.channels
    if images and not channels:
        raise UserError(
            f"--input_dir={images}: the run does not record which channels its own "
            "folder had; train it with --channels=NAMES to have it read others"
        )
    return dataclasses.replace(config, channels=",".join(channels or []))


def _counts(category: Categorical, classes: list[str | None], counts: Counter) -> str:
    names = classes or [None] * category.size
    parts = [
        f"{k}{f' ({name})' if name else ''} {counts[k]:,}"
        for k, name in enumerate(names)
    ]
    return f"images of each {category.name}: {', '.join(parts)}"
