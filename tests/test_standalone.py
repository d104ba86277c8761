"""An export read without infogan_jax: the same images, the same codes."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
import tifffile
from PIL import Image

from infogan_jax import Config
from infogan_jax.apps import onnx_models, standalone
from infogan_jax.apps.export import export
from infogan_jax.apps.serve import make_server
from infogan_jax.data import folder as own
from infogan_jax.data import imaging, load, preparation, read_foreign
from infogan_jax.run.checkpoints import Checkpoints
from infogan_jax.run.directory import Run
from tests.conftest import run_in, run_in_browser


def cell(rng, side, channels=3):
    """A bright ellipse that lies askew, on a noisy background, float `[h, w, C]`."""
    height, width = side
    y, x = np.mgrid[:height, :width] - np.array(side)[:, None, None] / 2
    angle = rng.uniform(0, np.pi)
    y, x = y - rng.uniform(-4, 4), x - rng.uniform(-4, 4)
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y
    across = across - np.sin(angle) * x
    inside = (along / width * 3) ** 2 + (across / height * 4) ** 2 < 1
    image = rng.normal(100, 9, (*side, channels)).clip(0)
    return image + inside[..., None] * rng.uniform(500, 9000, channels)


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A folder of 16-bit cells of several sizes, three channels."""
    root = tmp_path_factory.mktemp("wide")
    rng = np.random.default_rng(0)
    for i in range(100):
        side = tuple(rng.integers(24, 60, 2))
        pixels = cell(rng, side).astype(np.uint16)
        planes = pixels.transpose(2, 0, 1)
        how = {"photometric": "minisblack", "metadata": {"axes": "CYX"}}
        tifffile.imwrite(root / f"{i:03d}.tif", planes, **how)
    return root


def config_of(wide, data_dir, **changes):
    """A small run of that folder."""
    networks = {"architecture": "dcgan", "base_channels": 4, "image_size": 32}
    where = {"dataset": f"folder:{wide}", "data_dir": str(data_dir)}
    return Config(**where, **networks, **changes)


def opened(config, workdir):
    """A run with a state that was never trained, and what it reads of its folder."""
    data = load(config)
    shape = data.images[:1].shape[1:]
    run = run_in(workdir, config, shape, form=data.form, channels=data.channels)
    run.info.with_environment().write(workdir / "config.json")
    state = run.model.init(jax.random.key(0))
    louder = {  # so that Q's output depends on what it sees
        name: getattr(state, name).replace(
            params=jax.tree.map(lambda x: 4 * x, getattr(state, name).params)
        )
        for name in ("discriminator", "recognizer")
    }
    checkpoints = Checkpoints(workdir, 1)
    checkpoints.save(1, state.replace(**louder))
    checkpoints.close()
    return Run.open(workdir)


@pytest.mark.parametrize(
    ("resize_mode", "align"),
    [("auto", "none"), ("pad", "centre"), ("crop", "axis"), ("stretch", "none")],
)
def test_images_become_the_same_bytes(wide, tmp_path, resize_mode, align):
    config = config_of(wide, tmp_path, resize_mode=resize_mode, align=align)
    form = load(config).form
    how = json.loads(json.dumps(preparation(config, (32, 32, 3), form)))
    about = {"height": 32, "preparation": how}
    for image in read_foreign(wide, config, (32, 32, 3), form):
        found = standalone.prepare(standalone.read(wide / image.name), about)
        np.testing.assert_array_equal(found, image.pixels)


def test_bytes_stay_bytes(tmp_path):
    """Colours of 8 bits, read by a run of grey digits."""
    rng = np.random.default_rng(1)
    for i in range(3):
        pixels = (cell(rng, (41, 35)) / 37).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    config, form = Config(dataset="mnist_5k"), own.Form()
    about = {"height": 28, "preparation": preparation(config, (28, 28, 1), form)}
    for image in read_foreign(tmp_path, config, (28, 28, 1), form):
        found = standalone.prepare(standalone.read(tmp_path / image.name), about)
        np.testing.assert_array_equal(found, image.pixels)


@pytest.mark.parametrize("change", sorted(standalone.CHANGES))
def test_changes_are_those_of_the_datasets(change):
    rng = np.random.default_rng(2)
    image = (cell(rng, (40, 40)) / 37).clip(0, 255).astype(np.uint8)
    image[:8] = 0
    ours = getattr(imaging, change)(image)
    np.testing.assert_array_equal(standalone.CHANGES[change](image), ours)
    nothing = np.zeros_like(image)
    ours = getattr(imaging, change)(nothing)
    np.testing.assert_array_equal(standalone.CHANGES[change](nothing), ours)


