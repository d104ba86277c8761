"""Wrong and odd input in bulk: each ends well, or in one line that says what to do.

A thousand of each kind: `./run.sh test tests/test_inputs.py --hypothesis-profile=bulk`.
"""

import contextlib
import dataclasses
import functools
import io
import json
import shutil
import types
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from infogan_jax import Config, UserError, build_model, make_train_step
from infogan_jax.apps.sample import class_to_category, parse_fixed, read_latents
from infogan_jax.core.augment import parse_warp
from infogan_jax.core.latents import latent_dim
from infogan_jax.core.spec import parse_spec
from infogan_jax.data import listing, survey
from infogan_jax.pixels import parse_composite
from infogan_jax.reporting.html import write_page
from infogan_jax.run.checkpoints import Checkpoints
from infogan_jax.run.dataset import check_images
from infogan_jax.run.directory import Run
from tests.conftest import TINY, run_in, run_program

# A file of each example is written to the same place, and that is meant
SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
SPEC = parse_spec("cat:10,uniform:2,bernoulli:1,noise:62")
FIELDS = {field.name: type(field.default) for field in dataclasses.fields(Config)}


def in_pieces(*pieces: str):
    """Texts that are made of pieces, and texts of any kind."""
    made = st.lists(st.sampled_from(pieces), max_size=12).map("".join)
    return st.one_of(made, st.text(max_size=20))


SPECS = in_pieces(
    *("cat", "uniform", "normal", "bernoulli", "noise", "weight", "sigma", "learned"),
    *(":", ":", ":", ",", "=", " ", "10", "2", "62", "0", "-1"),
    *("1e9", "nan", "٣", "\n"),
)
WARPS = in_pieces(
    *("digits", "cells", "clothes", "affine", "none", "rotation", "gain", "flip"),
    *("isolate_channel", "elastic", "blur", ":", ":", "=", "=", "1", "90", "-1"),
    *("nan", "inf", "1e99"),
)
SETTINGS = in_pieces(
    *("cat", "class", "uniform1", "bernoulli", "noise", "three", "=", "=", ",", ".."),
    *("..", "0", "7", "9", "10", "-2", "2", "nan", "inf", "1e30", " ", "٣"),
)
COLOURS = in_pieces("red", "blue", "#", "fff", "hsl(0,100%,50%)", ",", " ", "rgb(1,2,3")


def is_line(text: str) -> bool:
    return bool(text.strip()) and "\n" not in text


@given(SPECS)
@example("cat:1000000000")
def test_specs(text):
    try:
        spec = parse_spec(text)
    except ValueError as error:
        assert is_line(str(error))
    else:
        assert spec and latent_dim(spec) > 0
        assert len({code.name for code in spec}) == len(spec)


@given(WARPS)
def test_warps(text):
    try:
        warp = parse_warp(text)
    except ValueError as error:
        assert is_line(str(error))
    else:
        values = dataclasses.astuple(warp) if warp else ()
        assert all(np.isfinite(value) and value >= 0 for value in values)


@given(SETTINGS)
def test_settings(text):
    try:
        found = parse_fixed(text, SPEC, 5, {"3": 7})
    except UserError as error:
        assert str(error).startswith("--fix=")
    else:
        assert all(np.isfinite(setting.values).all() for setting in found)


@given(COLOURS)
def test_colours(text):
    with contextlib.suppress(ValueError):
        table = parse_composite(text)
        assert table and all(0 <= v <= 255 for _, colour in table for v in colour)


INTEGERS = [
    "-1",
    "0",
    "1",
    "2",
    "3",
    "7",
    "128",
    "2147483648",
    "9" * 30,
    "1e3",
    "",
    "x",
]
REALS = ["-1", "0", "0.5", "1", "1e-320", "1e38", "1e999", "nan", "inf", "", "x"]
WORDS = {
    "codes": SPECS,
    "augment": WARPS,
    "composite": COLOURS,
    "percentiles": in_pieces("0", "1", "99.9", "100", ",", "-1", "nan"),
    "evaluators": in_pieces("clustering", "traversal", "pose_r2", ",", " "),
    "architecture": st.sampled_from(
        ["mnist", "mnist_half", "mnist_tiny", "dcgan", "resnet", "vgg", ""]
    ),
    "gan_loss": st.sampled_from(
        ["hinge", "wasserstein", "rsgan", "relativistic", "least_squares", "x"]
    ),
    "dtype": st.sampled_from(["float32", "bfloat16", "float16", "x"]),
    "file_pattern": in_pieces("{id}", "{channel}", "{", "}", "_", ".png", "*"),
}
# What reads files or joins others is tried elsewhere
ELSEWHERE = {"dataset", "data_dir", "download_url", "group_csv", "baseline"}
ELSEWHERE |= {"filter_classifier", "eval_classifier"}


