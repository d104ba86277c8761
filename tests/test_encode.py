"""What Q reads in a folder of images: --mode=encode, and the sheet of members."""

import csv
import json
import shutil
import sys

import jax
import numpy as np
import pytest
import tifffile
from PIL import Image

from infogan_jax import Config, Trained, UserError, build_model
from infogan_jax.apps import encode, tables
from infogan_jax.data import Form, held_out_names, load, read_foreign
from infogan_jax.data.axes import Reading
from infogan_jax.data.decode import count_in_file, read_file
from infogan_jax.data.imaging import resize, separate_stains
from infogan_jax.reporting.draw import examples_along, examples_by_category
from infogan_jax.run.directory import Run
from tests.conftest import pixels_by_name


@pytest.fixture(scope="module")
def digits(data_dir):
    """Some that a run of the embedded digits never saw, uint8 `[12, 28, 28, 1]`."""
    return load(Config(data_dir=str(data_dir))).eval_images[:12]


@pytest.fixture
def folder(digits, tmp_path):
    """Those as files, and four that cannot be used."""
    root = tmp_path / "digits"
    (root / "more").mkdir(parents=True)
    for i, digit in enumerate(digits[..., 0]):
        if i == 0:  # bytes in wider clothes
            tifffile.imwrite(root / "00.tif", digit.astype(np.uint16))
        elif i == 1:  # grey in colour
            Image.fromarray(digit).convert("RGB").save(root / "01.png")
        else:
            Image.fromarray(digit).save(root / "more" / f"{i:02d}, x.png")
    (root / "broken.png").write_bytes(b"nonsense")
    np.save(root / "bright.npy", np.arange(784, dtype=np.int16).reshape(28, 28))
    np.save(root / "shares.npy", np.linspace(0, 1, 784).reshape(28, 28))
    np.save(
        root / "stack.npy", np.arange(14 * 14 * 5, dtype=np.uint8).reshape(14, 14, 5)
    )
    (root / "notes.txt").write_text("not looked at")
    return root


def test_a_row_per_image(trained, command, folder, digits, tmp_path):
    workdir, out = trained[0], tmp_path / "codes.csv"
    here = ["--mode=encode", f"--workdir={workdir}", f"--input_dir={folder}"]
    code, said, error = command(*here, f"--output={out}")
    assert (code, error) == (0, "")
    assert "left out: broken.png: no image that can be read" in said
    assert "left out: bright.npy: int16 from 0 to 783; expected 0 to 255" in said
    assert "left out: shares.npy: float32 from 0 to 1; expected 0 to 255" in said
    assert "left out: stack.npy: 5 channels cannot become grey" in said
    assert f"12 images in {out}" in said
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["Metadata_Image"] for row in rows] == [
        *("00.tif", "01.png"),
        *(f"more/{i:02d}, x.png" for i in range(2, 12)),
    ]
    codes = Run.open(workdir).load_trained()[1].read_codes(digits)
    for name, expected in codes.items():
        found = [float(row[f"Cells_InfoGAN_{name.replace(' ', '_')}"]) for row in rows]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    category = np.argmax([codes[f"cat {k}"] for k in range(10)], axis=0)
    assert [int(row["Metadata_Category"]) for row in rows] == category.tolist()
    results = json.loads((workdir / "evaluation.json").read_text())
    classes = results["clustering"]["cat"]["code_to_class"]
    found = [row["Metadata_Class"] for row in rows]
    assert found == [str(classes[c]) for c in category]
    assert {row["Metadata_HeldOut"] for row in rows} == {"True"}  # of another folder
    assert [row["Metadata_Label"] for row in rows[:3]] == ["unsorted"] * 2 + ["more"]


