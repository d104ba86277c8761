"""A plate experiment whose truth is known: fields, masks, wells, and what each cell is.

    python -m experiments.plate --output=plate
    python -m infogan_jax.main --mode=cells --images=plate/fields --masks=plate/masks \\
        --file_pattern='{plate}_{well}_f{site}.ome.tif' --metadata=plate/wells.csv \\
        --output=plate/cells
    python -m experiments.plate --output=plate --cells=plate/cells/cells.csv
    ./run.sh experiments/folder.cfg --dataset=folder:plate/cells \\
        --metadata=plate/truth_of_cells.csv --group_by=plate_well --label_by=infected \\
        --normalise_by=plate:treatment=DMSO --steps=1200

Two plates of six wells, of three stains: DNA, actin, and a pathogen that infects half
of the untreated cells and fewer with each dose of a drug. The second plate is 1.6 times
as bright, above another background. The third command joins the truth to the cells, for
measuring only.
"""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from absl import app, flags
from scipy.ndimage import gaussian_filter

from infogan_jax.data import ome

FLAGS = flags.FLAGS
flags.DEFINE_string("output", "plate", "Folder that is written.")
flags.DEFINE_string("cells", "", "cells.csv of --mode=cells, to join the truth to.")
flags.DEFINE_integer("seed", 0, "Of all that is random.")

SIDE, PER_FIELD, SITES = 512, 42, 2  # pixels, cells at most, fields of each well
CHANNELS, PIXEL_SIZE = ("DNA", "actin", "pathogen"), 0.325  # micrometres
EXPOSURES = {"P1": (1.0, 100.0), "P2": (1.6, 300.0)}  # gain, background
DOSES = {"02": 0.0, "03": 1.0, "04": 10.0}  # micromolar, by column of the plate
INFECTED = {0.0: 0.5, 1.0: 0.3, 10.0: 0.1}
_Y, _X = np.mgrid[:SIDE, :SIDE]


class Cell(NamedTuple):
    """What is true of a cell; its number in the mask, and lengths in pixels."""

    label: int
    y: float
    x: float
    radius: float
    nucleus: float  # its radius over the cell's
    infected: bool
    spots: int


def draw_cell(image: np.ndarray, mask: np.ndarray, cell: Cell, rng: Any) -> None:
    """Draws into `image` `[H, W, 3]` and `mask` `[H, W]`."""
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(1, 1.35)
    dy, dx = _Y - cell.y, _X - cell.x
    along = (dx * np.cos(angle) + dy * np.sin(angle)) / stretch
    across = (dy * np.cos(angle) - dx * np.sin(angle)) * stretch
    distance = np.hypot(along, across) / cell.radius
    body, stain = distance < 1, rng.lognormal(0, 0.2)
    mask[body] = cell.label
    image[..., 0] += 2500 * stain * (distance < cell.nucleus)
    image[..., 1] += 1200 * stain * body * (0.6 + 0.6 * distance**4)
    image[..., 2] += 60 * body
    for _ in range(cell.spots):
        turn = rng.uniform(0, 2 * np.pi)
        away = cell.radius * rng.uniform(cell.nucleus, 0.85)
        y, x = dy - away * np.sin(turn), dx - away * np.cos(turn)
        image[..., 2] += 2200 * np.exp(-(x**2 + y**2) / (2 * 1.6**2))


def draw_field(
    gain: float, background: float, infected: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, list[Cell]]:
    """Returns a field uint16 `[H, W, 3]`, its mask uint16 `[H, W]`, and its cells."""
    image, mask = np.zeros((SIDE, SIDE, 3)), np.zeros((SIDE, SIDE), np.uint16)
    cells: list[Cell] = []
    for _ in range(50 * PER_FIELD):
        radius, (y, x) = rng.uniform(12, 20), rng.uniform(0, SIDE, 2)
        near = (np.hypot(y - c.y, x - c.x) < radius + c.radius + 2 for c in cells)
        if len(cells) == PER_FIELD or any(near):
            continue
        is_infected = bool(rng.random() < infected)
        spots = int(rng.integers(3, 8)) if is_infected else 0
        nucleus = rng.uniform(0.35, 0.6)
        cell = Cell(len(cells) + 1, y, x, radius, nucleus, is_infected, spots)
        draw_cell(image, mask, cell, rng)
        cells.append(cell)
    seen = gain * gaussian_filter(image, (1.1, 1.1, 0)) + background
    noisy = rng.poisson(seen) + rng.normal(0, 8, seen.shape)
    return np.clip(noisy, 0, 65535).astype(np.uint16), mask, cells


def write_table(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    rows = list(rows)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_plates(output: Path, seed: int) -> None:
    """Writes fields/, masks/, wells.csv and truth.csv."""
    rng, wells, truth = np.random.default_rng(seed), [], []
    for folder in ("fields", "masks"):
        (output / folder).mkdir(parents=True)
    for plate, exposure in EXPOSURES.items():
        for well in (row + column for row in "BC" for column in DOSES):
            dose = DOSES[well[1:]]
            about = {"Metadata_Plate": plate, "Metadata_Well": well}
            drug = "drug" if dose else "DMSO"
            wells.append(about | {"Metadata_Treatment": drug, "Metadata_Dose": dose})
            for site in range(1, SITES + 1):
                name = f"{plate}_{well}_f{site:02d}"
                image, mask, cells = draw_field(*exposure, INFECTED[dose], rng)
                path = output / "fields" / f"{name}.ome.tif"
                ome.write(path, image, CHANNELS, PIXEL_SIZE)
                tifffile.imwrite(output / "masks" / f"{name}_cp_masks.tif", mask)
                truth += [{"field": path.name} | c._asdict() for c in cells]
    write_table(output / "wells.csv", wells)
    write_table(output / "truth.csv", truth)


def join_truth(output: Path, cells: Path) -> None:
    """Writes truth_of_cells.csv, a row for each cell that was cut out."""
    with (output / "truth.csv").open() as file:
        truth = {(row["field"], row["label"]): row for row in csv.DictReader(file)}
    with cells.open() as file:
        rows = list(csv.DictReader(file))
    keep = "image", "Metadata_Plate", "Metadata_Well", "Metadata_Treatment"
    write_table(
        output / "truth_of_cells.csv",
        (
            {name: row[name] for name in (*keep, "Metadata_Dose")}
            | {"plate_well": row["Metadata_Plate"] + row["Metadata_Well"]}
            | {"infected": truth[row["field"], row["label"]]["infected"]}
            for row in rows
        ),
    )


def main(argv: list[str]) -> None:
    del argv
    output = Path(FLAGS.output)
    if FLAGS.cells:
        join_truth(output, Path(FLAGS.cells))
    else:
        write_plates(output, FLAGS.seed)


if __name__ == "__main__":
    app.run(main)
