import json

import jax
import networkx
import numpy as np
import pytest
from scipy import sparse

from infogan_jax import Config, Trained, UserError, build_model, kept
from infogan_jax.data import Data
from infogan_jax.data.stored import StoredImages
from infogan_jax.evaluation import Subject, kinds, load_evaluator
from infogan_jax.evaluation import neighbours as module
from infogan_jax.evaluation.kinds import suggest
from infogan_jax.evaluation.neighbours import (
    communities,
    deformed_distance,
    half_size,
    merge_communities,
    mergers,
    neighbour_graph,
    neighbours,
)
from infogan_jax.evaluation.results import from_json
from infogan_jax.reporting.kinds import draw_kinds
from infogan_jax.training import pseudo_labels as labelling
from infogan_jax.training import runs
from infogan_jax.training.pseudo_labels import (
    align,
    describe,
    place_communities,
    propagate,
    pseudo_labels,
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder of what can be made again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kept, "_WORTH", 0)
    return tmp_path / "cache" / "infogan_jax"


def bars(places):
    """Images of a bar, `[N, 20, 20, 1]`; each place is (row, column, slant)."""
    images = np.zeros((len(places), 20, 20, 1), np.uint8)
    for image, (row, column, slant) in zip(images, places, strict=True):
        for k in range(10):
            distance = np.arange(20) - column - slant * k
            image[row + k, :, 0] = 255 * np.exp(-(distance**2))
    return images


def links(*parts):
    """Each (a, b, n) is n links between communities of ten images each, a to b."""
    matrix = sparse.lil_array((60, 60))
    for a, b, n in parts:
        matrix[10 * a, 10 * b] = matrix[10 * b, 10 * a] = n
    return matrix.tocsr()


SIX = np.repeat(np.arange(6), 10)


def test_a_style_goes_where_its_links_lead():
    """Community 2 is a style of kind 1 in category 0; and 3 leads there by 2 alone."""
    found = links((0, 1, 3), (2, 0, 2), (2, 4, 7), (3, 0, 1), (3, 2, 4), (4, 5, 9))
    home = np.array([0, 0, 0, 0, 1, 1])
    placed = place_communities(home[SIX], SIX, found, 3)
    np.testing.assert_array_equal(placed[::10], [0, 0, 1, 1, 1, 1])
    again = place_communities(placed, SIX, found, 3)
    np.testing.assert_array_equal(again, placed)


def test_what_is_most_of_a_category_stays():
    """Community 4 is all of category 1 but for a few, and knows category 0 alone."""
    found = links((0, 1, 8), (1, 2, 3), (2, 3, 3), (4, 0, 7), (5, 0, 1), (5, 4, 2))
    community = np.where(np.arange(60) > 52, 5, np.minimum(SIX, 4))
    categories = np.where(community < 4, 0, 1)
    placed = place_communities(categories, community, found, 2)
    np.testing.assert_array_equal(placed, categories)


def test_communities_merge_by_their_shares_of_links():
    """Rare 4 and 5 are kinds of their own; 0 to 3 are styles of a frequent one."""
    # Links within, of the six communities, and between them
    found = links(*((k, k, n) for k, n in enumerate((90, 90, 90, 90, 9, 9))))
    found += links((0, 1, 30), (2, 3, 30), (1, 2, 20), (3, 4, 2), (4, 5, 2))
    for size, expected in (
        (6, [0, 1, 2, 3, 4, 5]),
        (5, [0, 0, 1, 2, 3, 4]),  # 30/120 + 30/140, where 4 and 5 have 2/13 + 2/11
        (4, [0, 0, 1, 1, 2, 3]),
        (3, [0, 0, 1, 1, 2, 2]),
        (2, [0, 0, 0, 0, 1, 1]),
    ):
        merged = merge_communities(SIX, found, size)
        np.testing.assert_array_equal(merged[::10], expected)
    assert [m[:2] for m in mergers(SIX, found)] == [
        (0, 1),
        (2, 3),
        (4, 5),
        (6, 7),  # what the first two mergers made
        (9, 8),
    ]
    shares = [m.shared for m in mergers(SIX, found)]
    assert shares[0] == pytest.approx(30 / 120 + 30 / 140)
    assert suggest(mergers(SIX, found)) == 3  # .46 .46 .34, then .15 .09
    few = merge_communities(SIX, found, 9)
    np.testing.assert_array_equal(few, SIX)


def test_divisions_take_the_numbers_of_what_they_overlap():
    categories = np.array([2, 2, 2, 0, 0, 1])
    first = np.array([0, 0, 0, 1, 1, 1])
    second = np.array([2, 2, 1, 1, 1, 1])
    a, b = align([first, second], categories, 3)
    np.testing.assert_array_equal(a, [2, 2, 2, 0, 0, 0])
    np.testing.assert_array_equal(b, [2, 2, 0, 0, 0, 0])
    assert align([], categories, 3) == []


def test_a_community_is_where_most_of_its_images_are():
    categories = np.array([0, 0, 2, 1, 1])
    none = sparse.csr_array((5, 5))
    placed = place_communities(categories, np.array([0, 0, 0, 1, 1]), none, 4)
    np.testing.assert_array_equal(placed, [0, 0, 0, 1, 1])