def test_codes_are_those_of_encode(wide, tmp_path, command):
    codes = "cat:3,gaussian:1,bernoulli:1,noise:5"
    config = config_of(wide, tmp_path / "data", align="centre", codes=codes)
    run = opened(config, tmp_path / "run")
    out = export(run, tmp_path / "out")
    paths = sorted(wide.glob("*.tif"))
    done = subprocess.run(
        [sys.executable, str(out / "recognize.py"), *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
    )
    found = list(csv.DictReader(io.StringIO(done.stdout)))
    table = tmp_path / "codes.csv"
    assert (
        command("--mode=encode", f"--workdir={run.path}", f"--output={table}")[0] == 0
    )
    with table.open() as file:
        expected = {row["Metadata_Image"]: row for row in csv.DictReader(file)}
    assert len(found) == len(expected) == 100
    assert np.std([float(row["cat_0"]) for row in found]) > 0.01
    for row in found:
        ours = expected[Path(row.pop("image")).name]
        for name, value in row.items():
            assert float(value) == pytest.approx(
                float(ours[f"Cells_InfoGAN_{name}"]), abs=1e-4
            )
    assert len(row) == 5


@pytest.mark.long
def test_the_page_reads_raw_images_alike(wide, tmp_path):
    config = config_of(wide, tmp_path / "data", align="axis")
    run = opened(config, tmp_path / "run")
    out = export(run, tmp_path / "out")
    with make_server(out, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        run_in_browser("cells", url, wide)
        server.shutdown()
    found = json.loads((wide / "codes.json").read_text())
    _, trained = run.load_trained()
    images = read_foreign(wide, run.config, run.info.image_shape, run.info.form)
    pixels = {image.name: image.pixels for image in images}
    expected = trained.recognize(np.stack([pixels[name] for name in found]))
    assert len(found) == 100
    assert expected.std(0).min() > 0.01
    np.testing.assert_allclose(list(found.values()), expected, atol=1e-4)


PLAIN = {
    "channels": "",
    "widen_bytes": False,
    "scale_bytes": False,
    "ranges": [[100, 4000]],
    "ranges_of_plates": False,
    "bytes_before_resize": False,
    "change": "",
    "scale": None,
    "resize": "pad",
    "align": "none",
    "window": 16,
}


@pytest.mark.parametrize(
    ("image", "changes", "told"),
    [
        (np.ones((9, 9, 3), np.uint16), {}, "3 channels; expected 1"),
        (np.ones((9, 9, 3), np.uint16), {"channels": "4"}, "no number 4"),
        (np.ones((9, 9, 1), np.uint8), {}, "uint8 from 1 to 1; expected values"),
        (np.full((9, 9, 1), np.nan), {}, "not finite"),
        (np.ones((9, 40, 1), np.uint16), {}, "this is a field of view"),
        (np.ones((9, 9, 1), np.float32), {"ranges": [[0, 255]]}, "float32 from 1 to 1"),
        (np.full((9, 9, 1), 999, np.uint16), {"ranges": [[0, 255]]}, "from 999 to 999"),
    ],
)
def test_images_of_another_kind_are_refused(image, changes, told):
    with pytest.raises(ValueError, match=told):
        standalone.prepare(image, {"height": 8, "preparation": PLAIN | changes})


def test_files_that_would_be_misread_are_refused(tmp_path):
    plain = np.arange(81, dtype=np.uint16).reshape(9, 9)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, plain, photometric="miniswhite")
    with pytest.raises(ValueError, match="white is 0"):
        standalone.read(path)
    tifffile.imwrite(path, np.stack([plain] * 3), metadata={"axes": "ZYX"}, ome=True)
    with pytest.raises(ValueError, match="3 depths or times"):
        standalone.read(path)
    picture = Image.fromarray(plain.astype(np.uint8))
    exif = picture.getexif()
    exif[274] = 6  # to be turned by a quarter
    picture.save(tmp_path / "b.png", exif=exif)
    turned = standalone.read(tmp_path / "b.png")[..., 0]
    np.testing.assert_array_equal(turned, np.rot90(plain, -1))


def test_mistakes_of_the_script_are_one_line(wide, tmp_path):
    shutil.copy(standalone.__file__, tmp_path / "recognize.py")

    def run(*arguments):
        command = [sys.executable, str(tmp_path / "recognize.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    done = run("a.tif")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "expected model.json and recognizer.onnx" in done.stderr

    def mean(images):
        return images.mean((1, 2))[:, :1]

    content = onnx_models.to_onnx(mean, [(8, 8, 3)], "recognizer")
    (tmp_path / "recognizer.onnx").write_bytes(content)
    code = {"name": "brightness", "kind": "uniform", "q_offset": 0, "n_params": 1}
    how = PLAIN | {"ranges": [[0, 9000]] * 3, "window": 0}
    image = {"height": 8, "preparation": how}
    (tmp_path / "model.json").write_text(json.dumps({"image": image, "codes": [code]}))
    for arguments, told in (
        ([], "expected files of images"),
        (["--range=1"], "--range=1: expected --ranges=BLACK:WHITE for each of 3"),
        (["--ranges=1:2"], "--ranges=1:2: expected --ranges=BLACK:WHITE for each of 3"),
        (["--ranges=a:b,1:2,1:2"], "expected --ranges=BLACK:WHITE"),
    ):
        done = run(*arguments)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        assert told in done.stderr
    # A bad file is left out, and said so
    (tmp_path / "bad.tif").write_text("nonsense")
    good = sorted(wide.glob("*.tif"))[0]
    done = run(str(tmp_path / "bad.tif"), str(good))
    assert done.returncode == 1 and f"left out: {tmp_path / 'bad.tif'}" in done.stderr
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert row["image"] == str(good) and 0 < float(row["brightness"]) < 1
    brighter = run("--ranges=0:4500,0:4500,0:4500", str(good)).stdout
    (other,) = csv.DictReader(io.StringIO(brighter))
    assert float(other["brightness"]) > float(row["brightness"])


PREPARED = Path(standalone.__file__).parents[1] / "explorer" / "tests" / "prepared.json"


def prepared_cases():
    """Images before and after, for the page, which does the same in TypeScript."""
    rng = np.random.default_rng(3)
    plain = {
        "channels": "",
        "widenBytes": False,
        "scaleBytes": False,
        "ranges": [[90, 6000], [95, 4000.5]],
        "rangesOfPlates": False,
        "bytesBeforeResize": False,
        "change": "",
        "scale": None,
        "resize": "pad",
        "align": "none",
        "window": 0,
    }
    stained = {"ranges": [[0, 255]] * 3, "bytesBeforeResize": True, "channels": "rgb"}
    stains = stained | {"change": "with_dna_stain", "align": "axis"}
    for name, dtype, side, changes in (
        ("padded", np.uint16, (21, 26), {}),
        ("one scale, centred", np.uint16, (23, 18), {"scale": 0.61, "align": "centre"}),
        ("cropped, turned", np.uint16, (19, 24), {"resize": "crop", "align": "axis"}),
        ("stretched", np.uint16, (11, 9), {"resize": "stretch"}),
        ("numbers of channels", np.uint16, (16, 16), {"channels": "2,1"}),
        ("bytes, widened", np.uint8, (18, 18), {"widenBytes": True}),
        ("bytes, padded", np.uint8, (25, 17), {"ranges": [[0, 255]] * 2}),
        ("a stained cell", np.uint8, (24, 22), stains),
        ("grey", np.uint8, (20, 20), stained | {"channels": "grey"}),
    ):
        how = plain | changes
        channels = 3 if "bytesBeforeResize" in changes else 2
        if how["channels"] == "grey":
            how["ranges"] = [[0, 255]]
        pixels = cell(rng, side, channels) / (1 if dtype == np.uint16 else 40)
        pixels = pixels.clip(0, np.iinfo(dtype).max).astype(dtype)
        names = {key: re.sub("[A-Z]", lambda m: f"_{m[0].lower()}", key) for key in how}
        about = {names[key]: value for key, value in how.items()}
        found = standalone.prepare(pixels, {"height": 16, "preparation": about})
        yield {
            "name": name,
            "how": how,
            "side": 16,
            "raw": {
                "width": side[1],
                "height": side[0],
                "channels": channels,
                "values": pixels.ravel().tolist(),
                "isBytes": dtype == np.uint8,
            },
            "expected": found.ravel().tolist(),
        }


def test_the_page_is_given_the_same_cases():
    """Its own test reads them; to write them anew: UPDATE=1 pytest -k same_cases."""
    cases = list(prepared_cases())
    if os.environ.get("UPDATE"):
        PREPARED.write_text(json.dumps(cases) + "\n")
    assert json.loads(PREPARED.read_text()) == cases
