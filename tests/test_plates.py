"""Plates of several brightness: made alike before training, and watched after it."""

import dataclasses

import numpy as np
import pytest
import tifffile

from infogan_jax import Config, UserError
from infogan_jax.data import Form, load, ome, read_foreign
from infogan_jax.data.axes import Reading
from infogan_jax.data.decode import read_file
from infogan_jax.data.listing import Item
from infogan_jax.data.metadata import GROUP, confounded
from infogan_jax.data.splits import held_out
from infogan_jax.evaluation import metadata
from tests.conftest import pixels_by_name
from tests.test_folder import config_of, save

GAIN, OFFSET = 1.6, 300  # of the second plate
WELLS = "B02", "B03", "C02", "C03"
DRUGS = {"02": "DMSO", "03": "drug"}
SIDE, CELLS = 8, 6  # pixels; images of each well


def write_plate(root, name, gain=1.0, offset=0.0):
    """The same cells on each plate; those of the drug are four times as bright."""
    rng = np.random.default_rng(0)
    for well in WELLS:
        treated = 4.0 if DRUGS[well[1:]] == "drug" else 1.0
        for site in range(CELLS):
            image = rng.uniform(100, 1000, (SIDE, SIDE)) * treated
            path = root / f"{name}_{well}_s{site}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, np.round(gain * image + offset).astype(np.uint16))


@pytest.fixture
def plates(tmp_path):
    """Two of them, and the config that reads them."""
    write_plate(tmp_path / "cells", "P1")
    write_plate(tmp_path / "cells", "P2", GAIN, OFFSET)
    rows = [f"{w},{DRUGS[w[1:]]}" for w in WELLS]
    (tmp_path / "wells.csv").write_text("\n".join(["Well,Treatment", *rows]) + "\n")
    return config_of(
        tmp_path / "cells",
        tmp_path,
        file_pattern="{plate}_{well}_s{site}.tif",
        metadata=str(tmp_path / "wells.csv"),
        normalise_by="plate:Metadata_Treatment=DMSO",
        image_size=0,
    )


def by_name(config, root, form):
    """What is read of a folder: name -> image, or why it is none."""
    shape = (SIDE, SIDE, 1)
    return pixels_by_name(read_foreign(root, config, shape, form))


def test_gain_and_offset_of_plates_vanish(plates, tmp_path, logged):
    data = load(plates)
    assert "of plate P1 " in logged()
    assert set(data.form.plate_ranges) == {"P1", "P2"}
    [[low, high]] = data.form.plate_ranges["P1"]
    # Percentiles of control cells only, uniform from 100 to 1,000
    assert low == pytest.approx(100, abs=3) and high == pytest.approx(1000, abs=5)
    images = by_name(plates, tmp_path / "cells", data.form)
    assert len(images) == 2 * len(WELLS) * CELLS
    for name, image in images.items():
        other = images[name.replace("P1", "P2")]
        np.testing.assert_allclose(image, other.astype(float), atol=1)
    assert images["P1_B03_s0.tif"].mean() > images["P1_B02_s0.tif"].mean() + 50
    raw = load(dataclasses.replace(plates, normalise_by=""))
    assert raw.form.plate_ranges is None and len(raw.form.ranges) == 1


def test_another_plate_is_read_by_its_own_controls(plates, tmp_path):
    form = load(plates).form
    write_plate(tmp_path / "new", "P7", 3.0, 50)
    # The run's own table may have columns that another one lacks
    known = by_name(plates, tmp_path / "cells", form)
    plates = dataclasses.replace(plates, group_by="donor", label_by="infected")
    images = by_name(plates, tmp_path / "new", form)
    for name, image in images.items():
        same = known[name.replace("P7", "P1")]
        np.testing.assert_allclose(image, same.astype(float), atol=1)
    write_plate(
        tmp_path / "again", "P1", 2.0, 30
    )  # of that name, in another experiment
    for name, image in by_name(plates, tmp_path / "again", form).items():
        np.testing.assert_allclose(image, known[name].astype(float), atol=1)
    for path in (tmp_path / "new").glob("P7_?02_*"):
        path.unlink()
    with pytest.raises(UserError, match="P7 has no images of treatment DMSO that"):
        by_name(plates, tmp_path / "new", form)