def test_where_the_table_goes_and_what_a_run_lacks(trained, command, folder, tmp_path):
    workdir, alone = tmp_path / "run", tmp_path / "alone"
    shutil.copytree(trained[0], workdir)
    (workdir / "evaluation.json").unlink()
    here = ["--mode=encode", f"--workdir={workdir}"]
    for number in 1, 2:
        code, said, _ = command(*here, f"--input_dir={folder}")
        assert (code, f"{workdir}/codes_00{number}.csv" in said) == (0, True)
    header = (workdir / "codes_001.csv").read_text().splitlines()[0]
    assert "Metadata_Category,Cells_InfoGAN_cat_0," in header  # no class is known
    alone.mkdir()
    shutil.copy(folder / "broken.png", alone)
    taken = workdir / "codes_001.csv"
    for flags, told in (
        ([], "--dataset=mnist_5k, whose images have no files"),
        ([f"--input_dir={tmp_path / 'none'}"], "is no folder"),
        ([f"--input_dir={workdir / 'checkpoints'}"], "has no files of images"),
        ([f"--input_dir={alone}"], "none of its images can be used"),
        ([f"--input_dir={folder}", f"--output={taken}"], "exists already"),
        ([f"--input_dir={folder}", f"--output={taken}/x.csv"], "cannot be written"),
        ([f"--input_dir={folder}", "--member=3"], "expected one of [0]"),
    ):
        code, _, error = command(*here, *flags)
        assert (code, error.count("\n")) == (2, 1), error
        assert told in error


def test_a_folder_is_read_as_the_run_saw_it(tmp_path, logged):
    """Deep images of any size by the run's ranges; bytes among them are told."""
    root, rng = tmp_path / "deep", np.random.default_rng(0)
    root.mkdir()
    for i in range(20):
        size = 20 + i
        image = rng.integers(100, 3000, (size, 24, 2), np.uint16)
        tifffile.imwrite(root / f"{i}.tif", np.moveaxis(image, -1, 0))
    config = Config(
        dataset=f"folder:{root}", image_size=16, align="axis", data_dir=str(tmp_path)
    )
    data = load(config)
    np.save(root / "bytes.npy", rng.integers(0, 256, (16, 16, 2), np.uint8))
    np.save(root / "one.npy", rng.integers(0, 3000, (16, 16, 1), np.uint16))
    np.save(root / "shares.npy", rng.random((16, 16, 2), np.float32))
    (root / "old.gif").write_bytes(b"")
    read = read_foreign(root, config, (16, 16, 2), data.form)
    found = pixels_by_name(read)
    assert "passed over: 1 that do not end as images do" in logged()
    assert "uint8 from 0 to 255; expected 10" in found.pop("bytes.npy")
    assert found.pop("one.npy") == "channels: 1; expected 2"
    assert "nothing within 10" in found.pop("shares.npy")
    seen = {image.tobytes() for image in (*data.images, *data.eval_images)}
    assert {image.tobytes() for image in found.values()} == seen


def test_stains_are_taken_apart_before_resizing(tmp_path):
    cell = np.zeros((40, 40, 3), np.uint8)
    cell[8:32, 8:32] = 220, 160, 170
    cell[14:18, 14:18] = 120, 40, 130
    Image.fromarray(cell).save(tmp_path / "cell.png")
    config = Config(dataset="malaria_two_channel", image_size=16)
    (image,) = read_foreign(tmp_path, config, (16, 16, 2), Form())
    assert image.name == "cell.png"
    np.testing.assert_array_equal(
        image.pixels, resize(separate_stains(cell), 16, "pad")
    )


def test_channels_are_those_of_the_runs_own_folder_and_never_guessed(
    trained, command, tmp_path
):
    workdir = tmp_path / "run"
    shutil.copytree(trained[0], workdir)
    saved = json.loads((workdir / "config.json").read_text())
    saved["config"] |= {"dataset": "folder:/x", "file_pattern": "{id}_{channel}.tif"}
    (workdir / "config.json").write_text(json.dumps(saved))
    folder, pixels = tmp_path / "cells", np.random.default_rng(0)
    folder.mkdir()
    for name in ("1_dna", "1_light", "2_light"):
        cell = pixels.integers(0, 256, (28, 28), np.uint8)
        Image.fromarray(cell).save(folder / f"{name}.tif")
    out = tmp_path / "codes.csv"
    here = ["--mode=encode", f"--workdir={workdir}", f"--input_dir={folder}"]
    code, _, error = command(*here, f"--output={out}")
    assert (code, "--channels=NAMES" in error) == (2, True)
    # Whichever there are: both images have that one
    saved |= {"channels": ["light"], "ranges": [[0, 255]]}
    (workdir / "config.json").write_text(json.dumps(saved))
    assert command(*here, f"--output={out}")[0] == 0
    assert [line.split(",")[0] for line in out.read_text().splitlines()[1:]] == [
        "1",
        "2",
    ]