def test_communities():
    """Four rings of 30 images, a single link from each to the next."""
    ring = networkx.disjoint_union_all([networkx.circulant_graph(30, [1, 2, 3])] * 4)
    ring.add_edges_from([(0, 30), (31, 60), (61, 90)])
    found = communities(networkx.to_scipy_sparse_array(ring, dtype=float))
    assert found.shape == (module.DIVISIONS, 120)
    for division in found:
        assert len({*division}) == 4
        assert (division.reshape(4, 30) == division[::30, None]).all()


def test_propagation_by_hand():
    """Two images that know only each other, and have other votes."""
    graph = sparse.csr_array(np.array([[0.0, 5.0], [5.0, 0.0]]))
    own = 0.1 / (1 - 0.81)  # of f = .9 (.9 f + .1 (1 - q)) + .1 q, for q = 1
    expected = [[own, 1 - own], [1 - own, own]]
    np.testing.assert_allclose(propagate(np.eye(2), graph), expected, atol=0.03)


def test_weights_of_the_graph_by_hand():
    near = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [2, 1, 0]])
    squared = np.array([[1.0, 2, 4], [1, 3, 9], [2, 3, 16], [4, 9, 16]])
    graph = neighbour_graph(near, squared).toarray()
    np.testing.assert_array_equal(graph, graph.T)
    assert not graph.diagonal().any()
    np.testing.assert_allclose(graph[0, 1], 2 * np.exp(-1 / (2 * 3)))
    np.testing.assert_allclose(graph[0, 3], np.exp(-4 / (2 * 4)) + np.exp(-16 / 8))
    far = np.where(near == 3, 1e6, squared)
    assert (neighbour_graph(near, far).toarray()[3, :3] > 0).all()


def slow_distance(a, b):
    """Pixel by pixel, of grey images of floats."""

    def gradient(x, row, column):
        x = np.pad(x, 10)
        part = x[row + 9 : row + 12, column + 9 : column + 12]
        sobel = np.outer([1, 2, 1], [-1, 0, 1])
        return np.array([(part * sobel).sum(), (part * sobel.T).sum()])

    def at(x, row, column):
        inside = 0 <= row < len(x) and 0 <= column < len(x[0])
        return gradient(x, row, column) if inside else np.zeros(2)

    def around(row, column, u, v):
        differences = (
            at(a, row + i, column + j) - at(b, row + i + u, column + j + v)
            for i in range(-1, 2)
            for j in range(-1, 2)
        )
        return sum((difference**2).sum() for difference in differences)

    play = [(u, v) for u in range(-2, 3) for v in range(-2, 3)]
    return sum(
        min(around(row, column, u, v) for u, v in play)
        for row, column in np.ndindex(a.shape)
    )


def test_distances_of_deformation():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 6, 5, 1)).astype(np.uint8)
    found = deformed_distance(images, images[:1], np.array([[1, 2, 0]]))[0]
    grey = images[..., 0] / 255
    expected = [slow_distance(grey[0], grey[i]) for i in (1, 2, 0)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert found[2] == 0


def test_a_small_shift_is_no_distance():
    images = bars([(4, 6, 0), (5, 8, 0), (4, 12, 0)])
    near, far = deformed_distance(images, images[:1], np.array([[1, 2]]))[0]
    assert near < 1e-6 < 1 < far


def test_neighbours_are_the_nearest_of_the_candidates():
    images = bars([(4, c, s) for c in range(3, 13, 2) for s in (-0.2, 0.0, 0.3)])
    near, squared = neighbours(images)
    assert near.shape == squared.shape == (15, module.LINKS)
    every = np.tile(np.arange(15), (15, 1))
    expected = np.array(deformed_distance(images, images, every))
    np.fill_diagonal(expected, np.inf)
    np.testing.assert_allclose(squared, np.sort(expected, 1)[:, : module.LINKS])
    found = np.take_along_axis(expected, near, 1)
    np.testing.assert_array_equal(found, squared)


def test_half_size():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 6, 7, 3)).astype(np.uint8)
    found = half_size(images).reshape(2, 3, 3, 3)
    assert found[1, 2, 0, 1] == images[1, 4:6, 0:2, 1].mean()


def test_moves_in_a_line():
    before = np.repeat([2, 3, 2, 1, 0, 0], [600, 5, 104, 3, 2, 286])
    after = np.repeat([7, 1, 7, 4, 4, 0], [600, 5, 104, 3, 2, 286])
    assert describe(before, after) == (
        "neighbours moved 714 of 1,000 images: 704 from category 2 to 7, 5 from "
        "category 3 to 1, 3 from category 1 to 4, and 1 more such moves"
    )
    assert describe(after, after) == "neighbours moved 0 of 1,000 images"


@pytest.fixture
def trained(config):
    """A model of bars as large as `images`, hardly trained."""
    model = build_model(config, (28, 28, 1))
    return Trained(model, model.init(jax.random.key(0)))


