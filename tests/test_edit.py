"""This image, but of another code: inversion, and --mode=edit."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
from PIL import Image

from infogan_jax import Config, build_model
from infogan_jax.apps import edit
from infogan_jax.core import inversion
from infogan_jax.core.latents import split_latents


@pytest.fixture(scope="module")
def untrained():
    """A model whose pictures differ by their latents, and its state."""
    config = Config(
        codes="cat:3,uniform:2,noise:6", architecture="residual", base_channels=4
    )
    model = build_model(config, (16, 16, 1))
    state = model.init(jax.random.key(0))
    # A new G is almost constant: its first layer is made louder
    state = state.replace(ema=jax.tree.map(lambda x: 3 * x, state.ema))
    return model, state


def test_a_reading_is_linear():
    rng = np.random.default_rng(0)
    features, matrix = rng.normal(size=(50, 4)), rng.normal(size=(4, 2))
    latents = features @ matrix + 3
    mean, offset = features.mean(0), latents.mean(0)
    x, y = features - mean, latents - offset
    found = inversion.NoiseReading(
        *map(jnp.asarray, (mean, jnp.linalg.lstsq(x, y)[0], offset, 0.0))
    )
    np.testing.assert_allclose(found.read(features), latents, rtol=1e-4)


def test_a_picture_is_found_again(untrained):
    """Of pictures of G: the descent takes the start's error to a small part of it."""
    model, state = untrained
    latents = model.sample_latents(jax.random.key(1), 4)
    images = model.generate(state, latents)
    reading = inversion.learn_reading(model, state, jax.random.key(2))
    assert reading.matrix.shape == (reading.mean.shape[0], model.latent_dim)

    def error(found):
        return float(((inversion.render(model, state, found) - images) ** 2).mean())

    start, found = (
        inversion.invert(model, state, images, reading, steps) for steps in (1, 200)
    )
    variance = float(((images - images.mean(0)) ** 2).mean())
    assert error(found) < 0.1 * variance
    assert error(found) < 0.5 * error(start)
    again = inversion.invert(model, state, images, reading, 200)
    jax.tree.map(np.testing.assert_array_equal, again, found)
    category = split_latents(model.spec, found.latents)["cat"]
    read = model.infer_codes(state, images)["cat"]
    np.testing.assert_array_equal(category, read)  # Q's stays


def test_normalisations_are_modulated_image_by_image():
    """Like a G whose own last normalisation has another scale and shift."""
    config = Config(codes="cat:3,noise:6", architecture="mnist_half")
    model = build_model(config, (28, 28, 1))
    state = model.init(jax.random.key(0))
    latents = model.sample_latents(jax.random.key(1), 2)
    *first, last = inversion._no_modulation(model, state, latents)
    assert [x.shape[:2] for x in (*first, last)] == 3 * [(2, 2)]
    plain = model.generate(state, latents)
    unchanged = inversion.Inverted(latents, (*first, last))
    np.testing.assert_allclose(
        inversion.render(model, state, unchanged), plain, atol=1e-6
    )
    last = last.at[1, 0].set(-0.5).at[1, 1].set(0.3)  # of the second image
    pictures = inversion.render(
        model, state, inversion.Inverted(latents, (*first, last))
    )
    np.testing.assert_allclose(pictures[0], plain[0], atol=1e-6)
    norm = state.ema["params"]["BatchNorm_2"]
    norm["scale"], norm["bias"] = 0.5 * norm["scale"], 0.5 * norm["bias"] + 0.3
    np.testing.assert_allclose(
        pictures[1], model.generate(state, latents)[1], atol=1e-5
    )
    assert np.abs(pictures[1] - plain[1]).max() > 1e-3


def test_the_descent_is_a_gradient(untrained):
    """Against differences; categories stay, and the mean picture explains nothing."""
    model, state = untrained
    latents = model.sample_latents(jax.random.key(4), 2)
    images = model.generate(state, model.sample_latents(jax.random.key(5), 2))
    mean = images.mean(0)
    inverted = inversion.Inverted(latents)
    gradient, left = inversion.descent(model, state, inverted, images, mean)
    gradient = gradient.latents
    assert (gradient[:, :3] == 0).all()
    made = model.generate(state, latents)
    error, whole = (((x - images) ** 2).mean((1, 2, 3)) for x in (made, mean))
    np.testing.assert_allclose(left, error / whole, rtol=1e-5)

    def loss(moved):
        made = model.generate(state, moved)
        size = (moved[:, 3:] ** 2).sum() / model.latent_dim
        return ((made - images) ** 2).mean((1, 2, 3)).sum() + 1e-4 * size

    for i in (3, 5, 9):
        step = jnp.zeros_like(latents).at[0, i].set(1e-2)
        slope = (loss(latents + step) - loss(latents - step)) / 2e-2
        np.testing.assert_allclose(gradient[0, i], slope, rtol=2e-2, atol=1e-6)


def test_images_do_not_disturb_each_other(untrained):
    model, state = untrained
    images = model.generate(state, model.sample_latents(jax.random.key(3), 4))
    reading = inversion.learn_reading(model, state, jax.random.key(2))
    together = inversion.invert(model, state, images, reading, 20)
    alone = inversion.invert(model, state, images[:2], reading, 20)
    for some, whole in zip(*map(jax.tree.leaves, (alone, together)), strict=True):
        np.testing.assert_allclose(whole[:2], some, atol=1e-3)


