import numpy as np
import pytest

from infogan_jax.config import UserError
from infogan_jax.regroup import describe, neighbour_pairs, regroup, told_categories


def points_on_curves(seed: int):
    """Three kinds, each along an arc of its own; places on the arcs `[600]`."""
    rng = np.random.default_rng(seed)
    kind = np.repeat(np.arange(3), 200)
    place = np.tile(np.linspace(0, 1, 200), 3)
    angle = 2 * np.pi * (kind + 0.8 * place) / 3
    points = np.stack([np.cos(angle), np.sin(angle)], 1)
    return kind, place, points + rng.normal(0, 0.005, points.shape)


def nearest(points, count=10):
    distance = np.linalg.norm(points[:, None] - points, axis=-1)
    near = distance.argsort(1)[:, 1 : count + 1]
    return np.stack([np.repeat(np.arange(len(points)), count), near.ravel()], 1)


def test_a_style_in_a_wrong_category_is_moved_as_a_whole():
    kind, place, points = points_on_curves(0)
    strange = (kind == 1) & (place > 0.75)
    wrong = np.where(strange, 2, kind)
    # Of its own links most stay within the style; those that leave it tell.
    pairs = nearest(points)
    inside = strange[pairs[:, 0]] & strange[pairs[:, 1]]
    assert inside.sum() > 0.8 * strange[pairs[:, 0]].sum()
    found, moves = regroup(wrong, points, pairs, 3)
    assert (found == kind).mean() > 0.99
    assert {(a, b) for a, b, _ in moves} == {(2, 1)}
    assert sum(images for _, _, images in moves) == (found != wrong).sum()


def test_a_healthy_grouping_stays():
    kind, _, points = points_on_curves(1)
    found, moves = regroup(kind, points, nearest(points), 3)
    assert moves == []
    np.testing.assert_array_equal(found, kind)
    assert describe(moves) == "regrouped 0 images"


def test_unused_categories_and_few_images_do_no_harm():
    kind, _, points = points_on_curves(2)
    found, _ = regroup(kind, points, nearest(points), 7)
    np.testing.assert_array_equal(found, kind)
    few = np.arange(6) % 2
    assert regroup(few, points[:6], nearest(points[:6], 5), 3)[0].shape == (6,)


def test_neighbours_of_images():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 6, 7, 3)).astype(np.uint8)
    pairs = neighbour_pairs(images).reshape(60, 10, 2)
    half = images[:, :, :6].reshape(60, 3, 2, 3, 2, 3).mean((2, 4)).reshape(60, -1)
    expected = nearest(half).reshape(60, 10, 2)
    np.testing.assert_array_equal(np.sort(pairs, 1), np.sort(expected, 1))


def test_moves_in_a_line():
    moves = [(2, 7, 600), (3, 1, 5), (2, 7, 104), (1, 4, 3), (0, 4, 2)]
    assert describe(moves) == (
        "regrouped 714 images: 704 from category 2 to 7, 5 from category 3 to 1, 3 "
        "from category 1 to 4, and 1 more such moves"
    )


def test_a_lost_file_is_told(config, tmp_path, images):
    with pytest.raises(UserError, match="missing or damaged, and needed at step 5"):
        told_categories(5, [None], config, images, tmp_path)
    (tmp_path / "regrouped.npy").write_bytes(b"cut short")
    with pytest.raises(UserError, match="restore it from a copy"):
        told_categories(5, [None], config, images, tmp_path)
