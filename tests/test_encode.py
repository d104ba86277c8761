"""What Q reads in a folder of images: --mode=encode, and the sheet of members."""

import csv
import json
import shutil

import jax
import numpy as np
import pytest
import tifffile
from PIL import Image

from infogan_jax import Config, Trained, build_model
from infogan_jax.data import Form, load, read_foreign
from infogan_jax.data.imaging import resize, separate_stains
from infogan_jax.reporting.draw import examples_by_category
from infogan_jax.run.directory import Run


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
    assert [row["image"] for row in rows] == [
        *("00.tif", "01.png"),
        *(f"more/{i:02d}, x.png" for i in range(2, 12)),
    ]
    codes = Run.open(workdir).load_trained()[1].read_codes(digits)
    for name, expected in codes.items():
        found = [float(row[name]) for row in rows]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    category = np.argmax([codes[f"cat {k}"] for k in range(10)], axis=0)
    assert [int(row["cat"]) for row in rows] == category.tolist()
    results = json.loads((workdir / "evaluation.json").read_text())
    classes = results["clustering"]["cat"]["code_to_class"]
    assert [row["class"] for row in rows] == [str(classes[c]) for c in category]


def test_where_the_table_goes_and_what_a_run_lacks(trained, command, folder, tmp_path):
    workdir, alone = tmp_path / "run", tmp_path / "alone"
    shutil.copytree(trained[0], workdir)
    (workdir / "evaluation.json").unlink()
    here = ["--mode=encode", f"--workdir={workdir}"]
    for number in 1, 2:
        code, said, _ = command(*here, f"--input_dir={folder}")
        assert (code, f"{workdir}/codes_00{number}.csv" in said) == (0, True)
    header = (workdir / "codes_001.csv").read_text().splitlines()[0]
    assert header.startswith("image,cat,cat 0,")  # no class is known
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
    found = dict(read_foreign(root, config, (16, 16, 2), data.form))
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
    ((name, image),) = read_foreign(tmp_path, config, (16, 16, 2), Form())
    assert name == "cell.png"
    np.testing.assert_array_equal(image, resize(separate_stains(cell), 16, "pad"))


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
