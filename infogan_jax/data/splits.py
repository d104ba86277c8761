"""Which images are held out: whole groups, such as the cells of one slide."""

import csv
import gzip
import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from infogan_jax.errors import UserError

_HOLD_OUT_EVERY = 10  # one group in so many is held out, at least one
_GROUPS_OF_VALUE = 4  # on average, of a column whose values are on both sides


def held_out(
    groups: Sequence[str],
    labels: Sequence[str] | None = None,
    *columns: Sequence[str],
) -> np.ndarray:
    """Returns whether each image is held out, bool `[N]`: the same groups every time.

    Args:
        groups: the group of each image; its own name if there are no groups.
        labels: of each image; where groups have several images, each class that is
            in two groups or more is on both sides then.
        *columns: of metadata, a value for each image; the same is done for them as far
            as they are of whole groups, and of few values.

    Raises:
        UserError: all are of one group.
    """
    names = sorted(set(groups), key=lambda name: hashlib.sha256(name.encode()).digest())
    if len(names) < 2:
        raise UserError(
            f"all {len(groups)} images are of one group ({', '.join(names)}); expected "
            "two or more, of which one is held out; leave groups out"
        )
    chosen = set(names[: max(1, len(names) // _HOLD_OUT_EVERY)])
    if labels is not None and len(names) < len(groups):
        classes = list(_groups_of(labels, groups).values())
        for column in columns:
            has = _groups_of(column, groups)
            are_whole = sum(map(len, has.values())) == len(names)
            if are_whole and len(has) * _GROUPS_OF_VALUE <= len(names):
                classes += has.values()
        _balance(chosen, names, [kinds for kinds in classes if len(kinds) > 1])
    return np.array([group in chosen for group in groups])


def _groups_of(values: Sequence[str], groups: Sequence[str]) -> dict[str, set[str]]:
    """The groups that have images of each value."""
    found: dict[str, set[str]] = {}
    for value, group in zip(values, groups, strict=True):
        found.setdefault(value, set()).add(group)
    return found


def _balance(chosen: set[str], names: list[str], classes: list[set[str]]) -> None:
    """Changes the chosen groups so that each class has some here and some there."""
    for kinds in classes:
        if not kinds & chosen:  # one more, that takes no class from the other side
            ordered = [name for name in names if name in kinds]
            for name in ordered:
                if all(len(k - chosen - {name}) for k in classes):
                    chosen.add(name)
                    break
        elif kinds <= chosen:  # back to the other side, unless a class needs it here
            for name in reversed([name for name in names if name in kinds]):
                if all(len((k & chosen) - {name}) or name not in k for k in classes):
                    chosen.remove(name)
                    break


def one_sided(groups: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Returns the classes that have images of one group only."""
    return sorted(k for k, has in _groups_of(labels, groups).items() if len(has) == 1)


def digest(image: np.ndarray) -> str:
    """Returns the first 16 hexadecimal digits of SHA-256 of the pixels."""
    return hashlib.sha256(image.tobytes()).hexdigest()[:16]


def read_groups(path: Path) -> dict[str, str]:
    """Returns the group of each image by the digest of its pixels.

    Args:
        path: CSV, or CSV.gz, with a header; the first column is the digest of the
            image's pixels as stored, the second one its group.

    Raises:
        UserError: it cannot be read, or is no such table.
    """
    try:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", newline="") as file:
            _, *rows = csv.reader(file)
        if short := [i for i, row in enumerate(rows, start=2) if len(row) < 2]:
            raise ValueError(f"line {short[0]} has no two columns")
        return {row[0]: row[1] for row in rows}
    except (OSError, EOFError, ValueError, csv.Error, zlib.error) as error:
        raise UserError(
            f"--group_csv={path}: {error}; expected a CSV file with a header, then a "
            "row for each image: 16 digits of SHA-256 of its pixels, and its group"
        ) from None
