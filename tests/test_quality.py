"""Images that are no good examples, planted among good ones."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from infogan_jax import Config, UserError
from infogan_jax.data import load, survey
from infogan_jax.data.quality import find_bad, find_copies, measure, thumbnail
from infogan_jax.reporting.draw import draw_dropped
from infogan_jax.settings.data import DROPS
from tests.conftest import run_in
from tests.test_folder import config_of

SIDE, COUNT, EACH = 40, 300, 15


def cell(rng):
    """A noisy disc with a nucleus and some spots, in two channels of 16 bits."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2 - rng.uniform(-2, 2, (2, 1, 1))
    radius = rng.uniform(10, 15)
    body = (np.hypot(y * rng.uniform(0.8, 1.2), x) < radius) * rng.uniform(600, 1500)
    spots = np.zeros((SIDE, SIDE))
    for _ in range(rng.integers(3, 8)):
        a, b = rng.integers(12, SIDE - 12, 2)
        spots[a, b] = 6000
    both = np.stack([body * (np.hypot(y, x) < radius / 2), 0.3 * body + spots], -1)
    return rng.poisson(gaussian_filter(both, (1, 1, 0)) + 100).astype(float)


def spoil(image, kind, rng):
    if kind == "blurred":
        return gaussian_filter(image, (2.5, 2.5, 0))
    if kind == "saturated":
        return np.minimum(image * 5, 2500)
    if kind == "empty":
        dirt = rng.poisson(100, image.shape).astype(float)
        dirt[18:21, 18:21] += 2000
        return dirt
    if kind == "edge":
        return np.roll(image, SIDE // 2, axis=0)
    return image + rng.normal(0, 2, image.shape)  # a copy, not to the last bit


@pytest.fixture(scope="module")
def images():
    """COUNT good ones, then EACH of every kind."""
    rng = np.random.default_rng(0)
    good = [cell(rng) for _ in range(COUNT)]
    bad = [
        spoil(good[EACH * k + i], kind, rng)
        for k, kind in enumerate(DROPS)
        for i in range(EACH)
    ]
    return [np.clip(image, 0, 65535).astype(np.uint16) for image in good + bad]


def test_what_was_planted_is_found(images):
    qualities = [measure(image) for image in images]
    thumbnails = np.stack([thumbnail(image) for image in images])
    bad = find_bad(qualities, thumbnails, DROPS)
    assert sum(place < COUNT for place in bad) <= 0.02 * COUNT
    for k, kind in enumerate(DROPS):
        planted = range(COUNT + k * EACH, COUNT + (k + 1) * EACH)
        assert Counter(bad.get(place) for place in planted)[kind] >= 0.9 * EACH, kind
    assert set(find_bad(qualities, thumbnails, ["empty"]).values()) == {"empty"}


def test_quality_by_hand():
    image = np.zeros((12, 12, 1), np.uint8)
    image[4:8, 4:8] = 200
    quality = measure(image)
    assert quality.saturated == pytest.approx(16 / 144)
    assert quality.light == pytest.approx(200 * 16 / 144)
    assert quality.at_border == 0
    image[0] = 200  # the border of 44 pixels, corners counted twice, is 12 and 2 of 48
    assert measure(image).at_border == pytest.approx(14 / 48)
    small = thumbnail(image)
    assert small.shape == (144,) and np.linalg.norm(small) == pytest.approx(1)
    others = np.random.default_rng(0).normal(size=(5, 144)).astype(np.float32)
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    some = np.stack([small, others[0], small, others[1], small])
    assert find_copies(some) == {2: 0, 4: 0}


@pytest.mark.parametrize(("side", "offset", "signal"), [(28, 1000, 20), (64, 2000, 50)])
def test_faint_images_on_an_offset_are_no_copies(side, offset, signal):
    """Also where a side is no multiple of the thumbnail's."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    thumbnails = []
    for _ in range(60):
        a, b = rng.uniform(side / 4, 3 * side / 4, 2)
        disc = np.hypot(y - a, x - b) < rng.uniform(side / 8, side / 4)
        thumbnails.append(thumbnail((offset + signal * disc)[..., None]))
    assert not find_copies(np.stack(thumbnails))


def test_a_folder_without_them(images, tmp_path, logged):
    root = tmp_path / "cells"
    root.mkdir()
    for i, image in enumerate(images[::2]):
        Image.fromarray(image[..., 1]).save(root / f"{i:03d}.png")
    config = config_of(root, tmp_path, drop="blurred, empty,copy")
    data = load(config)
    told = logged()
    assert "; dropped: " in told and " empty" in told
    assert set(data.dropped) <= {"blurred", "empty", "copy"}
    assert len(data.dropped["empty"]) >= 6
    left = len(data.images) + len(data.eval_images)
    assert 0.9 * COUNT / 2 <= left < len(images[::2])
    assert load(config).dropped.keys() == data.dropped.keys()  # from what is prepared
    run = run_in(tmp_path / "run", config, data.images.shape[1:])
    draw_dropped(run, data.dropped)
    assert (run.figures / "dropped.png").exists()


def test_copies_on_both_sides_are_told(tmp_path, logged):
    """Of two plates, whose groups the files name."""
    rng = np.random.default_rng(0)
    root = tmp_path / "cells"
    root.mkdir()
    for i in range(12):
        image = rng.integers(0, 200, (16, 16), np.uint8)
        Image.fromarray(image).save(root / f"A_{i}.png")
        other = image + 1 if i < 3 else rng.integers(0, 200, (16, 16), np.uint8)
        Image.fromarray(other).save(root / f"B_{i}.png")
    survey.tell.cache_clear()
    load(config_of(root, tmp_path, file_pattern="{group}_{id}.png"))
    assert "3 images are equal, or almost, to others, and may be trained on" in logged()


def test_copies_within_a_group_are_not_told(tmp_path, logged):
    rng = np.random.default_rng(0)
    (tmp_path / "cells").mkdir()
    for i in range(12):
        image = rng.integers(0, 200, (16, 16), np.uint8)
        for k in "xy":
            Image.fromarray(image).save(tmp_path / "cells" / f"g{i}_{k}.png")
    survey.tell.cache_clear()
    load(config_of(tmp_path / "cells", tmp_path, file_pattern="{group}_{id}.png"))
    assert "equal" not in logged()


def test_kinds_that_are_none():
    with pytest.raises(UserError, match="--drop=dirty: expected"):
        Config(drop="blurred,dirty")
    assert Config(drop=" blurred ,edge").kinds_to_drop() == ["blurred", "edge"]