def test_what_is_unexplained_and_nearest():
    images = np.zeros((2, 4, 4, 1))
    images[1] = 1
    again, mean = images.copy(), np.full((4, 4, 1), 0.5)
    again[1] = 0.75  # a sixteenth beside a quarter
    np.testing.assert_allclose(edit.unexplained(images, again, mean), [0, 0.25])
    real = np.stack([np.full((4, 4, 1), value) for value in (0.2, 0.9)])
    place, distance = edit.nearest(images, real)
    assert place.tolist() == [0, 1]
    np.testing.assert_allclose(distance, [0.2, 0.1], atol=1e-5)
    assert edit._own_distance(real) == pytest.approx(0.7)


def test_correlation_is_of_each_channel():
    rng = np.random.default_rng(0)
    image = rng.random((1, 5, 4, 3))
    other = np.stack([2 * image[..., 0] + 1, -image[..., 1], np.ones((1, 5, 4))], -1)
    np.testing.assert_allclose(edit.correlation(image, other), [[1, -1, 0]])


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images") / "digits"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        pixels = rng.integers(0, 256, (28, 28), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"nonsense")
    return folder


def test_images_that_cannot_be_made_again_are_shown_not_edited(
    trained, command, digits, tmp_path
):
    """Noise is nothing that G makes."""
    out = tmp_path / "edited"
    here = ["--mode=edit", f"--workdir={trained[0]}", f"--images={digits}"]
    code, said, error = command(*here, "--fix=cat=2", f"--output={out}")
    assert (code, error) == (0, "")
    assert "left out: broken.png" in said
    assert "not edited: 0.png: the generator cannot make it again" in said
    assert f"0 of 3 images edited, in {out}" in said
    with (out / "edited.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["edited"] for row in rows] == ["False"] * 3
    assert all(float(row["unexplained"]) > 0.25 for row in rows)
    assert [row["r_channel_1"] for row in rows] == ["1.0"] * 3  # as they were
    assert "class" not in rows[0]
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.width > 5 * 28
    assert not list(out.glob("*.tif"))


def test_images_that_are_edited_are_files(
    trained, command, digits, tmp_path, monkeypatch
):
    monkeypatch.setattr(edit, "_MOST_UNEXPLAINED", 1e9)
    out = tmp_path / "edited"
    here = ["--mode=edit", f"--workdir={trained[0]}", f"--images={digits}"]
    flags = ["--fix=cat=2,uniform1=1", "--keep_residual", f"--output={out}"]
    code, said, error = command(*here, *flags)
    assert (code, error) == (0, "")
    assert "3 of 3 images edited" in said
    images = [tifffile.imread(out / f"{i}.tif") for i in range(3)]
    assert images[0].shape == (28, 28)
    assert all(image.min() >= 0 and image.max() <= 1 for image in images)


def test_a_table_of_other_images_leaves_the_run_its_own(
    trained, command, tmp_path, monkeypatch
):
    asked = []
    monkeypatch.setattr(
        edit, "edit_folder", lambda run, *more: asked.append((run.config, more[-1]))
    )
    here = ["--mode=edit", f"--workdir={trained[0]}", "--fix=cat=2"]
    code, said, error = command(*here, f"--metadata={tmp_path}/other.csv")
    assert (code, said, error) == (0, "", "")
    [(config, table)] = asked
    assert (config.metadata, table) == ("", f"{tmp_path}/other.csv")


@pytest.mark.long
def test_another_network_says_what_edited_images_are(
    trained, classifier, command, digits, tmp_path, monkeypatch
):
    monkeypatch.setattr(edit, "_MOST_UNEXPLAINED", 1e9)
    out = tmp_path / "edited"
    here = ["--mode=edit", f"--workdir={trained[0]}", f"--images={digits}"]
    asked = [f"--eval_classifier={classifier[0]}", "--fix=cat=2", f"--output={out}"]
    code, _, error = command(*here, *asked)
    assert (code, error) == (0, "")
    with (out / "edited.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    for row in rows:
        assert {row["class"], row["class_edited"]} <= set("0123456789")
        assert -1 <= float(row["r_channel_1"]) < 1


def test_what_cannot_be_edited(trained, command, digits, tmp_path):
    here = ["--mode=edit", f"--workdir={trained[0]}"]
    given = f"--images={digits}"
    for flags, told in (
        ([given], "--fix: expected CODE=VALUE"),
        ([given, "--fix=cat=10"], "--fix=cat=10"),
        ([given, "--fix=uniform1=-1..1"], "expected one value of each code, no range"),
        (["--fix=cat=1"], "--images=: is no folder"),
        ([f"--images={tmp_path}/none", "--fix=cat=1"], "is no folder"),
        ([given, "--fix=cat=1", f"--output={digits}"], "exists already"),
        ([f"--images={digits}/..", "--fix=cat=1", "--member=7"], "expected one of [0]"),
    ):
        code, _, error = command(*here, *flags)
        assert (code, error.count("\n")) == (2, 1), error
        assert told in error
