"""Meters of pictures, on drawn cells with faults made by hand."""

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from experiments.picture_faults import (
    blurred,
    coloured_rims,
    half_the_tints,
    less_high,
    lines,
    mottle,
    moved,
    no_stain,
    round_outlines,
)
from infogan_jax import UserError
from infogan_jax.evaluation import appearance, fidelity, two_sample
from infogan_jax.evaluation.extractors import random_extractor, texture_extractor
from infogan_jax.evaluation.properties import artifacts, properties

COLOURS = "red,lime,blue,black"  # the fourth channel is a stain
SIDE = 32


def cells(n, rng):
    """Round cells of many outlines and tints; every other one has stained spots."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    angle, radius = np.arctan2(y, x), np.hypot(y, x)
    images = []
    for i in range(n):
        outline = SIDE * rng.uniform(0.36, 0.44) * np.ones_like(angle)
        for waves in (2, 3, 5):
            outline += rng.normal(0, 0.5) * np.cos(waves * angle + rng.uniform(0, 7))
        inside = np.clip(outline - radius, 0, 1)[..., None]
        tint = np.array([0.75, 0.6, 0.65]) * rng.uniform(0.85, 1.15, 3)
        light = 1 - 0.15 * (radius / SIDE)[..., None]
        stain = np.zeros((SIDE, SIDE, 1))
        if i % 2:
            place = rng.uniform(-6, 6, 2)
            stain[..., 0] = np.exp(-(np.hypot(y - place[0], x - place[1]) ** 2) / 4)
        texture = rng.normal(0, 0.01, (SIDE, SIDE, 1))
        colour = tint * light * (1 - 0.5 * stain) + texture
        images.append(np.concatenate([colour, 0.9 * stain], -1) * inside)
    return np.clip(images, 0, 1).astype(np.float32)


REAL, OTHER = cells(200, np.random.default_rng(1)), cells(200, np.random.default_rng(2))


@pytest.fixture(scope="module")
def reference():
    return compare(OTHER)


def compare(images):
    sets = [np.round(255 * x).astype(np.uint8) for x in (REAL, images, OTHER)]
    return appearance.compare(*sets, COLOURS)


@pytest.mark.parametrize(
    ("fault", "meter"),
    [
        (lines, "row power"),
        (coloured_rims, "edge chromaticity"),
        (mottle, "interior chromaticity"),
        (blurred, "sharpness"),
        (no_stain, "area of channel 4"),
        (moved, "vertical position"),
        (less_high, "height"),
        (round_outlines, "perimeter"),
        (half_the_tints, "hue"),
    ],
)
def test_each_fault_moves_its_meter(fault, meter, reference):
    row = compare(np.clip(fault(OTHER), 0, 1))[meter]
    assert row["real_reference"] < 0.3
    assert row["distance"] > row["real_reference"] + 0.15, row
    assert reference[meter]["distance"] == reference[meter]["real_reference"]


def test_lines_lie_in_rows_or_columns():
    stripes = np.zeros((1, 32, 32, 1))
    stripes += (0.5 + 0.5 * np.cos(np.pi / 2 * np.arange(32)))[:, None, None]
    found = artifacts(stripes)
    assert found["row power"][0] > 0.99 and found["column power"][0] < 0.01
    turned = artifacts(stripes.transpose(0, 2, 1, 3))
    assert turned["column power"] == pytest.approx(found["row power"])


def test_chromaticity_of_a_disc_with_a_red_rim():
    y, x = np.mgrid[:32, :32] - 15.5
    disc = np.hypot(y, x) < 10
    image = np.where(disc[..., None], [0.5, 0.5, 0.5], 0)[None]
    found = artifacts(image, "red,lime,blue")
    assert found["edge chromaticity"] == pytest.approx(0)
    assert found["interior chromaticity"] == pytest.approx(0)
    # (1/2, 1/4, 1/4) is this far from (1/3, 1/3, 1/3)
    far = np.sqrt((1 / 6) ** 2 + 2 * (1 / 12) ** 2)
    rim = disc & ~binary_erosion(disc)
    image[0][rim] = [0.5, 0.25, 0.25]
    assert artifacts(image, "red,lime,blue")["edge chromaticity"] == pytest.approx(far)
    assert found["perimeter"][0] == pytest.approx(rim.sum() / np.sqrt(disc.sum()))


def test_artifacts_of_empty_and_of_bad_images():
    found = artifacts(np.zeros((2, 16, 16, 3)))
    assert all((values == 0).all() for values in found.values())
    with pytest.raises(UserError, match="expected 16 x 16 or more"):
        artifacts(np.zeros((2, 8, 8, 3)))
    with pytest.raises(UserError, match="not finite"):
        artifacts(np.full((2, 16, 16, 3), np.nan))


def test_relative_distance_by_hand():
    # Moved by 1, where the standard deviation is 2
    assert appearance.relative_distance(
        np.array([0.0, 4, 0, 4]), np.array([1.0, 5])
    ) == pytest.approx(0.5)
    assert appearance.relative_distance(np.ones(3), np.ones(2)) == 0
    assert appearance.relative_distance(np.ones(3), np.zeros(2)) == np.inf
    with pytest.raises(UserError, match="0 and 3 images"):
        appearance.relative_distance(np.zeros(0), np.zeros(3))


def test_texture_sees_what_people_see():
    """Faults that one sees in a single picture, before those that no one sees."""
    extractor = texture_extractor(REAL.shape[1:])
    real = extractor.features(REAL)

    def distance(fault):
        changed = np.clip(fault(OTHER), 0, 1).astype(np.float32)
        return fidelity.frechet_distance(real, extractor.features(changed))

    none = distance(lambda x: x)
    seen = {f.__name__: distance(f) for f in (lines, mottle, blurred)}
    unseen = {f.__name__: distance(f) for f in (moved, less_high, half_the_tints)}
    assert min(seen.values()) > 3 * max(unseen.values()), (none, seen, unseen)
    assert distance(coloured_rims) > 3 * none
    assert distance(no_stain) > 3 * none


def test_texture_features_know_no_place_and_no_constant():
    extractor = texture_extractor((32, 32, 1))
    dark = extractor.features(np.zeros((1, 32, 32, 1), np.float32))
    assert dark.shape == (1, 256)
    np.testing.assert_allclose(dark, np.log(1e-3), rtol=1e-5)
    assert extractor.digest == texture_extractor((32, 32, 1)).digest
    assert extractor.digest != random_extractor((32, 32, 1)).digest


@pytest.mark.long
def test_two_halves_of_real_images_cannot_be_told_apart():
    real, other = (np.round(255 * x).astype(np.uint8) for x in (REAL, OTHER))
    alike = two_sample.tell_apart(real, other, steps=100)
    # 200 test images: four standard deviations of a coin's share are 0.14.
    assert abs(alike["accuracy"] - 0.5) < 0.15 and abs(alike["auc"] - 0.5) < 0.17
    altered = np.round(255 * np.clip(lines(OTHER), 0, 1)).astype(np.uint8)
    assert two_sample.tell_apart(real, altered, steps=100)["accuracy"] > 0.95
    with pytest.raises(UserError, match="expected 100 or more"):
        two_sample.tell_apart(real[:50], altered)


def test_properties_are_those_of_the_traversal():
    assert not set(properties(REAL, COLOURS)) & set(artifacts(REAL, COLOURS))