def test_a_coin_is_read_as_a_probability():
    config = Config(codes="bernoulli:1,uniform:1,noise:4", architecture="mnist_tiny")
    model = build_model(config, (28, 28, 1))
    trained = Trained(model, model.init(jax.random.key(0)))
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), np.uint8)
    found = trained.read_codes(images)
    logits = trained.recognize(images)[:, 0]
    np.testing.assert_allclose(found["bernoulli"], jax.nn.sigmoid(logits), 1e-3)
    assert list(found) == ["bernoulli", "uniform"]


def test_examples_along_a_code_are_of_its_quantiles():
    values = np.random.default_rng(0).permutation(100)
    chosen = values[examples_along(values, 10)]
    assert chosen[1].tolist() == list(range(5, 100, 10))
    assert chosen[0].tolist() == list(range(4, 100, 10))
    assert examples_along(np.array([3.0]), 4).tolist() == [[0] * 4] * 2


def test_members_go_from_the_surest_to_the_least_sure():
    shares = np.array([[0.9, 0.1, 0], [0.6, 0.4, 0], [0.2, 0.8, 0], [0.7, 0.3, 0]])
    assert [places.tolist() for places in examples_by_category(shares)] == [
        [0, 3, 1],
        [2],
        [],
    ]
    many = np.linspace([1.0, 0.0], [0.51, 0.49], 1000)
    places, nobody = examples_by_category(many)
    assert (len(places), places[0], places[-1], len(nobody)) == (12, 0, 999, 0)
    assert (np.diff(places) > 0).all()


@pytest.fixture(scope="module")
def rows():
    """Three images, of which Q says two numbers and has four features."""
    rng = np.random.default_rng(0)
    return tables.Rows(
        {"Image": ["a.png", "b.png", "c.png"], "Plate": ["P1", "P1", "P2"]},
        {"cat 0": rng.random(3), "uniform1": rng.normal(size=3)},
        rng.normal(size=(3, 4)).astype(np.float32),
    )


def test_a_table_is_what_was_written(rows, tmp_path):
    """In each form the same numbers, written in two parts."""
    first = tables.Rows(
        {name: column[:2] for name, column in rows.about.items()},
        {name: column[:2] for name, column in rows.readings.items()},
        rows.features[:2],
    )
    last = tables.Rows(
        {name: column[2:] for name, column in rows.about.items()},
        {name: column[2:] for name, column in rows.readings.items()},
        rows.features[2:],
    )
    for ending in ("csv", "parquet", "h5ad"):
        with tables.new_table(tmp_path / f"t.{ending}") as write:
            write(first)
            assert not (tmp_path / f"t.{ending}").exists()
            write(last)
    codes = np.stack([*rows.readings.values()], 1)
    with (tmp_path / "t.csv").open() as file:
        in_csv = list(csv.DictReader(file))
    assert list(in_csv[0]) == [
        *("Metadata_Image", "Metadata_Plate"),
        *("Cells_InfoGAN_cat_0", "Cells_InfoGAN_uniform1"),
    ]
    assert [row["Metadata_Plate"] for row in in_csv] == ["P1", "P1", "P2"]
    found = [[float(x) for x in list(row.values())[2:]] for row in in_csv]
    np.testing.assert_allclose(found, codes, rtol=1e-5)
    parquet = pytest.importorskip("pyarrow.parquet").read_table(tmp_path / "t.parquet")
    assert parquet["Metadata_Image"].to_pylist() == rows.about["Image"]
    np.testing.assert_allclose(parquet["Cells_InfoGAN_uniform1"], codes[:, 1], 1e-6)
    np.testing.assert_array_equal(parquet["Cells_Feature_003"], rows.features[:, 3])
    h5ad = pytest.importorskip("anndata").read_h5ad(tmp_path / "t.h5ad")
    assert list(h5ad.obs_names) == rows.about["Image"]
    assert list(h5ad.obs["Metadata_Plate"]) == rows.about["Plate"]
    assert list(h5ad.var_names) == ["cat_0", "uniform1"]
    np.testing.assert_allclose(h5ad.X, codes, rtol=1e-6)
    np.testing.assert_array_equal(h5ad.obsm["X_infogan"], rows.features)
    np.testing.assert_array_equal(h5ad.obsm["X_codes"], h5ad.X)