def values(name: str):
    kind = FIELDS[name]
    odd = {int: INTEGERS, float: REALS, bool: ["true", "false", "2", ""]}.get(kind)
    return (
        st.sampled_from(odd) if odd else WORDS.get(name, in_pieces("x", "0", ",", "="))
    )


@st.composite
def changed_flags(draw):
    names = st.sampled_from(sorted(set(FIELDS) - ELSEWHERE))
    chosen = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    return {name: draw(values(name)) for name in chosen}


@functools.cache
def lowers(text: str) -> None:
    """Shapes of a whole step, if checks let it pass."""
    config = Config.from_json(text)
    sides = (config.image_size or 28,) * 2
    images = np.broadcast_to(np.uint8(0), (config.batch_size, *sides, 1))
    try:
        check_images(config, types.SimpleNamespace(images=images))
    except UserError as error:
        assert is_line(str(error))
        return
    model = build_model(config, images.shape[1:])
    state = jax.eval_shape(model.init, jax.random.key(config.seed))
    batch = jax.ShapeDtypeStruct(images.shape, np.uint8)
    jax.eval_shape(make_train_step(model), state, batch)


@SHARED
@given(changed_flags())
@example({"seed": "2147483648"})
@example({"architecture": "dcgan", "image_size": "7"})
def test_flags(changed):
    given_flags = [f"--{name}={value}" for name, value in changed.items()]
    code, out, error = run_program("--dry_run", "--workdir=run", *given_flags)
    assert not Path("run").exists()
    if code:
        assert (code, error.count("\n")) == (2, 1), error
        return
    text = out[out.index("{") :]
    lowers(text)


LINES = st.one_of(
    st.sampled_from(
        ["--steps=5", "--steps", "--nosuch", "steps=5", "# x", "--flagfile"]
    ),
    st.builds("--{}={}".format, st.sampled_from(sorted(FIELDS)), st.text(max_size=5)),
    st.text(max_size=20),
)


@SHARED
@given(
    st.lists(LINES, max_size=5).map("\n".join).map(str.encode) | st.binary(max_size=40)
)
def test_flagfiles(tmp_path, content):
    path = tmp_path / "odd.cfg"
    path.write_bytes(content)
    code, _, error = run_program(
        "--dry_run", f"--workdir={tmp_path}", f"--flagfile={path}"
    )
    assert code in (0, 2)
    assert error.count("\n") == (code == 2), error


@pytest.mark.parametrize("name", ["no.cfg", "."])
def test_flagfiles_that_are_none(tmp_path, name):
    code, _, error = run_program("--workdir=run", f"--flagfile={tmp_path / name}")
    assert (code, error.count("\n")) == (2, 1), error


# Files of JSON

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner)
    ),
    max_leaves=8,
)


def changed_json(content, draw):
    """With one thing in it, at any depth, exchanged or gone."""
    if (
        not content
        or not isinstance(content, dict | list)
        or draw(st.integers(0, 3)) == 0
    ):
        return draw(JSON)
    content = content.copy()
    keys = list(content) if isinstance(content, dict) else range(len(content))
    key = draw(st.sampled_from(keys))
    if draw(st.integers(0, 4)) == 0:
        del content[key]
    else:
        content[key] = changed_json(content[key], draw)
    return content


@st.composite
def harmed(draw, content: bytes):
    """Bytes with a piece cut out, doubled or exchanged, or cut short."""
    begin = draw(st.integers(0, max(0, len(content) - 1)))
    length = draw(st.integers(0, 64))
    piece = draw(st.binary(max_size=8))
    return draw(
        st.sampled_from(
            [
                content[:begin],
                content[:begin] + content[begin + length :],
                content[:begin] + piece + content[begin + len(piece) :],
                content[: begin + length] + content[begin:],
            ]
        )
    )


@st.composite
def harmed_json(draw, content: bytes):
    """JSON with one thing changed, or bytes that are none any more."""
    changed = changed_json(json.loads(content), draw)
    return draw(st.just(json.dumps(changed).encode()) | harmed(content))


@pytest.fixture(scope="module")
def small_run(trained, tmp_path_factory):
    """The JSON files of a finished run, without its checkpoints."""
    place = tmp_path_factory.mktemp("small") / "run"
    place.mkdir()
    for name in ("config.json", "evaluation.json", "metrics.jsonl"):
        shutil.copy(trained[0] / name, place)
    return place


@SHARED
@given(st.data())
def test_configs(small_run, tmp_path, data):
    original = (small_run / "config.json").read_bytes()
    (tmp_path / "config.json").write_bytes(data.draw(harmed_json(original)))
    code, _, error = run_program(
        "--mode=evaluate", "--dry_run", f"--workdir={tmp_path}"
    )
    assert code in (0, 2)
    assert error.count("\n") == (code == 2), error


