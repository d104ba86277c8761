"""What is known of images besides their pixels, and which of them are held out."""

from pathlib import Path

import numpy as np
import pytest

from infogan_jax import Config, UserError
from infogan_jax.data import listing, load
from infogan_jax.data.metadata import attach
from infogan_jax.data.patterns import Pattern, plain_value, split_channels
from infogan_jax.data.splits import held_out, one_sided
from tests.test_folder import config_of, picture, save

WELLS = ("B02", "B03", "B04", "C02", "C03", "C04")
DRUGS = {"2": "DMSO", "3": "drugX", "4": "drugY"}  # by column


def opera(plate, well, site, channel):
    row, column = ord(well[0]) - 64, int(well[1:])
    name = f"r{row:02d}c{column:02d}f{site:02d}p01-ch{channel}sk1fk1fl1.tiff"
    return f"{plate}/Images/{name}"


NAMES = {
    "opera": opera,
    "imagexpress": lambda plate, well, site, channel: (
        f"{plate}/{plate}_{well}_s{site}_w{channel}1A2B3C4D-{channel}.TIF"
    ),
    "incell": lambda plate, well, site, channel: (
        f"{plate}/{well[0]} - {well[1:]}(fld {site} wv dye{channel} - {channel}).tif"
    ),
}


@pytest.fixture
def plate(tmp_path, request):
    """24 fields of two plates, three channels each, by a vendor's names."""
    root, number = tmp_path / "plate", 0
    for name in ("P1", "P2"):
        for well in WELLS:
            for site in (1, 2):
                number += 1
                for channel in (1, 2, 3):
                    image = picture(10 * number + channel, (12, 12), 1)
                    save(root / NAMES[request.param](name, well, site, channel), image)
    return root


@pytest.mark.parametrize("plate", NAMES, indirect=True)
def test_names_of_vendors(plate, tmp_path, request, logged):
    preset = request.node.callspec.params["plate"]
    if preset == "imagexpress":
        small = picture(1, (3, 3), 1)
        save(plate / "P1" / "P1_B02_s1_w1_thumb5E6F.TIF", small)
    files = listing.find(plate, Config(file_pattern=preset))
    assert len(files.items) == 24 and len(files.channels) == 3
    assert not files.left_out
    wells = {item.metadata["well"] for item in files.items}
    assert wells == set(WELLS)
    assert {item.metadata["site"] for item in files.items} == {"1", "2"}
    groups = {item.group for item in files.items}
    assert len(groups) == (6 if preset == "incell" else 12)  # which names no plate
    assert {item.label for item in files.items} == {"unsorted"}
    out = held_out([item.group for item in files.items])
    sides = [
        {
            item.group
            for item, is_out in zip(files.items, out, strict=True)
            if is_out == side
        }
        for side in (True, False)
    ]
    assert not sides[0] & sides[1] and sides[0]
    data = load(config_of(plate, tmp_path, file_pattern=preset, image_size=0))
    assert data.images.shape[1:] == (12, 12, 3)


def test_names_of_imaging_flow_cytometers(tmp_path):
    for i in range(12):
        for channel in (1, 2, 6):
            save(tmp_path / f"{i}_Ch{channel}.ome.tif", picture(i, (12, 12), 1))
    files = listing.find(tmp_path, Config(file_pattern="ideas"))
    assert len(files.items) == 12 and files.channels == ["1", "2", "6"]


def test_what_says_nothing(tmp_path):
    pattern = Pattern("{id}_{_}.tif", [])
    assert pattern.match(Path("a/7_x-y.tif")).image == "a/7_x-y.tif"
    with pytest.raises(UserError, match=r"expected \{id\}, and no field twice"):
        Pattern("{channel}_{_}.tif", [])


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("well", "b3", "B03"),
        ("well", "AA12", "AA12"),
        ("site", "01", "1"),
        ("drug", " 01", "01"),
    ],
)
def test_values_are_compared_in_one_form(name, value, expected):
    assert plain_value(name, value) == expected


def table(tmp_path, rows, header="Metadata_Plate,Metadata_Well,Metadata_Drug"):
    (tmp_path / "wells.csv").write_text("\n".join([header, *rows]) + "\n")
    return str(tmp_path / "wells.csv")


ROWS = [f"{p},{w[0]}{int(w[1:])},{DRUGS[w[-1]]}" for p in ("P1", "P2") for w in WELLS]


@pytest.mark.parametrize("plate", ["opera"], indirect=True)
def test_a_table_of_wells(plate, tmp_path):
    config = config_of(
        plate,
        tmp_path,
        file_pattern="opera",
        metadata=table(tmp_path, ROWS),
        label_by="Metadata_Drug",
        image_size=0,
    )
    files = attach(listing.find(plate, config), config)
    assert files.items[0].metadata == {
        "plate": "P1",
        "well": "B02",
        "site": "1",
        "drug": "DMSO",
    }
    data = load(config)
    assert data.class_names == ["DMSO", "drugX", "drugY"]
    assert set(data.eval_labels) == {0, 1, 2}  # each on both sides


