"""Tables of images that other programs read: CSV, Parquet, h5ad and h5sc.

Columns are named as CellProfiler, pycytominer and scanpy expect them: `Metadata_*` is
known of an image, `Cells_InfoGAN_*` is what Q says of it, and `Cells_Feature_*` is Q's
last hidden layer, which CSV leaves out. In AnnData's h5ad the first are `obs`, the
second X and `obsm["X_codes"]`, the third `obsm["X_infogan"]`. scPortrait's h5sc is an
AnnData of the images themselves, whose variables are the channels; it has the same
`obs` and `obsm`.
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
    images: np.ndarray | None = None  # as Q sees them, uint8 [N, H, W, C]
    channels: tuple[str, ...] = ()  # names of theirs

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
_CELLS = "obsm/single_cell_images"  # where scPortrait looks for images, [N, C, H, W]


def check_ending(path: Path) -> None:
    """Raises UserError unless a table of the path's ending can be written."""
    if path.suffix.lower() not in _KINDS:
        raise UserError(
            f"--output={path}: expected FILE.csv, FILE.parquet, FILE.h5ad or FILE.h5sc"
        )


@contextlib.contextmanager
def new_table(path: Path) -> Iterator[Write]:
    """Gives what adds rows to a new file, which is there only once all are written.

    Args:
        path: FILE.csv, FILE.parquet, FILE.h5ad or FILE.h5sc. All but images are in
            memory until the last two are written.

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
    import pandas

    parts: list[Rows] = []
    yield parts.append
    names = [name.removeprefix("Cells_InfoGAN_") for name in parts[0].codes()]
    table = _anndata(parts, pandas.DataFrame(index=names))
    table.X = table.obsm["X_codes"]
    table.write_h5ad(path)


@contextlib.contextmanager
def _h5sc(path: Path) -> Iterator[Write]:
    import h5py
    import pandas

    parts: list[Rows] = []
    beside = path.with_name(f"{path.name}.images")  # until AnnData has written the rest
    try:
        with h5py.File(beside, "w") as file:

            def write(rows: Rows) -> None:
                assert rows.images is not None
                _append(file, np.moveaxis(rows.images, -1, 1) / np.float32(255))
                parts.append(rows._replace(images=None))

            yield write
            cells = file[_CELLS]
            names = parts[0].channels or map(str, range(1, cells.shape[1] + 1))
            var = {"channels": [*names], "channel_mapping": "image_channel"}
            places = [str(i) for i in range(cells.shape[1])]
            table = _anndata(parts, pandas.DataFrame(var, index=places))
            table.obs["scportrait_cell_id"] = np.arange(len(cells))
            _describe(cells, table)
            table.write_h5ad(path)
            with h5py.File(path, "a") as whole:
                file.copy(_CELLS, whole["obsm"])
    finally:
        beside.unlink(missing_ok=True)


def _append(file: Any, crops: np.ndarray) -> None:
    """Adds images `[N, C, H, W]` in [0, 1] to those of an open HDF5 file."""
    if _CELLS not in file:
        shape = crops.shape[1:]
        file.create_dataset(
            _CELLS,
            (0, *shape),
            np.float16,
            maxshape=(None, *shape),
            chunks=(1, 1, *shape[1:]),
            compression="lzf",
        )
    cells = file[_CELLS]
    cells.resize(len(cells) + len(crops), 0)
    cells[-len(crops) :] = crops


def _describe(cells: Any, table: Any) -> None:
    """Says of images what scPortrait does, beside them and in `uns`."""
    count, channels, height, width = cells.shape
    about = {
        **{"n_cells": count, "n_channels": channels, "n_masks": 0},
        **{"n_image_channels": channels, "compression": "lzf"},
        **{"image_size_x": height, "image_size_y": width},
    }
    columns = {"channel_names": "channels", "channel_mapping": "channel_mapping"}
    texts = {key: table.var[column] for key, column in columns.items()}
    for key, column in texts.items():
        cells.attrs[key] = [text.encode() for text in column]
    cells.attrs.update(about)
    arrays = {key: column.to_numpy(str) for key, column in texts.items()}
    table.uns["single_cell_images"] = about | arrays
    cells.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})


def _anndata(parts: list[Rows], var: Any) -> Any:
    """An AnnData of all rows; `var` says what its variables are."""
    import anndata
    import pandas

    about = {
        name: [value for rows in parts for value in rows.about[name]]
        for name in parts[0].about
    }
    metadata = Rows(about, {}, np.zeros((0, 0))).metadata()
    image = next(iter(metadata))  # the name of each
    obs = pandas.DataFrame(metadata, index=metadata[image]).drop(columns=image)
    codes = [np.stack([*rows.codes().values()], 1) for rows in parts]
    features = [rows.features for rows in parts]
    obsm = {"X_infogan": np.concatenate(features), "X_codes": np.concatenate(codes)}
    return anndata.AnnData(obs=obs, var=var, obsm=obsm)


# Ending -> what writes it, and what that imports
_KINDS: dict[str, tuple[Any, tuple[str, ...]]] = {
    ".csv": (_csv, ()),
    ".h5ad": (_h5ad, ("anndata",)),
    ".h5sc": (_h5sc, ("anndata",)),
    ".parquet": (_parquet, ("pyarrow",)),
}
