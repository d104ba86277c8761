"""Which values become black and white: of all images, or of each plate by itself.

Plates differ by the gain and offset of a microscope. Where black and white are the same
percentiles of each plate's control images, both vanish from the pictures.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from infogan_jax.data.listing import Item
from infogan_jax.data.metadata import columns_of
from infogan_jax.data.patterns import plain_value
from infogan_jax.errors import UserError, some_of
from infogan_jax.fields import numbers_in, plain_name
from infogan_jax.settings import DataConfig

Ranges = list[tuple[float, float]]  # of each channel: what becomes 0 and 255
BYTES = 0.0, 255.0  # the range of a channel of bytes
PIXELS = 4096  # of each image that is looked at for the percentiles
_IMAGES = 2000  # that are looked at, and of each plate at least
_IMAGES_OF_PLATE = 100


class Rule(NamedTuple):
    """What `config.normalise_by` says."""

    column: str  # whose values are plates
    control_column: str = ""
    control: str = ""  # the value of control images; empty: all are

    @classmethod
    def of(cls, config: DataConfig) -> "Rule":
        column, _, control = config.normalise_by.partition(":")
        control_column, _, value = control.partition("=")
        control_column = plain_name(control_column)
        return cls(
            plain_name(column), control_column, plain_value(control_column, value)
        )

    def check_columns(self, items: Sequence[Item], config: DataConfig) -> None:
        """Raises UserError unless all images have what the rule names."""
        has = columns_of(items)
        for column in filter(None, (self.column, self.control_column)):
            if column not in has:
                raise UserError(
                    f"--normalise_by={config.normalise_by}: no column {column}; "
                    f"expected one of {list(has)}"
                )

    def check_controls(
        self, items: Sequence[Item], plates: Iterable[str], config: DataConfig
    ) -> None:
        """Raises UserError unless each of the plates has control images."""
        has = {self.plate_of(item) for item in self.controls(items)}
        if lacking := sorted(set(plates) - has):
            column = self.control_column
            values = sorted({i.metadata[column] for i in items if column})
            kind = f" of {column} {self.control}" if column else ""
            has_others = f"; {column} is one of {some_of(values)}" if values else ""
            raise UserError(
                f"--normalise_by={config.normalise_by}: {self.column} "
                f"{some_of(lacking)} has no images{kind} that can be used; expected "
                f"some of each{has_others}"
            )

    def plate_of(self, item: Item) -> str:
        return item.metadata[self.column]

    def controls(self, items: Iterable[Item]) -> list[Item]:
        column, value = self.control_column, self.control
        return [i for i in items if not column or i.metadata[column] == value]


def to_look_at(items: Sequence[Item], config: DataConfig) -> set[str]:
    """Returns the names of images whose pixels percentiles are taken from.

    Raises:
        UserError: a plate has no control images, or an image no plate.
    """
    if not config.normalise_by:
        return {item.name for item in _spread(items, _IMAGES)}
    rule, chosen = Rule.of(config), set()
    rule.check_columns(items, config)
    rule.check_controls(items, map(rule.plate_of, items), config)
    plates: dict[str, list[Item]] = {}
    for item in rule.controls(items):
        plates.setdefault(rule.plate_of(item), []).append(item)
    count = max(_IMAGES_OF_PLATE, _IMAGES // len(plates))
    for controls in plates.values():
        chosen |= {item.name for item in _spread(controls, count)}
    return chosen


def _spread(items: Sequence[Item], count: int) -> Sequence[Item]:
    return items[:: -(-len(items) // count) or 1]


def of_folder(pixels: list[np.ndarray], are_bytes: bool, config: DataConfig) -> Ranges:
    """What the config says; or 0 and 255 for bytes, also in a wider integer type; or
    percentiles.

    Args:
        pixels: of images, each `[n, C]`.
        are_bytes: whether all images have whole numbers from 0 to 255.
        config: says which percentiles, or which values.
    """
    channels = pixels[0].shape[-1]
    if config.value_range:
        black, white = numbers_in(config.value_range)
        return [(black, white)] * channels
    if are_bytes and not config.normalise_by:
        return [BYTES] * channels
    percents = numbers_in(config.percentiles)
    together = np.concatenate(pixels).astype(np.float64)
    low, high = np.percentile(together, percents, axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def of_plates(
    items: Sequence[Item], pixels: Sequence[np.ndarray], config: DataConfig
) -> dict[str, Ranges]:
    """Returns the ranges of each plate, by its control images.

    Args:
        items: of `to_look_at`.
        pixels: of each, `[n, C]`.
        config: says which percentiles.
    """
    rule = Rule.of(config)
    plates: dict[str, list[np.ndarray]] = {}
    for item, some in zip(items, pixels, strict=True):
        plates.setdefault(rule.plate_of(item), []).append(some)
    return {plate: of_folder(some, False, config) for plate, some in plates.items()}


def describe(ranges: Ranges) -> str:
    """Returns ranges in words, equal ones once."""
    return " or ".join(dict.fromkeys(f"{low:g} to {high:g}" for low, high in ranges))
