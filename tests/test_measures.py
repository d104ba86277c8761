"""Measures of pictures, against hand-computed numbers and slow, plain versions."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.linalg import sqrtm
from scipy.ndimage import gaussian_filter

from infogan_jax import Config, Trained, UserError, build_model
from infogan_jax.core.augment import Warp, WarpParams
from infogan_jax.data import Data
from infogan_jax.evaluation import (
    Subject,
    clustering,
    code_auc,
    conditional_accuracy,
    explained_variance,
    fidelity,
    traversal,
)
from infogan_jax.evaluation.extractors import Features, make_extractor
from infogan_jax.evaluation.properties import properties
from infogan_jax.evaluation.results import Skipped
from infogan_jax.inference import in_batches
from infogan_jax.pixels import begins_with_rgb, channel_names, panels, with_names
from infogan_jax.reporting.figures import animate, image_grid, save_frame
from infogan_jax.settings import DEFAULT_COMPOSITE


@pytest.fixture(scope="module")
def sets():
    rng = np.random.default_rng(0)
    return rng.normal(size=(120, 5)), rng.normal(0.5, 2.0, size=(90, 5))


def test_fid_of_two_known_gaussians():
    rng = np.random.default_rng(1)
    a = rng.normal(0, 1, (200_000, 2))
    b = rng.normal([3, 0], [2, 1], (200_000, 2))
    # |mu|^2 = 9, and (sigma_a - sigma_b)^2 = 1 along the first axis
    assert fidelity.frechet_distance(a, b) == pytest.approx(10, rel=0.01)
    assert fidelity.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_fid_equals_the_formula_with_a_matrix_root(sets):
    a, b = sets
    ca, cb = np.cov(a.T), np.cov(b.T)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum()
    expected += np.trace(ca + cb - 2 * sqrtm(ca @ cb).real)
    assert fidelity.frechet_distance(a, b) == pytest.approx(expected)


def test_kid_equals_the_double_sum(sets):
    a, b = (x[:12] for x in sets)

    def k(x, y):
        return (x @ y / 5 + 1) ** 3

    pairs = [(i, j) for i in range(12) for j in range(12)]
    own = [sum(k(x[i], x[j]) for i, j in pairs if i != j) / 132 for x in (a, b)]
    cross = sum(k(a[i], b[j]) for i, j in pairs) / 144
    assert fidelity.kernel_distance(a, b) == pytest.approx(sum(own) - 2 * cross)


def test_neighbourhoods_equal_plain_loops(sets):
    real, fake = sets
    k = 3

    def radius(x, i):
        return sorted(np.linalg.norm(x - x[i], axis=1))[k]

    inside = [
        [np.linalg.norm(f - r) <= radius(real, i) for i, r in enumerate(real)]
        for f in fake
    ]
    found = fidelity.neighbourhoods(real, fake, k)
    assert found["precision"] == pytest.approx(np.mean([any(x) for x in inside]))
    assert found["density"] == pytest.approx(np.sum(inside) / k / len(fake))
    assert found["coverage"] == pytest.approx(np.any(inside, axis=0).mean())
    radii = [radius(fake, j) for j in range(len(fake))]
    among = [(np.linalg.norm(fake - r, axis=1) <= radii).any() for r in real]
    assert found["recall"] == pytest.approx(np.mean(among))


def test_the_same_set_has_everything(sets):
    found = fidelity.neighbourhoods(sets[0], sets[0])
    assert found["precision"] == found["recall"] == found["coverage"] == 1


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (np.zeros((90, 4)), "of one extractor"),
        (np.full((90, 5), np.nan), "not finite"),
        (np.zeros((1, 5)), "expected 2 or more"),
        (np.zeros((5, 5)), "expected more than 5"),
    ],
)
def test_features_that_cannot_be_compared(sets, other, told):
    with pytest.raises(UserError, match=told):
        fidelity.measures(sets[0], other)


def test_conditional_accuracy_by_hand():
    asked = np.repeat([0, 1], 4)
    got = np.array([2, 2, 2, 0, 1, 1, 1, 1])
    found = conditional_accuracy.measures(asked, got, [2, 1])
    assert found["per_category"] == [0.75, 1.0]
    assert found["conditional_accuracy"] == pytest.approx(7 / 8)
    assert found["table"] == [[1, 0, 3], [0, 4, 0]]
    assert found["modes"] == 3
    # Half of the pictures have an entropy of H(3/4), the others none.
    assert found["entropy"] == pytest.approx(0.5 * 0.5623, abs=1e-4)


def bar(height=20, width=4):
    image = np.zeros((28, 28, 1), np.float32)
    top, left = (28 - height) // 2, (28 - width) // 2
    image[top : top + height, left : left + width] = 1
    return image


def test_properties_of_a_bar():
    found = {k: v[0] for k, v in properties(bar()[None]).items()}
    assert found["slant"] == pytest.approx(0, abs=1e-6)
    assert found["stroke width"] == pytest.approx(4, rel=0.1)
    assert found["area"] == 80
    assert found["brightness"] == pytest.approx(1)
    assert found["width"] == pytest.approx(4 * np.sqrt((4**2 - 1) / 12))
    assert found["height"] == pytest.approx(4 * np.sqrt((20**2 - 1) / 12))
    assert found["horizontal position"] == found["vertical position"] == 0
    dim = {k: v[0] for k, v in properties(bar(10)[None] * 0.5).items()}
    assert dim["brightness"] == pytest.approx(0.5)  # of whatever size


def test_slant_and_position_have_the_right_sign():
    # The pixel at (row, column) comes from column + 0.3 row: the top moves right.
    params = WarpParams(
        matrix=jnp.array([[[1.0, 0.0], [0.3, 1.0]]]),
        shift=jnp.array([[0.0, -3 / 28]]),
        elastic=None,
        gain=jnp.ones((1, 1)),
        blur=None,
    )
    lean = Warp().apply(jnp.asarray(bar()[None]), params)
    found = properties(np.asarray(lean))
    assert found["slant"][0] == pytest.approx(0.3, abs=0.02)
    assert found["horizontal position"][0] == pytest.approx(3, abs=0.1)


def test_an_empty_image_has_properties_too():
    found = properties(np.zeros((2, 8, 8, 3)))
    assert all(np.isfinite(values).all() for values in found.values())
    assert {"hue", "saturation"} <= set(found)


def test_colours_of_a_composite_say_what_is_measured():
    images = np.zeros((1, 8, 8, 4))
    images[:, 2:6, 2:6] = 1, 0, 0, 1
    found = properties(images, "red,lime,blue,black")
    assert (found["hue"], found["saturation"]) == (0, 1)
    assert found["area of channel 4"] == 16 and "area of channel 1" not in found
    apart = properties(images)
    assert apart["area of channel 1"] == 16 and "hue" not in apart
    assert channel_names(4, "red,#0f0,blue,black")[1:] == ["green", "blue", "channel 4"]
    assert channel_names(2, "red,lime,blue") == ["channel 1", "channel 2"]
    assert channel_names(2, "red,DNA=lime") == ["channel 1", "DNA"]


def test_properties_of_a_stain():
    """A disc of actin, and in it DNA and spots of a pathogen, at any exposure."""
    y, x = np.mgrid[:32, :32] - 15.5
    actin, dna = (gaussian_filter((np.hypot(y, x) < r) * 1.0, 0.7) for r in (12, 6))
    spots = np.zeros((32, 32))
    spots[[8, 15, 22], [15, 22, 10]] = 1
    pathogen = 0.2 * actin + 0.8 * spots
    images = np.stack([dna, actin, pathogen], -1)[None] * 0.9
    colours = "DNA=red,actin=lime,pathogen=blue"
    found = properties(images, colours)
    assert found["area of DNA"] == pytest.approx(np.pi * 6**2, rel=0.05)
    assert found["area of actin"] == pytest.approx(np.pi * 12**2, rel=0.05)
    assert found["intensity of actin"] == pytest.approx(0.9, abs=0.01)
    assert found["spots of pathogen"] == pytest.approx(0.8, abs=0.01)  # of 1 - 0.2
    assert found["spots of DNA"] < 0.1 and found["spots of actin"] < 0.35
    dim = properties(images / 2, colours)
    for name in ("area of DNA", "share of DNA", "spots of pathogen"):
        assert dim[name] == pytest.approx(found[name])
    assert dim["intensity of DNA"] == pytest.approx(found["intensity of DNA"] / 2)


def test_a_scale_bar_is_of_a_round_length():
    images = np.full((4, 16, 16, 1), 255, np.uint8)  # shown four times as large
    plain, barred = image_grid(images, 2), image_grid(images, 2, pixel_size=0.5)
    assert barred.width == plain.width and barred.height > plain.height
    below = np.asarray(barred)[plain.height :, :, 0]
    rows = (below < 100).sum(1)
    assert image_grid(images, 2, pixel_size=5 / (28 / 200)) is not None  # by log10
    # An image is 8 um wide: the bar has 5, of 0.125 um each
    assert rows[3:6].tolist() == [40] * 3


def test_three_stains_are_no_red_green_and_blue():
    assert begins_with_rgb(3, DEFAULT_COMPOSITE)
    named = with_names(DEFAULT_COMPOSITE, ["DAPI", "actin", "a,b"])
    assert named == "DAPI=red,actin=blue,a b=lime"
    assert not begins_with_rgb(3, named)
    assert channel_names(3, named) == ["DAPI", "actin", "a b"]
    assert begins_with_rgb(4, "red,lime,blue,DNA=black")
    assert not begins_with_rgb(3, with_names("red,lime,blue", ["1", "2", "3"]))
    assert with_names("own=red,blue", ["1", "2", "3"]) == (
        "own=red,channel 2=blue,own=red"
    )
    assert with_names("red,blue", None) == "red,blue"


def test_panels_show_each_channel_once_and_a_composite_that_has_more():
    grey = np.full((1, 1, 1, 1), 7, np.uint8)
    assert panels(grey)[""] is grey
    two = np.array([10, 100], np.uint8).reshape(1, 1, 1, 2)
    shown = panels(two, "absorbance=red,DNA=lime")
    assert {name: x.ravel().tolist() for name, x in shown.items()} == {
        "absorbance": [10],
        "DNA": [100],
        "composite": [10, 100, 0],
    }
    four = np.array([1, 2, 3, 100], np.uint8).reshape(1, 1, 1, 4)
    assert [*panels(four, "red,lime,blue,DNA=black")] == ["colours", "DNA"]
    shown = panels(four, "red,lime,blue,lime")
    assert {name: x.ravel().tolist() for name, x in shown.items()} == {
        "colours": [1, 2, 3],
        "channel 4": [100],
        "composite": [1, 102, 3],
    }
    assert [*panels(two.repeat(2, -1)[..., :3], "cyan,lime,red")][-1] == "composite"


def test_explained_variance_and_names():
    codes = np.linspace(-1, 1, 5)
    offsets = np.array([[0.0], [10.0]])  # of the rows, which do not count
    r2, slope = traversal.explained(codes, 3 * codes + offsets)
    assert (r2, slope) == (pytest.approx(1), pytest.approx(3))
    assert traversal.explained(codes, codes**2 + offsets)[0] == pytest.approx(0)
    names = traversal.name_codes(
        {
            "uniform1": {"slant": 0.9, "width": 0.7},
            "uniform2": {"slant": 0.8, "width": 0.1},
            "uniform3": {"slant": 0.1, "width": 0.2},
        }
    )
    assert names == {"uniform1": "width", "uniform2": "slant", "uniform3": "unnamed"}


def test_random_features_are_the_same_every_time(images):
    model = build_model(Config(architecture="mnist_tiny"), images.shape[1:])
    subject = Subject(Trained(model, None), Data(images, images, None, []))
    first, second = make_extractor(subject), make_extractor(subject)
    assert first.digest == second.digest
    features = first.features(images)
    assert features.shape == (64, 256)
    np.testing.assert_array_equal(features, second.features(images))


def test_detection_by_hand():
    ill = np.array([True, True, False, False])
    scores = {"a": np.array([3.0, 1, 2, 0]), "b": np.array([0.0, 1, 2, 3])}
    found = code_auc.measures(scores, ill)
    assert (found["code"], found["auc"]) == ("b", 1.0)  # whichever way it points
    assert found["table"]["a"] == 0.75
    groups = {
        **{"true positive": [0, 1], "false negative": []},
        **{"false positive": [], "true negative": [2, 3]},
    }
    assert found["examples"] == groups
    groups = {
        **{"true positive": [0], "false negative": [1]},
        **{"false positive": [2], "true negative": [3]},
    }
    assert code_auc.examples(scores["a"], ill) == groups
    many = code_auc.examples(np.zeros(100), np.arange(100) >= 90)
    assert (
        many["true positive"] == [] and len(many["true negative"]) == code_auc.EXAMPLES
    )
    assert many["true negative"][0] == 10 and many["true negative"][-1] == 89


def test_numpy_gets_float32_of_what_bfloat16_computes():
    def features(model, state, images):
        return {"f": images.astype(jnp.bfloat16), "n": images.astype(jnp.int32)}

    found = in_batches(features, None, None, np.ones((700, 3), np.float32))
    assert (found["f"].dtype, found["n"].dtype) == (np.float32, np.int32)
    np.testing.assert_array_equal(found["f"].mean(0), 1)  # less, if summed in bfloat16


def test_an_animation_of_many_categories_ends_where_a_gif_does(tmp_path):
    save_frame(tmp_path, 0, np.zeros((1200, 28, 28, 1)))
    path = tmp_path / "training.gif"
    animate(tmp_path, path, (28, 28, 1), range(1200), [])
    with Image.open(path) as gif:
        assert gif.height == 65535  # 1,200 rows of 56 pixels are more


def test_other_files_among_frames_are_passed_over(tmp_path):
    for step in (0, 10):
        save_frame(tmp_path, step, np.full((4, 28, 28, 1), step / 10))
    (tmp_path / "1x.png").write_text("notes")
    animate(tmp_path, tmp_path / "training.gif", (28, 28, 1), range(4), [])
    with Image.open(tmp_path / "training.gif") as gif:
        assert gif.n_frames == 2


def test_copies_by_hand():
    training = np.array([[0.0, 0], [10, 0]])
    places, distances = fidelity.nearest(np.array([[9.0, 0], [1, 1]]), training)
    np.testing.assert_array_equal(places, [1, 0])
    np.testing.assert_allclose(distances, [1, np.sqrt(2)])
    held_out = np.linspace(1, 2, 101)  # the first percentile is 1.01
    assert fidelity.near_duplicate_rate(np.array([0.5, 1.0, 1.5, 1.9]), held_out) == 0.5


def test_roundness_and_areas_of_channels():
    y, x = np.mgrid[:41, :41] - 20
    discs = np.stack([x**2 + y**2 < 100, (x / 2) ** 2 + y**2 < 25], axis=0) * 1.0
    two = np.stack([discs, discs * (x > 0)], axis=-1)
    found = properties(two)
    long = properties(np.stack([discs, discs], axis=-1))["roundness"]
    np.testing.assert_allclose(long, [1, 0.5], atol=0.03)
    np.testing.assert_allclose(
        found["area of channel 2"] / found["area of channel 1"], 0.47, atol=0.03
    )


def test_coverage_of_modes_by_hand():
    found, divergence = fidelity.mode_coverage(np.array([0, 0, 0, 2]), 4)
    assert found == 2
    assert divergence == pytest.approx(0.75 * np.log(3))  # .25 log(1) is 0
    assert fidelity.mode_coverage(np.arange(4), 4) == (4, pytest.approx(0))


def test_features_of_two_extractors_are_not_compared(sets):
    a, b = (Features(x, "random 0123") for x in sets)
    assert fidelity.compare(a, b) == fidelity.measures(*sets)
    with pytest.raises(UserError, match="random 0123 and of classifier 4567"):
        fidelity.compare(a, b._replace(extractor="classifier 4567"))


def test_what_cannot_be_measured_is_told():
    with pytest.raises(UserError, match="two classes or more"):
        code_auc.measures({"cat 0": np.arange(3.0)}, np.ones(3, bool))
    with pytest.raises(UserError, match="cat 0 is not finite"):
        code_auc.measures({"cat 0": np.full(3, np.nan)}, np.arange(3) > 0)
    with pytest.raises(UserError, match="not finite"):
        properties(np.full((2, 8, 8, 1), np.nan))
    with pytest.raises(UserError, match="0 images"):
        conditional_accuracy.measures(np.zeros(0, int), np.zeros(0, int), [0, 1])
    one_class = Data(np.zeros(0), np.zeros((3, 8, 8, 1)), np.zeros(3, int), ["a", "b"])
    model = build_model(Config(architecture="mnist_tiny"), (28, 28, 1))
    trained = Trained(model, None)
    for measure in clustering, code_auc:
        assert isinstance(measure.evaluate(Subject(trained, one_class)), Skipped)
    no_labels = Subject(trained, one_class._replace(eval_labels=None))
    for measure in clustering, code_auc, conditional_accuracy:
        assert "labels" in measure.evaluate(no_labels).reason


def test_what_a_code_explains():
    """Half of the pixels follow one code, a quarter another, in equal amounts."""
    rng = np.random.default_rng(0)
    first, second, other = rng.normal(size=(3, 400))
    images = np.stack([first, first, second, other], 1)
    explains = explained_variance.explained_variance
    one, two = (explained_variance.cubic(x) for x in (first, second))
    assert explains(images, one) == pytest.approx(0.5, abs=0.05)
    assert explains(images, two) == pytest.approx(0.25, abs=0.05)
    both = np.concatenate([one, two], 1)
    assert explains(images, both) == pytest.approx(0.75, abs=0.05)
    nothing = explained_variance.cubic(np.zeros(400))
    assert explains(images, nothing) == pytest.approx(0, abs=0.01)
    categories = np.eye(2)[(first > 0).astype(int)]
    # Of a normal variable its sign explains 2 / pi
    wanted = 0.5 * 2 / np.pi
    assert explains(images, categories) == pytest.approx(wanted, abs=0.05)
    assert explains(np.ones((9, 2)), np.ones((9, 1))) == 0


def test_groups_at_the_ends_of_a_code():
    values = np.array([1.0, 3.0, 0.0, 9.0, 5.0])
    groups = ["B", "B", "A", "C", "D"]
    found = explained_variance.groups_at_ends(values, groups)
    assert found == (["A", "B"], ["C", "D"])
    assert explained_variance.groups_at_ends(values[:1], ["A"]) == ([], [])
