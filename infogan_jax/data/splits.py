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


def held_out(groups: Sequence[str]) -> np.ndarray:
    """Returns whether each image is held out, bool `[N]`: the same groups every time.

    Args:
        groups: the group of each image; its own name if there are no groups.

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
    return np.array([group in chosen for group in groups])


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