def test_cells_as_scportrait_has_them(rows, tmp_path):
    """An AnnData of images, which a folder of files is read from as well."""
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 2), np.uint8)
    path = tmp_path / "cells.h5sc"
    with tables.new_table(path) as write:
        for part in (slice(2), slice(2, 3)):
            some = {name: column[part] for name, column in rows.about.items()}
            codes = {name: column[part] for name, column in rows.readings.items()}
            features = rows.features[part]
            channels = "DNA", "actin"
            write(tables.Rows(some, codes, features, images[part], channels))
    assert list(tmp_path.iterdir()) == [path]
    table = pytest.importorskip("anndata").read_h5ad(path)
    cells = np.moveaxis(images, -1, 1) / 255
    np.testing.assert_allclose(table.obsm["single_cell_images"], cells, atol=1e-3)
    assert table.obsm["single_cell_images"].dtype == np.float16
    assert list(table.var["channels"]) == ["DNA", "actin"]
    assert set(table.var["channel_mapping"]) == {"image_channel"}
    assert list(table.obs["scportrait_cell_id"]) == [0, 1, 2]
    assert list(table.obs["Metadata_Plate"]) == ["P1", "P1", "P2"]
    np.testing.assert_array_equal(table.obsm["X_infogan"], rows.features)
    assert table.uns["single_cell_images"]["n_cells"] == 3
    assert count_in_file(path, Reading()) == 3
    read = read_file(path, Reading(), place=2)
    np.testing.assert_allclose(read.pixels, images[2] / 255, atol=1e-3)
    assert read.channels == ("DNA", "actin")


@pytest.mark.parametrize("ending", ["csv", "parquet", "h5ad"])
def test_a_table_that_is_not_finished_is_none(rows, tmp_path, ending):
    with pytest.raises(KeyError), tables.new_table(tmp_path / f"t.{ending}") as write:
        write(rows)
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_packages_of_tables_are_named(tmp_path, monkeypatch):
    for module, ending in (
        ("anndata", "h5ad"),
        ("anndata", "h5sc"),
        ("pyarrow", "parquet"),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        told = rf"--output=.*\.{ending}: needs {module}: pip install 'infogan_jax\["
        table = tables.new_table(tmp_path / f"t.{ending}")
        with pytest.raises(UserError, match=told), table:
            pass
    told, table = r"t.xlsx: expected FILE.csv, ", tables.new_table(tmp_path / "t.xlsx")
    with pytest.raises(UserError, match=told), table:
        pass


def test_what_is_known_of_a_runs_own_images(tmp_path):
    """Which images training saw, labels, and columns of a table."""
    root, rng = tmp_path / "cells", np.random.default_rng(0)
    about = ["image,Metadata_Plate_Well"]
    for i in range(20):
        label = "ab"[i % 2]
        (root / label).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (28, 28), np.uint8)
        Image.fromarray(pixels).save(root / label / f"{i}.png")
        about.append(f"{label}/{i}.png,W{i // 5}")
    (tmp_path / "wells.csv").write_text("\n".join(about))
    config = Config(
        dataset=f"folder:{root}",
        data_dir=str(tmp_path / "d"),
        metadata=str(tmp_path / "wells.csv"),
        group_by="plate_well",
    )
    data = load(config)
    seen = {image.tobytes() for image in data.images}
    unseen = held_out_names(config)
    assert len(unseen) == len(data.eval_images) == 5  # a well
    read = list(read_foreign(root, config, (28, 28, 1), data.form))
    columns = encode._known(read, True, unseen)
    assert list(columns) == ["Image", "Label", "Group", "HeldOut", "Plate_Well"]
    assert columns["Group"] == columns["Plate_Well"]
    for image, is_out, label in zip(
        read, columns["HeldOut"], columns["Label"], strict=True
    ):
        assert (image.pixels.tobytes() in seen) != is_out
        assert image.name.startswith(label)
