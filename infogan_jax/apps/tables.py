"""Tables of images that other programs read: CSV, Parquet, and AnnData's h5ad.

Columns are named as CellProfiler, pycytominer and scanpy expect them: `Metadata_*` is
known of an image, `Cells_InfoGAN_*` is what Q says of it, and `Cells_Feature_*` is Q's
last hidden layer, which CSV leaves out. In AnnData the first are `obs`, the second X
and `obsm["X_codes"]`, the third `obsm["X_infogan"]`.
"""

import contextlib
import csv
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from infogan_jax.errors import UserError
from infogan_jax.files import replacing


class Rows(NamedTuple):
    """Some images, a row each."""

    about: dict[str, list]  # name -> what is known of each image: text, numbers
    readings: dict[str, np.ndarray]  # name -> what Q says, float [N]
    features: np.ndarray  # Q's last hidden layer, float [N, F]

    def metadata(self) -> dict[str, list]:
        """Columns `Metadata_*`."""
        return {f"Metadata_{name}": column for name, column in self.about.items()}

    def codes(self) -> dict[str, np.ndarray]:
        """Columns `Cells_InfoGAN_*`."""
        return {
            f"Cells_InfoGAN_{name.replace(' ', '_')}": column.astype(np.float32)
            for name, column in self.readings.items()
        }

    def all_columns(self) -> dict[str, Any]:
        """All columns, features included."""
        features = {
            f"Cells_Feature_{i:03d}": column
            for i, column in enumerate(self.features.T.astype(np.float32))
        }
        return self.metadata() | self.codes() | features


Write = Callable[[Rows], None]


def check_ending(path: Path) -> None:
    """Raises UserError unless a table of the path's ending can be written."""
    if path.suffix.lower() not in _KINDS:
        raise UserError(
            f"--output={path}: expected FILE.csv, FILE.parquet or FILE.h5ad"
        )


@contextlib.contextmanager
def new_table(path: Path) -> Iterator[Write]:
    """Gives what adds rows to a new file, which is there only once all are written.

    Args:
        path: FILE.csv, FILE.parquet or FILE.h5ad. The first two are written as rows
            come; the last one when all have.

    Raises:
        UserError: it has another ending, its package is not installed, or it cannot
            be written.
    """
    check_ending(path)
    kind, packages = _KINDS[path.suffix.lower()]
    for package in packages:
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            raise UserError(
                f"--output={path}: needs {error.name}: pip install "
                "'infogan_jax[tables]'"
            ) from None
    try:
        with replacing(path) as part, kind(part) as write:
            yield write
    except OSError as error:
        raise UserError(
            f"--output={path}: cannot be written ({error.strerror or error})"
        ) from None


@contextlib.contextmanager
def _csv(path: Path) -> Iterator[Write]:
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as out:
        writer = csv.writer(out, lineterminator="\n")

        def write(rows: Rows) -> None:
            metadata, codes = rows.metadata(), rows.codes()
            if not out.tell():
                writer.writerow([*metadata, *codes])
            numbers = ([f"{x:.6g}" for x in column] for column in codes.values())
            writer.writerows(zip(*metadata.values(), *numbers, strict=True))

        yield write


@contextlib.contextmanager
def _parquet(path: Path) -> Iterator[Write]:
    import pyarrow
    from pyarrow import parquet

    with contextlib.ExitStack() as stack:
        writers: list[Any] = []

        def write(rows: Rows) -> None:
            table = pyarrow.table(rows.all_columns())
            if not writers:
                made = parquet.ParquetWriter(path, table.schema)
                writers.append(stack.enter_context(made))
            writers[0].write_table(table)

        yield write


@contextlib.contextmanager
def _h5ad(path: Path) -> Iterator[Write]:
    import anndata
    import pandas

    parts: list[Rows] = []
    yield parts.append
    about = {
        name: [value for rows in parts for value in rows.about[name]]
        for name in parts[0].about
    }
    metadata = Rows(about, {}, np.zeros((0, 0))).metadata()
    codes = [np.stack([*rows.codes().values()], 1) for rows in parts]
    names = [name.removeprefix("Cells_InfoGAN_") for name in parts[0].codes()]
    image = next(iter(metadata))  # the name of each
    obs = pandas.DataFrame(metadata, index=metadata[image]).drop(columns=image)
    anndata.AnnData(
        X=np.concatenate(codes),
        obs=obs,
        var=pandas.DataFrame(index=names),
        obsm={
            "X_infogan": np.concatenate([rows.features for rows in parts]),
            "X_codes": np.concatenate(codes),
        },
    ).write_h5ad(path)


# Ending -> what writes it, and what that imports
_KINDS: dict[str, tuple[Any, tuple[str, ...]]] = {
    ".csv": (_csv, ()),
    ".h5ad": (_h5ad, ("anndata",)),
    ".parquet": (_parquet, ("pyarrow",)),
}