def test_a_few_cells_of_a_plate_are_read_as_that_plate(plates, tmp_path, logged):
    """Its darkest control cell by itself would be as bright as any."""
    form = load(plates).form
    known = by_name(plates, tmp_path / "cells", form)
    image = np.linspace(150, 250, SIDE**2).reshape(SIDE, SIDE).astype(np.uint16)
    (tmp_path / "few").mkdir()
    tifffile.imwrite(tmp_path / "few" / "P1_B02_s0.tif", image)
    name = "P1_B03_s0.tif"
    (tmp_path / "few" / name).write_bytes((tmp_path / "cells" / name).read_bytes())
    logged()
    few = pixels_by_name(
        read_foreign(tmp_path / "few", plates, (SIDE, SIDE, 1), form, are_own=True)
    )
    np.testing.assert_array_equal(few[name], known[name])
    assert few["P1_B02_s0.tif"].mean() == pytest.approx(255 * 100 / 900, abs=2)
    said = logged()
    assert "rows of --metadata" not in said
    assert "plate P1: read by the ranges of the run's own of that name" in said
    (tmp_path / "few" / "notes.docx").write_bytes(b"text")
    list(read_foreign(tmp_path / "few", plates, (SIDE, SIDE, 1), form, are_own=True))
    assert "notes.docx" in logged()


def test_what_is_known_of_held_out_images_is_kept(plates, logged):
    data = load(plates)
    table = data.eval_metadata
    assert set(table) == {"plate", "well", "site", "treatment", GROUP}
    assert {len(values) for values in table.values()} == {len(data.eval_images)}
    # Whole wells, of both plates and of both treatments
    assert set(table["plate"]) == {"P1", "P2"}
    assert set(table["treatment"]) == {"DMSO", "drug"}
    wells = sorted(set(table[GROUP]))
    assert len(data.eval_images) == CELLS * len(wells)
    told = f"held out: {len(data.eval_images)} of 48 images, all of {', '.join(wells)}"
    assert told in logged()
    for plate, well, group in zip(
        table["plate"], table["well"], table[GROUP], strict=True
    ):
        assert group == f"{plate}/{well}"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"normalise_by": "dose"}, "no column dose; expected one of ['plate', 'site'"),
        ({"normalise_by": "plate:dose=0"}, "no column dose; expected one of"),
        (
            {"normalise_by": "plate:treatment=none"},
            "P1, P2 has no images of treatment none that can be used; expected some of "
            "each; treatment is one of DMSO, drug",
        ),
        ({"normalise_by": "plate:"}, "expected COLUMN or COLUMN:COLUMN=CONTROL"),
        ({"value_range": "0,9"}, "such as plate:treatment=DMSO, and no --value_range"),
    ],
)
def test_plates_that_cannot_be_made_alike(plates, changes, told):
    with pytest.raises(UserError) as error:
        load(dataclasses.replace(plates, **changes))
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def items(rows, *names):
    return [
        Item(
            str(i), (), "", f"{row[0]}{i % 4}", None, dict(zip(names, row, strict=True))
        )
        for i, row in enumerate(rows)
    ]