@SHARED
@given(st.data())
def test_evaluations(small_run, tmp_path, data):
    original = (small_run / "evaluation.json").read_bytes()
    (tmp_path / "evaluation.json").write_bytes(data.draw(harmed_json(original)))
    classes = [str(digit) for digit in range(10)]
    run = run_in(tmp_path, Config(**TINY), class_names=classes)
    step = json.loads(original)["step"]
    with contextlib.suppress(UserError):
        found = class_to_category(run, run.members[0], step)
        assert set(found) <= set(classes)


@SHARED
@given(st.data())
def test_reports(small_run, tmp_path, data):
    """From files of a run of which one was changed."""
    for path in small_run.iterdir():
        shutil.copy(path, tmp_path)
    name = data.draw(st.sampled_from(["evaluation.json", "metrics.jsonl"]))
    rows = (small_run / name).read_text().splitlines()
    rows = ["\n".join(rows)] if name == "evaluation.json" else rows
    before = "".join(f"{row}\n" for row in rows[:-1]).encode()
    last = data.draw(harmed_json(rows[-1].encode()))
    (tmp_path / name).write_bytes(before + last)
    try:
        write_page(Run.open(tmp_path))
    except UserError as error:
        assert is_line(str(error))


@SHARED
@given(st.data())
def test_files_of_latents(tmp_path, data):
    content = {
        "format": "infogan_jax latents 1",
        "digest": "1",
        "latents": [[0.5] * 3, [1.0] * 3],
    }
    raw = json.dumps(content).encode()
    path = tmp_path / "latents.json"
    path.write_bytes(data.draw(harmed_json(raw) | st.binary(max_size=20)))
    try:
        latents, _ = read_latents(path, 3)
    except UserError as error:
        assert is_line(str(error))
    else:
        assert latents.shape[1] == 3 and np.isfinite(latents).all()


# Images


@functools.cache
def stored(suffix: str) -> bytes:
    """A picture as a file of that kind holds it."""
    import tifffile

    rng = np.random.default_rng(0)
    pixels, out = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8), io.BytesIO()
    if suffix == ".npy":
        np.save(out, pixels)
    elif suffix == ".npz":
        np.savez(out, images=pixels, labels=np.arange(3))
    elif suffix == ".czi":
        return Path(__file__).with_name("data").joinpath("volume.czi").read_bytes()
    elif suffix in listing.MICROSCOPES or suffix in listing.ARRAYS:
        return b"no file of this kind at hand, but for its first bytes" * 3
    elif suffix in (".tif", ".tiff"):
        tifffile.imwrite(out, pixels, compression="zlib")
    else:
        jpeg = dict.fromkeys((".jpg", ".jpeg", ".jfif"), "JPEG")
        kind = jpeg.get(suffix, suffix[1:].upper())
        Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


@SHARED
@given(st.data())
def test_images(tmp_path, data):
    suffix = data.draw(st.sampled_from(sorted(listing.SUFFIXES)))
    path = tmp_path / f"odd{suffix}"
    path.write_bytes(data.draw(harmed(stored(suffix)) | st.binary(max_size=40)))
    item = listing.Item("odd", (path,), "", "")
    look = survey._look(item, Config(), True)
    if isinstance(look, str):
        assert is_line(look)
    else:
        assert min(look.shape[:2]) >= 8 and np.isfinite(look.pixels).all()


# Checkpoints


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A state, and a work directory that has it as steps 1 and 2."""
    state = build_model(Config(**TINY), (28, 28, 1)).init(jax.random.key(0))
    place = tmp_path_factory.mktemp("kept")
    checkpoints = Checkpoints(place, 2)
    for step in (1, 2):
        checkpoints.save(step, state.replace(step=np.int32(step)))
    checkpoints.close()
    return state, place


@settings(parent=SHARED, max_examples=settings.default.max_examples // 3)
@given(st.data())
def test_checkpoints(kept, tmp_path_factory, logged, data):
    state, place = kept
    here = tmp_path_factory.mktemp("harmed") / "run"
    shutil.copytree(place, here)
    newest = here / "checkpoints" / "2"
    files = sorted(p for p in newest.rglob("*") if p.is_file())
    path = data.draw(st.sampled_from(files))
    before = path.read_bytes()
    path.write_bytes(after := data.draw(harmed(before)))
    checkpoints = Checkpoints(here, 2)
    found = checkpoints.restore(state)
    checkpoints.close()
    assert int(found.step) == 2 or "checkpoint 2 is passed over" in logged()
    assert int(found.step) == (2 if after == before else 1) or path.suffix == ".json"
    for one, other in zip(
        jax.tree.leaves(found.variables()),
        jax.tree.leaves(state.variables()),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    shutil.rmtree(here.parent)
