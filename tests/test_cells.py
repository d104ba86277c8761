"""Cells of segmented fields of view."""

import csv

import numpy as np
import pytest
import tifffile
from PIL import Image

from infogan_jax import Config, UserError
from infogan_jax.apps.cells import Request, cut_cells
from infogan_jax.data import load, objects
from infogan_jax.data.axes import Reading
from infogan_jax.data.decode import read_file
from tests.test_folder import config_of
from tests.test_formats import write_ome

DISCS = [(20, 25, 6), (20, 50, 8), (60, 30, 10), (70, 70, 9), (3, 80, 7), (44, 96, 6)]
INSIDE = 4  # of them do not touch the edge


def field(number: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three channels `[3, 90, 100]`, and a mask whose labels are 1 to 6."""
    rows, columns = np.mgrid[:90, :100]
    image = np.full((3, 90, 100), 100, np.uint16)
    mask = np.zeros((90, 100), np.uint16)
    for label, (y, x, radius) in enumerate(DISCS, 1):
        disc = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
        mask[disc] = label
        for channel in range(3):
            image[channel][disc] = 1000 * (channel + 1) + label + number
    return image, mask


@pytest.fixture
def plate(tmp_path):
    """Two fields in a folder of one treatment each, masks in another folder."""
    for k, drug in enumerate(("DMSO", "drug")):
        image, mask = field(k)
        (tmp_path / "fields" / drug).mkdir(parents=True)
        (tmp_path / "masks").mkdir(exist_ok=True)
        write_ome(tmp_path / "fields" / drug / f"f{k}.ome.tif", image, "CYX")
        Image.fromarray(mask).save(tmp_path / "masks" / f"f{k}_cp_masks.png")
    return tmp_path


def cut(plate, **changes):
    given = {"images": str(plate / "fields"), "masks": str(plate / "masks")}
    cut_cells(Config(), Request(**(given | changes)), plate / "cells")
    with (plate / "cells" / "cells.csv").open() as file:
        return list(csv.DictReader(file))


def test_each_cell_in_a_window_of_one_size(plate, logged):
    rows = cut(plate)
    assert [row["label"] for row in rows] == ["1", "2", "3", "4"] * 2
    told = "8 cells of 2 fields, windows of 24 pixels; left out: 4 at the edge"
    assert told in logged()
    for row, (y, x, radius) in zip(rows, DISCS[:INSIDE] * 2, strict=True):
        found = read_file(plate / "cells" / row["image"], Reading())
        assert found.pixels.shape == (24, 24, 3) and found.pixel_size == 0.325
        assert found.channels == ("DNA", "actin", "pathogen")
        inside = np.argwhere(found.pixels[..., 1] > 1000)
        assert abs(inside.mean(0) - 11.5).max() <= 1  # centred within a pixel
        assert len(inside) == float(row["area"])
        assert abs(len(inside) - np.pi * radius**2) < 2 * radius
        assert (float(row["y"]), float(row["x"])) == (y, x)
    assert float(rows[4]["intensity_mean_actin"]) == 2002
    assert {row["image"].split("/")[0] for row in rows} == {"DMSO", "drug"}


@pytest.mark.parametrize(
    ("surroundings", "others"),
    [("keep", {101, 102}), ("neighbours", {102}), ("all", {102})],
)
def test_what_is_around_a_cell(surroundings, others):
    mask = np.zeros((20, 30), np.int64)
    mask[8:12, 8:12], mask[8:12, 14:18] = 1, 2
    image = np.where(mask > 0, 100 + mask, 10)[..., None].astype(np.uint16)
    image[0, 13] = 50  # outside of all objects
    found = objects.measure(image, mask, ["DNA"])
    crop = list(objects.cut_out(image, mask, found, 21, surroundings))[1]
    assert crop.shape == (21, 21, 1)
    assert set(np.unique(crop[crop > 60])) == others
    assert (50 in crop) == (surroundings != "all")
    assert crop[0, 20] == 10  # beyond the field


def test_windows_in_micrometres(plate):
    rows = cut(plate, window="6.5um")
    found = read_file(plate / "cells" / rows[0]["image"], Reading())
    assert found.pixels.shape == (20, 20, 3)


def test_cells_larger_than_the_window_are_left_out(plate, logged):
    rows = cut(plate, window="16")
    assert {row["label"] for row in rows} == {"1", "2"}
    assert "4 larger than that" in logged()


def test_masks_beside_the_fields(tmp_path, logged):
    for k in range(2):
        image, mask = field(k)
        write_ome(tmp_path / f"f{k}.ome.tif", image, "CYX")
        tifffile.imwrite(tmp_path / f"f{k}_masks.tif", mask)
        np.save(tmp_path / f"f{k}_seg.npy", {"masks": mask}, allow_pickle=True)
    cut_cells(Config(), Request(str(tmp_path)), tmp_path / "cells")
    assert "8 cells of 2 fields" in logged()


def shrink(plate):
    Image.fromarray(field()[1][:80]).save(plate / "masks" / "f0_cp_masks.png")


def empty(plate):
    for k in range(2):
        Image.fromarray(0 * field()[1]).save(plate / "masks" / f"f{k}_cp_masks.png")


def add_second(plate):
    tifffile.imwrite(plate / "masks" / "f0_Cells.tif", field()[1])


def pickle(plate):
    for k in range(2):
        (plate / "masks" / f"f{k}_cp_masks.png").unlink()
        np.save(plate / "masks" / f"f{k}_seg.npy", {"masks": 1}, allow_pickle=True)


@pytest.mark.parametrize(
    ("harm", "changes", "told"),
    [
        (
            shrink,
            {},
            "f0_cp_masks.png: a mask of 100 x 80 pixels; its field has 100 x 90",
        ),
        (empty, {}, "there are no objects in them"),
        (add_second, {}, "f0_Cells.tif and f0_cp_masks.png are both masks of f0"),
        (pickle, {}, r"2 _seg.npy are read by Python's pickle only; save them as PNG"),
        (
            lambda plate: (plate / "masks" / "f1_cp_masks.png").unlink(),
            {},
            "1 of 2 fields have no mask: drug/f1.ome.tif",
        ),
        (None, {"window": "4"}, "--window=4: expected 8 to 1024 pixels"),
        (None, {"window": "wide"}, "--window=wide: expected pixels or micrometres"),
        (None, {"window": "9"}, "no object fits 9 pixels"),
        (None, {"surroundings": "none"}, "--surroundings=none: expected one of"),
        (None, {"masks": "nowhere"}, "--masks=nowhere: is no folder"),
        (None, {"mask_suffix": "_x"}, "has no masks"),
        (lambda plate: (plate / "cells").mkdir(), {}, "exists already"),
    ],
)
def test_fields_and_masks_that_do_not_fit(plate, harm, changes, told):
    if harm:
        harm(plate)
    with pytest.raises(UserError, match=told):
        cut(plate, **changes)
    assert not list(plate.glob(".cells*"))
    assert not (plate / "cells" / "cells.csv").exists()


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (np.zeros((4, 4, 3)), "a mask of 3 channels"),
        (np.full((4, 4, 1), 0.5), "other values than whole numbers"),
        (np.full((4, 4, 1), -1), "other values than whole numbers"),
    ],
)
def test_what_is_no_mask(mask, told):
    with pytest.raises(ValueError, match=told):
        objects.check_mask(mask)


def test_masks_are_not_trained_on(plate):
    for k in range(12):
        Image.fromarray(field(k)[1]).save(plate / "masks" / f"g{k}.png")
    with pytest.raises(UserError, match=r"14 of 14 .* 0 to 6 in large .* label masks"):
        load(config_of(plate / "masks", plate))


def test_fields_that_become_small_are_asked_about(tmp_path, logged):
    for k in range(12):
        image = np.random.default_rng(k).integers(0, 256, (256, 256), np.uint8)
        (tmp_path / "fields").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "fields" / f"{k}.png")
    load(config_of(tmp_path / "fields", tmp_path))
    assert "images of 256 x 256 become 16 x 16: if they are fields of view" in logged()


def test_the_mode(plate, command):
    flags = (f"--images={plate / 'fields'}", f"--masks={plate / 'masks'}")
    code, _, error = command("--mode=cells", *flags)
    assert code == 2 and "--output: expected the name of a folder" in error
    code, out, error = command("--mode=cells", *flags, f"--output={plate / 'cells'}")
    assert (code, error) == (0, "") and "8 cells of 2 fields" in out
