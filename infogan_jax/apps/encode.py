"""What Q reads in a folder of images, as a table: `--mode=encode`."""

import csv
import dataclasses
import io
import itertools
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from infogan_jax.config import Config
from infogan_jax.core.latents import Categorical
from infogan_jax.data import read_foreign
from infogan_jax.errors import UserError, check_is_new, expand_path
from infogan_jax.files import write_atomically
from infogan_jax.inference import Trained
from infogan_jax.run.directory import Run

logger = logging.getLogger(__name__)

_BATCH = 5000  # images in memory at once


def encode_folder(run: Run, images: str, output: Path, seed: int | None = None) -> None:
    """Writes a row for each image of a folder, in the order of names.

    Columns are `image`, the file's name below the folder; the main category, by the
    code's name, and its `class`, if the checkpoint's evaluation matched one; and for
    each code what `Trained.read_codes` gives.

    Args:
        run: its newest checkpoint is used.
        images: a folder; empty: the one that the run was trained on.
        output: a CSV file that does not exist yet.
        seed: of the member, if there are several; by default the chosen one's.

    Raises:
        UserError: there is no such folder, or none of its images can be used; or
            `output` exists already, or is no FILE.csv.
    """
    if output.suffix.lower() != ".csv":
        raise UserError(f"--output={output}: expected FILE.csv")
    config = _reading_config(run, images)
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
    header: list[str] = []
    rows: list[tuple] = []
    left_out: list[str] = []
    info = run.info
    read = read_foreign(root, config, info.image_shape, info.form)
    while batch := list(itertools.islice(read, _BATCH)):
        left_out += [f"{name}: {why}" for name, why in batch if isinstance(why, str)]
        if usable := [(n, image) for n, image in batch if not isinstance(image, str)]:
            names, pixels = zip(*usable, strict=True)
            columns = _columns(trained, classes, names, np.stack(pixels))
            header = list(columns)
            rows += zip(*columns.values(), strict=True)
    for line in left_out:
        logger.info(f"left out: {line}")
    if not rows:
        raise UserError(f"--input_dir={root}: none of its images can be used")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    try:
        write_atomically(output, text.getvalue())
    except OSError as error:
        raise UserError(
            f"--output={output}: cannot be written ({error.strerror})"
        ) from None
    if category:
        logger.info(_counts(category, classes, Counter(row[1] for row in rows)))
    logger.info(f"{len(rows):,} images in {output}")


def _reading_config(run: Run, images: str) -> Config:
    """The run's config, with which a folder is to be read."""
    config = run.config
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


def _columns(
    trained: Trained,
    classes: list[str | None],
    names: Sequence[str],
    images: np.ndarray,
) -> dict[str, Sequence]:
    codes, category = trained.read_codes(images), trained.model.category
    columns: dict[str, Sequence] = {"image": names}
    if category:
        names_of = (f"{category.name} {k}" for k in range(category.size))
        best = np.stack([codes[name] for name in names_of], 1).argmax(1)
        columns[category.name] = best.tolist()
        if classes:
            columns["class"] = [classes[k] or "" for k in best]
    return columns | {name: [f"{x:.6g}" for x in codes[name]] for name in codes}


def _counts(category: Categorical, classes: list[str | None], counts: Counter) -> str:
    names = classes or [None] * category.size
    parts = [
        f"{k}{f' ({name})' if name else ''} {counts[k]:,}"
        for k, name in enumerate(names)
    ]
    return f"images of each {category.name}: {', '.join(parts)}"
