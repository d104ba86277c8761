"""Images of any folder, read as those that a run was trained on."""

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from infogan_jax.config import Config
from infogan_jax.core.models import ImageShape
from infogan_jax.data import folder as own
from infogan_jax.data import listing, metadata
from infogan_jax.data.prepare import change_of
from infogan_jax.data.ranges import Ranges, Rule, describe
from infogan_jax.data.sources import preprocess
from infogan_jax.data.survey import with_own_plates
from infogan_jax.errors import expand_path, first_line, some_of
from infogan_jax.settings import DataConfig

logger = logging.getLogger(__name__)

_MUCH_WHITE = 0.2  # of the pixels; where white is a percentile, a thousandth are
_LITTLE = 0.2  # of white


def is_folder_of(config: DataConfig, root: Path) -> bool:
    """Returns whether a folder is the one that a run was trained on."""
    kind, _, path = config.dataset.partition(":")
    return kind == "folder" and root.resolve() == expand_path("dataset", path).resolve()


class Foreign(NamedTuple):
    """An image of any folder."""

    name: str
    pixels: np.ndarray | str  # uint8 [H, W, C], or the reason why it cannot be used
    item: listing.Item | None  # what is known of it; None if it was not looked at

    @property
    def is_read(self) -> bool:
        """Whether there are pixels."""
        return not isinstance(self.pixels, str)


def _as_stored(
    config: Config, image_shape: ImageShape, form: own.Form
) -> tuple[int, Config, own.Form]:
    """Which size files are brought to when they are read, and how they are read.

    What a dataset makes of its images comes before their size, which then is 0.
    """
    size, _, channels = image_shape
    config = dataclasses.replace(config, image_size=size)
    if config.dataset.startswith("folder:"):
        return size, config, form
    # Bytes; channels that a dataset makes itself come from colours, of any size.
    stored = 3 if change_of(config.dataset) and channels != 1 else channels
    mode = {1: "grey", 3: "rgb"}.get(stored, "")
    config = dataclasses.replace(config, channels=mode)
    return 0, config, own.Form([own.BYTES] * stored)


def preparation(
    config: Config, image_shape: ImageShape, form: own.Form
) -> dict[str, Any]:
    """Returns what is done to an image before networks see it, as JSON has it.

    Args:
        config: of the run.
        image_shape: of the run's images.
        form: of its folder, if it was trained on one.
    """
    size, config, form = _as_stored(config, image_shape, form)
    change = change_of(config.dataset)
    is_whole = config.resize_mode in ("auto", "scale")
    resize = "pad" if is_whole else config.resize_mode
    return {
        "channels": "" if config.has_channel_files else config.channels,
        "widen_bytes": form.are_widened,
        "scale_bytes": bool(config.value_range or config.normalise_by),
        "ranges": form.ranges or [own.BYTES] * image_shape[-1],
        # Each plate has ranges of its own in training, by its control images
        "ranges_of_plates": bool(config.normalise_by),
        "bytes_before_resize": not size,
        "change": change.__name__ if change else "",
        "scale": form.scale if size else None,
        "resize": resize,
        "align": config.align,
        "window": form.longest,  # side of the largest image, pixels; 0: not known
    }


def read_foreign(
    root: Path,
    config: Config,
    image_shape: ImageShape,
    form: own.Form,
    are_own: bool = False,
) -> Iterator[Foreign]:
    """Reads the images of any folder in the form of those that a run was trained on.

    Args:
        root: the folder; subfolders are looked through.
        config: of the run.
        image_shape: of the run's images.
        form: of its folder, if it was trained on one. Plates of another folder get
            ranges of their own, by their control images.
        are_own: whether plates of another folder that have the name of one of the
            run's are that plate. A few cells say nothing of their plate's range.

    Yields:
        Each image, in the order of names; its pixels are uint8 of `image_shape`.

    Raises:
        UserError: the folder cannot be read, or has no images.
    """
    size, config, form = _as_stored(config, image_shape, form)
    is_other = not is_folder_of(config, root)
    if is_other:  # nothing is held out or measured of it
        config = dataclasses.replace(config, group_by="", label_by="")
    listed = listing.find(root, config)
    files = metadata.attach(listed, config)
    # The run's own table has rows of all its images
    for note in (listed if are_own else files).notes:
        logger.info(note)
    yield from (Foreign(*left_out, None) for left_out in sorted(files.left_out.items()))
    items = own.expand(files.items, config)
    if form.plate_ranges is not None:
        former, rule = form.plate_ranges, Rule.of(config)
        form = with_own_plates(form, items, config, is_other and not are_own)
        if is_other:
            _tell_of_plates({rule.plate_of(x) for x in items}, rule, former, form)

    def read(item: listing.Item) -> Foreign:
        try:
            image = own.convert(item, size, form, config, is_new=True)
            image = preprocess(image, config)
        except Exception as error:  # decoders raise anything for a damaged file
            return Foreign(item.name, first_line(error), item)
        return Foreign(item.name, image, item)

    brightest, white = [], []
    for image in own.with_progress(read, items, "reading"):
        if isinstance(image.pixels, np.ndarray):
            brightest.append(image.pixels.max() / 255)
            white.append((image.pixels == 255).mean((0, 1)).max())
        yield image
    _check_exposure(brightest, white, form)


def _tell_of_plates(
    plates: set[str], rule: Rule, former: dict[str, Ranges], form: own.Form
) -> None:
    """Says which plates of another folder have the ranges of the run's own."""
    ranges = form.plate_ranges or {}
    if same := sorted(p for p in plates if former.get(p) == ranges[p]):
        logger.info(
            f"{rule.column} {some_of(same)}: read by the ranges of the run's own of "
            "that name"
        )


def _check_exposure(brightest: list[float], white: list[float], form: own.Form) -> None:
    """Warns of images that are much brighter or darker than what a run has learned.

    Args:
        brightest: the largest value of each image, of white.
        white: the fraction of each image's pixels that are white in a channel.
        form: says what is white.
    """
    if not brightest or not form.ranges or tuple(form.ranges[0]) == own.BYTES:
        return  # bytes are on one scale always
    at = "what is white to this run"
    if form.plate_ranges is None:
        at += f", {describe(form.ranges)}"
    much = float(np.median(white))
    if much > _MUCH_WHITE:
        logger.warning(
            f"half of the images have {much:.0%} or more of their pixels at or above "
            f"{at}: they seem to be of another exposure"
        )
    if (little := float(np.median(brightest))) < _LITTLE:
        logger.warning(
            f"half of the images reach {little:.0%} or less of {at}: they seem to be "
            "of another exposure"
        )