@pytest.mark.parametrize("plate", ["opera"], indirect=True)
def test_a_table_in_parquet(plate, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    columns = {"Well": list(WELLS), "dose": [0.0, 1.0, 10.0, 0.0, 1.0, None]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "wells.parquet")
    config = Config(
        file_pattern="opera",
        metadata=str(tmp_path / "wells.parquet"),
        group_by="dose",
    )
    files = attach(listing.find(plate, config), config)
    assert {item.group for item in files.items} == {"0.0", "1.0", "10.0", "none"}


def test_a_table_of_images(tmp_path):
    for i in range(12):
        save(tmp_path / "cells" / f"{i}.png", picture(i))
    rows = [f"{i}.png,{i % 3},{'ab'[i % 2]}" for i in range(11)]
    config = Config(
        metadata=table(tmp_path, [*rows, "99.png,1,b"], "image,donor,kind"),
        group_by="donor",
        label_by="kind",
    )
    files = attach(listing.find(tmp_path / "cells", config), config)
    assert [item.group for item in files.items[:3]] == ["0", "1", "1"]  # 0, 1, 10
    assert files.left_out == {"11.png": "no row in --metadata"}
    assert files.notes == ["1 rows of --metadata have no file: image 99.png"]


@pytest.mark.parametrize("plate", ["opera"], indirect=True)
@pytest.mark.parametrize(
    ("rows", "header", "changes", "told"),
    [
        (["1,2"], "a,b", {}, "columns ['a', 'b']; expected image"),
        ([*ROWS, "P1,B02,other"], None, {}, "two rows for plate P1 well B02"),
        (ROWS, None, {"label_by": "dose"}, "--label_by=dose: no such column; expected"),
        (ROWS, None, {"group_by": "dose"}, "--group_by=dose: no such column; expected"),
        (["P9,B02,x"], None, {}, "no row is of any file; rows are such as plate P9"),
        ([], None, {}, "has no rows"),
        (["P1,B02"], None, {}, "rows of several lengths"),
        (["1,2,3"], "Plate,plate,x", {}, "several columns are plate"),
        (
            ROWS,
            None,
            {"label_by": "plate", "group_by": "plate"},
            "2 of 2 classes have images of one group only, such as P1 of P1",
        ),
    ],
)
def test_tables_that_do_not_fit(plate, tmp_path, rows, header, changes, told):
    name = table(tmp_path, rows, *([header] if header else []))
    config = config_of(plate, tmp_path, file_pattern="opera", metadata=name, **changes)
    with pytest.raises(UserError) as error:
        load(config)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_each_class_is_on_both_sides():
    """Ten wells of ten cells; the chosen one has only one of the classes."""
    groups = [f"well{i // 10}" for i in range(100)]
    labels = ["treated" if i // 10 in (0, 1, 2) else "control" for i in range(100)]
    out = held_out(groups, labels)
    for side in (out, ~out):
        assert {label for label, here in zip(labels, side, strict=True) if here} == {
            "treated",
            "control",
        }
    assert out.sum() == 20
    plain = held_out(groups)
    assert plain.sum() == 10 and (out | ~plain).all()
    assert one_sided(["a", "b", "b"], ["x", "x", "y"]) == ["y"]
    np.testing.assert_array_equal(held_out(groups, ["x"] * 100), plain)


@pytest.mark.parametrize("plate", NAMES, indirect=True)
def test_channels_that_nobody_named_are_not_taken_for_images(plate, tmp_path, request):
    preset = request.node.callspec.params["plate"]
    with pytest.raises(UserError) as error:
        load(config_of(plate, tmp_path))
    assert "look like 3 channels of 24 images" in str(error.value)
    assert f"--file_pattern={preset} takes them together" in str(error.value)
    assert len(listing.find(plate, Config(file_pattern="{id}")).items) == 72


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("a{i}_ch{c}.tif", ("{id}_ch{channel}.tif", 8, 2)),
        ("a{i} w{c}.ome.tif", ("{id} w{channel}.ome.tif", 8, 2)),
        ("{i}_Ch{c}.ome.tif", ("ideas", 8, 2)),
        ("a_c{i}.tif", None),  # eight cells
        ("a{i}{c}.tif", None),
    ],
)
def test_names_that_tell_channels_apart(names, expected):
    paths = {Path(names.format(i=i, c=c)) for i in range(8) for c in (1, 2)}
    assert split_channels(sorted(paths)) == expected
