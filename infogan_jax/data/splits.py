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
_MOST_HELD_OUT = 3  # one group in so many, at most, for columns of metadata
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
        _balance(chosen, names, list(_groups_of(labels, groups).values()), len(names))
    if columns and 2 * len(names) <= len(groups):
        classes = list(_groups_of(labels or groups, groups).values())
        for column in columns:
            has = _groups_of(column, groups)
            are_whole = sum(map(len, has.values())) == len(names)
            if are_whole and len(has) * _GROUPS_OF_VALUE <= len(names):
                classes += has.values()
        _balance(chosen, names, classes, len(names) // _MOST_HELD_OUT)
    return np.array([group in chosen for group in groups])


def _groups_of(values: Sequence[str], groups: Sequence[str]) -> dict[str, set[str]]:
    """The groups that have images of each value."""
    found: dict[str, set[str]] = {}
    for value, group in zip(values, groups, strict=True):
        found.setdefault(value, set()).add(group)
    return found


def _balance(
    chosen: set[str], names: list[str], classes: list[set[str]], most: int
) -> None:
    """Changes the chosen groups so that each class has some here and some there.

    Args:
        chosen: groups that are held out.
        names: of all groups, in the order in which they are chosen.
        classes: the groups of each class; a class of one group is left as it is.
        most: how many groups may be chosen.
    """
    classes = [kinds for kinds in classes if len(kinds) > 1]
    place = {name: i for i, name in enumerate(names)}
    of_group: dict[str, list[int]] = {}
    for i, kinds in enumerate(classes):
        for name in kinds:
            of_group.setdefault(name, []).append(i)
    held = [len(kinds & chosen) for kinds in classes]

    def move(name: str, by: int) -> None:
        (chosen.add if by > 0 else chosen.remove)(name)
        for i in of_group[name]:
            held[i] += by

    for k, kinds in enumerate(classes):
        ordered = sorted(kinds, key=place.__getitem__)
        if not held[k] and len(chosen) < most:
            # One more, that takes no class from the other side
            for name in ordered:
                if all(held[i] + 1 < len(classes[i]) for i in of_group[name]):
                    move(name, 1)
                    break
        elif held[k] == len(kinds):
            # One back to the other side, unless a class needs it here
            for name in reversed(ordered):
                if all(held[i] > 1 for i in of_group[name]):
                    move(name, -1)
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