def test_treatments_of_one_plate_each_are_told():
    rows = [("P1", "DMSO"), ("P2", "drug")] * 8
    [line] = confounded(items(rows, "plate", "treatment"))
    assert line.startswith("every treatment is of one plate only")
    crossed = [(p, d) for p in ("P1", "P2") for d in ("DMSO", "drug")] * 4
    assert not confounded(items(crossed, "plate", "treatment"))
    assert not confounded(items(rows, "plate", "well"))
    # Numbers of each image, of which two plates never have the same one
    areas = [(p, str(i // 4)) for i in range(16) for p in ("P1", "P2")]
    assert not confounded(items([a for a in areas if a], "plate", "area"))


def test_values_of_whole_groups_are_on_both_sides():
    """Twelve wells of two plates; without the column all held out are of one."""
    groups = [f"well{i // 5:02d}" for i in range(60)]
    plate = ["P1" if i // 5 < 6 else "P2" for i in range(60)]
    out = held_out(groups, ["x"] * 60, plate)
    for side in (out, ~out):
        assert {p for p, here in zip(plate, side, strict=True) if here} == {"P1", "P2"}
    assert out.sum() == 10
    of_images = [
        str(i % 2) for i in range(60)
    ]  # not of whole wells: no reason for more
    assert held_out(groups, ["x"] * 60, of_images).sum() == 5


def test_area_under_the_curve_by_hand():
    scores = np.array([[0.0, 0.0, 1.0, 2.0], [4.0, 3.0, 2.0, 1.0]])
    # The second score, with the other sign, tells the values apart
    assert metadata.best_auc(scores, np.array([0, 0, 1, 1]), 2) == (1.0, 0, 0)
    # Of pairs (0, 1), (0, 2), (0, 1), (0, 2) the first image of each is less: ties half
    area, score, value = metadata.best_auc(scores[:1], np.array([0, 1, 0, 1]), 2)
    assert (area, score, value) == (0.625, 0, 0)


def test_what_codes_tell_of_a_column():
    wells = np.repeat(np.arange(12), 20)
    plate, noise = wells // 6, np.random.default_rng(0).normal(size=240)
    groups, column = [f"w{w}" for w in wells], [f"P{p}" for p in plate]
    row = metadata.measures(
        plate, {"a": noise, "b": plate + 0.0}, column, groups, np.random.default_rng(1)
    )
    assert (row["nmi"], row["auc"], row["code"]) == (1.0, 1.0, "b")
    assert row["units"] == 12 and row["nmi_by_chance"] < 0.4
    nothing = metadata.measures(
        wells % 2, {"a": noise}, column, groups, np.random.default_rng(1)
    )
    assert nothing["nmi"] == pytest.approx(0, abs=1e-9) and nothing["auc"] < 0.6
    sites = [str(i % 2) for i in range(240)]  # several in a well: images are shuffled
    row = metadata.measures(None, {"a": noise}, sites, groups, np.random.default_rng(1))
    assert (row["nmi"], row["units"]) == (0.0, 240)
    assert abs(row["auc"] - row["auc_by_chance"]) < 0.1


def test_numbers_of_many_values_become_two_halves():
    areas = [str(x) for x in range(100)]
    halved = metadata.halves(areas)
    assert halved[0] == "up to 49.5" and halved[-1] == "above 49.5"
    assert halved.count("above 49.5") == 50
    for column in (["0.0", "1.0", "10.0"] * 9, [f"w{x}" for x in range(30)]):
        assert metadata.halves(column) == column


def test_other_scales_fields_and_exposures_are_not_read_in_silence(tmp_path, logged):
    """By a form of images of at most 8 pixels of 0.5 um, white at 1,000."""
    form = Form([(0.0, 1000.0)], pixel_size=0.5, longest=SIDE)
    config = Config(dataset="folder:cells")
    rng = np.random.default_rng(0)

    def read(name, top=1000, side=SIDE, pixel_size=0.5):
        for i in range(4):
            image = rng.uniform(0, top, (side, side, 1)).astype(np.uint16)
            (tmp_path / name).mkdir(exist_ok=True)
            ome.write(tmp_path / name / f"{i}.tif", image, (), pixel_size)
        found = pixels_by_name(
            read_foreign(tmp_path / name, config, (SIDE, SIDE, 1), form)
        )
        return found["0.tif"], logged()

    image, told = read("same")
    assert image.shape == (SIDE, SIDE, 1) and "WARNING" not in told
    assert read("coarse", pixel_size=1.0)[0] == "pixels of 1 um; expected 0.5"
    assert read("unknown", pixel_size=None)[0].shape == (SIDE, SIDE, 1)
    reason, _ = read("fields", side=64)
    assert reason.startswith("64 x 64 pixels; expected 8 or less") and "cells" in reason
    _, told = read("bright", top=10_000)
    assert "have 89% or more of their pixels at or above what is white" in told
    _, told = read("dark", top=100)
    assert "half of the images reach 10% or less of what is white to this run" in told


def test_three_channels_of_a_microscope_are_stains(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(12):
        image = rng.integers(0, 60_000, (16, 16, 3)).astype(np.uint16)
        (tmp_path / "stains").mkdir(exist_ok=True)
        ome.write(tmp_path / "stains" / f"{i}.tif", image, (), 0.25)
    config = config_of(tmp_path / "stains", tmp_path, image_size=8)
    data = load(config)
    assert data.channels == ["1", "2", "3"]
    assert data.form.shown_pixel_size == 0.5  # half as many pixels
    named = dataclasses.replace(config, channel_names="DNA, actin,pathogen")
    assert named.names_of_channels() == ["DNA", "actin", "pathogen"]
    load(named)
    with pytest.raises(UserError, match=r"2 names; the images of .* have 3 channels"):
        load(dataclasses.replace(config, channel_names="DNA,actin"))
    for wrong in ("a,,b", "a,a,b", "a=red,b,c"):
        with pytest.raises(UserError, match="expected a name for each channel, none"):
            dataclasses.replace(config, channel_names=wrong)


def test_images_of_several_channels_keep_names_and_units(tmp_path):
    images = np.random.default_rng(0).uniform(0, 9, (3, 8, 10, 2)).astype(np.float32)
    ome.write(tmp_path / "x.tif", images, ["DNA", "actin"], 0.25)
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        assert file.series[0].axes == "TCYX"
        assert 'Name="actin"' in file.ome_metadata
    for t in (1, 2, 3):
        found = read_file(tmp_path / "x.tif", Reading(t=str(t)))
        np.testing.assert_array_equal(found.pixels, images[t - 1])
        assert (found.channels, found.pixel_size) == (("DNA", "actin"), 0.25)


def test_plates_of_bytes_are_read_as_they_were_trained_on(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(12):
        for plate, gain in (("A", 1.0), ("B", 0.5)):
            image = (gain * rng.integers(0, 200, (SIDE, SIDE))).astype(np.uint8)
            save(tmp_path / "cells" / f"{plate}_{i}.png", image)
    config = config_of(
        tmp_path / "cells",
        tmp_path,
        file_pattern="{plate}_{id}.png",
        normalise_by="plate",
        image_size=0,
    )
    data = load(config)
    found = pixels_by_name(
        read_foreign(tmp_path / "cells", config, (SIDE, SIDE, 1), data.form)
    )
    assert len(found) == 24 and not any(isinstance(x, str) for x in found.values())
    assert found["B_0.png"].max() > 200  # half as bright in its file
    save(tmp_path / "cells" / "C_0.png", rng.integers(0, 50, (SIDE, SIDE), np.uint8))
    found = pixels_by_name(
        read_foreign(tmp_path / "cells", config, (SIDE, SIDE, 1), data.form)
    )
    assert found["C_0.png"].max() > 200  # a plate that came later


def test_controls_that_are_all_left_out_are_told(plates, tmp_path):
    for path in (tmp_path / "cells").glob("P2_?02_*"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="P2 has no images of treatment DMSO that can"):
        load(dataclasses.replace(plates, max_invalid_percent=50.0))


def test_labels_stay_on_both_sides_whatever_columns_there_are():
    for seed in range(40):
        rng = np.random.default_rng(seed)
        groups = [f"g{i // 2:02d}" for i in range(192)]
        labels = [f"l{i // 12}" for i in range(192)]
        lots = np.repeat(rng.integers(0, 20, 96), 2).astype(str).tolist()
        out = held_out(groups, labels, lots)
        sides = [
            {x for x, o in zip(labels, out, strict=True) if o == s} for s in (0, 1)
        ]
        assert sides[0] == sides[1] == set(labels)
        assert out.mean() <= 1 / 3
    wells = [f"w{i // 4:04d}" for i in range(16_000)]
    columns = [[f"{c}{i // 64}" for i in range(16_000)] for c in "abcd"]
    assert held_out(wells, ["x"] * 16_000, *columns).mean() <= 1 / 3  # at once


def test_the_size_of_pixels_is_that_of_all_files_or_none(tmp_path):
    rng = np.random.default_rng(0)

    def data_of(name, sizes, shape=(16, 16), **changes):
        (tmp_path / name).mkdir()
        for i, size in enumerate(sizes):
            image = rng.integers(0, 60_000, (*shape, 1)).astype(np.uint16)
            ome.write(tmp_path / name / f"{i}.tif", image, (), size)
        return load(config_of(tmp_path / name, tmp_path, image_size=8, **changes)).form

    assert data_of("one", [0.5] * 10).pixel_size == 0.5
    mixed = data_of("two", [0.5, 0.65] * 5)
    assert (mixed.pixel_size, mixed.shown_pixel_size) == (None, None)
    wide = {"shape": (16, 32)}
    assert data_of("pad", [0.5] * 10, **wide).shown_pixel_size == 2.0
    assert data_of("crop", [0.5] * 10, **wide, resize_mode="crop").shown_pixel_size == 1
    form = data_of("stretch", [0.5] * 10, **wide, resize_mode="stretch")
    assert form.shown_pixel_size is None


def test_stains_become_colours_where_one_says_so(tmp_path):
    planes = np.random.default_rng(0).integers(0, 60_000, (3, 16, 16)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", planes, photometric="rgb", planarconfig=2)
    for channels, names, count in (("", ("1", "2", "3"), 3), ("rgb", (), 3)):
        found = read_file(tmp_path / "x.tif", Reading(), channels)
        assert (found.channels, found.pixels.shape[-1]) == (names, count)
    assert read_file(tmp_path / "x.tif", Reading(), "grey").channels == ()
