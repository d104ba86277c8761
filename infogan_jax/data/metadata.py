"""What is known of images besides their pixels: plate, well, treatment.

Names of columns are compared without the prefix Metadata_ and in lower case, as
CellProfiler, pycytominer and patterns of file names write them differently.
"""

import csv
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from infogan_jax.data.listing import Item, Listing
from infogan_jax.data.patterns import plain_value
from infogan_jax.errors import UserError, expand_path, first_line, some_of
from infogan_jax.fields import plain_name
from infogan_jax.settings import DataConfig

_KEYS = "plate", "well", "site"  # by which a table is joined, as far as both have them
BATCHES = "plate", "batch"  # columns of which pictures should tell nothing
GROUP = "held-out group"  # a column of ours
_IMAGE = "image"  # the column of a file's name, by which it is joined where it is there


def attach(files: Listing, config: DataConfig) -> Listing:
    """Returns the files with the rows of `config.metadata`, groups and labels by it.

    Raises:
        UserError: the table cannot be read or joined, or has no such column.
    """
    if config.metadata:
        files = _join(files, config)
    items = files.items
    for flag in ("group_by", "label_by"):
        told = getattr(config, flag)
        if not told:
            continue
        column = plain_name(told)
        if not all(column in item.metadata for item in items):
            has = list(columns_of(items))
            raise UserError(f"--{flag}={told}: no such column; expected one of {has}")
        values = [item.metadata[column] or "none" for item in items]
        pairs = list(zip(items, values, strict=True))
        if flag == "group_by":
            items = [item._replace(group=value) for item, value in pairs]
        else:
            items = [item._replace(label=value) for item, value in pairs]
    return files._replace(items=items)


def columns_of(items: Iterable[Item]) -> dict[str, list[str]]:
    """Returns the columns that all images have, with a value for each image."""
    rows = [item.metadata for item in items]
    names = set.intersection(*map(set, rows)) if rows else set()
    return {name: [row[name] for row in rows] for name in sorted(names)}


def confounded(items: Iterable[Item]) -> list[str]:
    """Returns a line for each column whose values are each of one plate only.

    Unless every image, or every well, has a value of its own.
    """
    items = list(items)
    columns, lines = columns_of(items), []
    wells = [item.group for item in items]
    groups = len(set(wells))
    for unit in (name for name in BATCHES if name in columns):
        batch = columns[unit]
        plates = len(set(batch))
        for name, values in columns.items():
            kinds = len(set(values))
            if name in (*BATCHES, *_KEYS, _IMAGE) or not 2 <= 2 * kinds <= groups:
                continue
            if len(set(zip(values, wells, strict=True))) > groups:
                continue  # not of whole wells
            if plates > 1 and len(set(zip(values, batch, strict=True))) == kinds:
                lines.append(
                    f"every {name} is of one {unit} only: what tells {name}s apart "
                    f"cannot be told from what tells one {unit} from another"
                )
    return lines


def _join(files: Listing, config: DataConfig) -> Listing:
    rows = _read_table(config.metadata)
    columns = set(rows[0])
    known = {key for item in files.items[:1] for key in item.metadata}
    keys = [_IMAGE] if _IMAGE in columns else [k for k in _KEYS if k in columns & known]
    if not keys:
        raise UserError(
            f"--metadata={config.metadata}: columns {sorted(columns)}; expected image, "
            f"the files' names, or some of {list(_KEYS)} that --file_pattern names too"
        )
    table: dict[tuple, dict[str, str]] = {}
    for row in rows:
        key = tuple(row[k] for k in keys)
        if key in table and table[key] != row:
            raise UserError(
                f"--metadata={config.metadata}: two rows for "
                f"{_describe(keys, key)}; expected one"
            )
        table[key] = row
    items: list[Item] = []
    without: list[str] = []
    used = set()
    for item in files.items:
        about = item.metadata | {_IMAGE: item.name}
        key = tuple(about[k] for k in keys)
        if key in table:
            used.add(key)
            items.append(item._replace(metadata=table[key] | item.metadata))
        else:
            without.append(item.name)
    if not items:
        raise UserError(
            f"--metadata={config.metadata}: no row is of any file; rows are such as "
            f"{_describe(keys, next(iter(table)))}, files such as {some_of(without)}"
        )
    notes = list(files.notes)
    if unused := [_describe(keys, key) for key in table if key not in used]:
        notes.append(
            f"{len(unused)} rows of --metadata have no file: {some_of(unused)}"
        )
    left_out = files.left_out | dict.fromkeys(without, "no row in --metadata")
    return files._replace(items=items, notes=notes, left_out=left_out)


def _read_table(name: str) -> list[dict[str, str]]:
    path = expand_path("metadata", name)
    try:
        if path.suffix.lower() == ".parquet":
            rows = _read_parquet(path)
        else:
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(
            f"--metadata={name}: {first_line(error)}; expected a table, CSV or Parquet"
        ) from None
    if not rows:
        raise UserError(f"--metadata={name}: has no rows")
    names = Counter(plain_name(str(column)) for column in rows[0])
    if twice := [name for name, count in names.items() if count > 1]:
        raise UserError(f"--metadata={name}: several columns are {twice[0]}")
    if any(None in row or None in row.values() for row in rows):
        raise UserError(f"--metadata={name}: rows of several lengths")
    return [
        {plain_name(k): plain_value(plain_name(k), str(v)) for k, v in row.items()}
        for row in rows
    ]


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    try:
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise ValueError(
            "Parquet, for which pyarrow is needed: pip install "
            "'infogan_jax[microscopy]'"
        ) from None
    rows = parquet.read_table(path).to_pylist()
    return [{k: "" if v is None else v for k, v in row.items()} for row in rows]


def _describe(keys: Iterable[str], values: Iterable[str]) -> str:
    return " ".join(f"{k} {v}" for k, v in zip(keys, values, strict=True))