def test_misread_images_follow_their_neighbours(trained, tmp_path, monkeypatch):
    """Upright bars and level ones; of those that lean some are misread."""
    leaning = [(4, c, s) for c in (4, 5, 6) for s in np.linspace(0, 0.8, 40)]
    upright = bars(leaning)
    images = np.concatenate([upright, upright.transpose(0, 2, 1, 3)])
    kind = np.repeat([0, 1], len(leaning))
    much = np.tile([slant > 0.4 for *_, slant in leaning], 2)
    some = np.random.default_rng(0).random(len(kind)) < 0.4
    misread = (kind == 0) & much & some
    assert misread.sum() > 15
    read = {"cat": np.where(misread, 1, kind)}
    monkeypatch.setattr(Trained, "infer_categories", lambda *_: read)
    path = tmp_path / "labels.npy"
    labels = pseudo_labels(3, [trained], [0], images, path, 3)
    assert (labels.shape, labels.dtype) == ((1, 240), np.int32)
    np.testing.assert_array_equal(labels[0], kind)
    saved = pseudo_labels(5, [trained], [0], images, path, 3)
    np.testing.assert_array_equal(saved, labels)
    # An image outside the graph goes with the nearest in it.
    monkeypatch.setattr(labelling, "_SAMPLE", 120)
    labels = pseudo_labels(3, [trained], [0], images, path, 3)
    np.testing.assert_array_equal(labels[0], kind)


def test_images_in_memory_and_on_disk_few_and_equal(trained, images, tmp_path):
    path = tmp_path / "labels.npy"
    for some in (images, np.zeros_like(images[:9]), images[:2]):
        stored = StoredImages(some.__getitem__, some.shape)
        found, again = (
            pseudo_labels(3, [trained], [0], x, path, 3) for x in (some, stored)
        )
        assert found.shape == (1, len(some))
        np.testing.assert_array_equal(again, found)


def test_neighbours_are_sought_once(trained, images, tmp_path, cache, monkeypatch):
    path = tmp_path / "labels.npy"
    found = pseudo_labels(3, [trained], [0], images, path, 3)
    [path_of_graph] = cache.iterdir()
    whole = path_of_graph.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(module, "neighbours", None)
        again = pseudo_labels(3, [trained], [0], images, path, 3)
        np.testing.assert_array_equal(again, found)
    path_of_graph.write_bytes(whole[:100])
    again = pseudo_labels(3, [trained], [0], images, path, 3)
    np.testing.assert_array_equal(again, found)
    assert path_of_graph.read_bytes() == whole
    pseudo_labels(3, [trained], [0], images[:20], path, 3)
    assert len(list(cache.iterdir())) == 2


def test_a_lost_file_is_told(trained, tmp_path, images):
    arguments = 5, [trained], [0], images, tmp_path / "labels.npy", 3
    with pytest.raises(UserError, match="missing or damaged, and needed at step 5"):
        pseudo_labels(*arguments)
    (tmp_path / "labels.npy").write_bytes(b"cut short")
    with pytest.raises(UserError, match="restore it from a copy"):
        pseudo_labels(*arguments)


def test_kinds_are_counted_and_told(trained):
    """Bars that lean by a little are one kind; three directions are three."""
    upright = bars([(4, c, s) for c in (4, 5, 6) for s in np.linspace(-0.2, 0.2, 20)])
    leaning = bars([(4, c, s) for c in (2, 3, 4) for s in np.linspace(0.8, 1.0, 20)])
    images = np.concatenate([upright, upright.transpose(0, 2, 1, 3), leaning])
    images = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))
    measured = kinds.evaluate(Subject(trained, Data(images, images[:0], None, [])))
    found = measured.overall
    assert found["suggested"] == [3] * module.DIVISIONS
    communities_found = found["communities"]
    assert sum(community["images"] for community in communities_found) == 180
    assert len(found["mergers"]) == len(communities_found) - 1 == len(found["shared"])
    assert all(0 < community["fraction"] <= 1 for community in communities_found)
    assert from_json("kinds", json.loads(json.dumps(measured.to_json()))) == measured
    assert draw_kinds(found).axes[1].get_yticklabels()[0].get_text().count("category")
    few = kinds.evaluate(Subject(trained, Data(images[:99], images[:0], None, [])))
    assert few.reason == "kinds: 99 images, and at least 100 are needed"
    assert load_evaluator("kinds") is kinds.evaluate


@pytest.mark.parametrize(
    ("codes", "step", "warns"),
    [
        ("cat:3:prior=learned", 0, True),
        ("cat:3:prior=learned", 60, True),  # after the last step
        ("cat:3:prior=learned", 1, False),
        ("cat:3", 0, False),
    ],
)
def test_learned_frequencies_want_pseudo_labels(caplog, codes, step, warns):
    config = Config(
        codes=codes,
        architecture="mnist_tiny",
        augment="digits",
        real_mi_weight=1,
        pseudo_label_step=step,
        steps=60,
    )
    runs._warn_of_settings(config, build_model(config, (28, 28, 1)))
    assert ("--pseudo_label_step=1" in caplog.text) == warns
