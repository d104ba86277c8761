"""Measures of codes whose truth is known: factors, twins, mixtures, and noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infogan_jax import Config, Trained, UserError, build_model
from infogan_jax.core.objective import Batch, Reading, Seen
from infogan_jax.data import Data, factor_builders, load, sprites
from infogan_jax.evaluation import Subject
from infogan_jax.evaluation import disentanglement as dis

N = 15_000
RNG = np.random.default_rng(0)
FACTORS = RNG.integers(0, 2, (N, 3))  # three fair coins
PERFECT = 2.0 * FACTORS - 1
NOISE = RNG.standard_normal((N, 3))
TWINS = np.concatenate([PERFECT, PERFECT], 1)
# Each code is the sum of two coins, the first and second, and so on
MIXED = PERFECT + np.roll(PERFECT, -1, axis=1) + 1e-3 * NOISE


def rng():
    return np.random.default_rng(1)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Fewer votes and points: coins are told apart by few."""
    monkeypatch.setattr(dis, "_TRAIN", 2000)
    monkeypatch.setattr(dis, "_TEST", 1000)


@pytest.mark.parametrize(
    ("codes", "expected"),
    [(PERFECT, 1.0), (TWINS, 1.0), (NOISE, 1 / 3), (np.zeros((N, 3)), 0.0)],
)
def test_factor_vae(codes, expected):
    found = dis.factor_vae(codes, FACTORS, rng())
    assert found == pytest.approx(expected, abs=0.05)


def test_factor_vae_leaves_out_codes_that_hardly_move():
    """Such a one is the steadiest wherever it is, and tells of no factor."""
    still = np.concatenate([PERFECT, 0.01 * NOISE[:, :1]], 1)
    assert dis.factor_vae(still, FACTORS, rng()) == 1
    assert dis.factor_vae_of_infogan_cr(still, FACTORS, rng()) == 1
    # On its own votes a classifier is right a little oftener than one in three
    lucky = dis.factor_vae_of_infogan_cr(NOISE, FACTORS, rng())
    assert 1 / 3 < lucky < 0.45


@pytest.mark.parametrize(
    ("codes", "expected"), [(PERFECT, 1.0), (TWINS, 1.0), (NOISE, 1 / 3)]
)
def test_beta_vae(codes, expected):
    found = dis.beta_vae(codes, FACTORS, rng())
    assert found == pytest.approx(expected, abs=0.06)


def test_information_by_hand():
    table = dis.mutual_information_table(PERFECT, FACTORS)
    np.testing.assert_allclose(table, np.log(2) * np.eye(3), atol=2e-3)
    # A sum of two coins is -2, 0 or 2: it knows of either half a coin
    table = dis.mutual_information_table(MIXED, FACTORS)
    half = np.log(2) / 2 * (np.eye(3) + np.roll(np.eye(3), 1, axis=1))
    np.testing.assert_allclose(table, half, atol=6e-3)


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        (PERFECT, 1.0),
        (PERFECT[:, :2], 2 / 3),  # nothing of the third
        (TWINS, 0.0),  # the second is as good
        (MIXED, 0.0),
        (NOISE, 0.0),
    ],
)
def test_mig(codes, expected):
    assert dis.mig(codes, FACTORS) == pytest.approx(expected, abs=0.01)


def test_dci():
    np.testing.assert_allclose(dis.dci(PERFECT, FACTORS), 1, atol=0.01)
    mixed = dis.dci(MIXED, FACTORS)
    assert mixed.disentanglement < 0.6 and mixed.informativeness > 0.7
    noise = dis.dci(NOISE, FACTORS)
    assert noise.disentanglement < 0.1
    assert noise.informativeness == pytest.approx(0.5, abs=0.04)


def test_dci_of_importances_by_hand():
    both, one = dis._dci_of(np.array([[3.0, 0, 0], [0, 1, 1], [0, 0, 0]]))
    # Code 0 serves one factor and has 3/5 of all importance; code 1 serves two alike
    assert both == pytest.approx(3 / 5 + 2 / 5 * (1 - np.log(2) / np.log(3)))
    assert one == pytest.approx(1)


@pytest.mark.parametrize(
    ("codes", "expected"), [(PERFECT, 0.5), (TWINS, 0.0), (NOISE, 0.0)]
)
def test_sap(codes, expected):
    """The best code is always right, the second half of the time."""
    assert dis.sap(codes, FACTORS) == pytest.approx(expected, abs=0.04)


def test_modularity_and_explicitness():
    assert dis.modularity(PERFECT, FACTORS) == pytest.approx(1, abs=1e-3)
    assert dis.modularity(TWINS, FACTORS) == pytest.approx(1, abs=1e-3)
    # Two factors alike of three: 1 - 1/2
    assert dis.modularity(MIXED, FACTORS) == pytest.approx(0.5, abs=0.05)
    assert dis.explicitness(PERFECT, FACTORS) == pytest.approx(1)
    assert dis.explicitness(NOISE, FACTORS) == pytest.approx(0.5, abs=0.04)


def test_info_mec():
    np.testing.assert_allclose(dis.info_mec(PERFECT, FACTORS), 1, atol=0.03)
    twins = dis.info_mec(TWINS, FACTORS)
    # Half of a factor's information is in each of six codes' two: (1/2 - 1/6) / (5/6)
    np.testing.assert_allclose(twins, [1, 0.4, 1], atol=0.03)
    mixed = dis.info_mec(MIXED, FACTORS)
    # (1/2 - 1/3) / (2/3), for codes and for factors
    np.testing.assert_allclose(mixed[:2], 0.25, atol=0.04)
    assert dis.info_mec(NOISE, FACTORS).explicitness == pytest.approx(0, abs=0.02)


def test_all_measures_by_name():
    found = dis.measure(PERFECT, FACTORS)
    assert found.pop("sap") == pytest.approx(0.5, abs=0.04)
    assert all(0.97 < value <= 1 + 1e-9 for value in found.values()), found
    assert dis.measure(PERFECT, FACTORS) == found | {"sap": dis.sap(PERFECT, FACTORS)}


@pytest.mark.parametrize(
    "codes", [PERFECT, MIXED, NOISE], ids=["perfect", "mixed", "noise"]
)
def test_another_implementation_says_the_same(codes):
    """Where `pip install disent` is, which needs PyTorch."""
    pytest.importorskip("disent", reason="needs pip install disent")
    from disent.metrics import _dci, _mig, _sap

    # Rows are codes and factors there
    seen, truth = (x[:2000].T for x in (codes, FACTORS))
    others = codes[2000:3000].T, FACTORS[2000:3000].T
    expected = _mig._compute_mig(seen, truth)["mig.discrete_score"]
    assert dis.mig(codes, FACTORS) == pytest.approx(expected, abs=1e-9)
    expected = _sap._compute_sap(seen, truth, *others, False)["sap.score"]
    assert dis.sap(codes, FACTORS) == pytest.approx(expected, abs=5e-3)
    expected = _dci._compute_dci(seen, truth, *others)
    scores = dis.dci(codes, FACTORS)
    for name, value in (
        ("disentanglement", scores.disentanglement),
        ("completeness", scores.completeness),
        ("informativeness_test", scores.informativeness),
    ):
        assert value == pytest.approx(expected[f"dci.{name}"], abs=0.02)


@pytest.mark.parametrize(
    ("codes", "factors", "told"),
    [
        (PERFECT[:-1], FACTORS, r"codes \(14999, 3\) and factors \(15000, 3\)"),
        (PERFECT, FACTORS[:, 0], "expected .N, D. and .N, F."),
        (PERFECT * np.nan, FACTORS, "expected finite numbers"),
        (PERFECT, FACTORS * [1, 0, 1], "factor 1: has one value"),
        (PERFECT[:99], FACTORS[:99], "99 images: expected 3,000 or more"),
    ],
)
def test_what_cannot_be_measured(codes, factors, told):
    with pytest.raises(UserError, match=told):
        dis.measure(codes, factors)


def test_sprites_by_hand():
    """At 5 / 6 of the way along rows, a square of the largest size, level."""
    square = [0, 5, 0, 31, 0]
    (image,) = sprites.draw_sprites(np.array([square]))
    # Its half side is 13 / sqrt(2) = 9.19, so that it has the 18 pixels within
    rows, columns = np.nonzero(image[..., 0])
    assert (rows.min(), rows.max()) == (7, 24)  # around 16
    assert (columns.min(), columns.max()) == (39, 56)  # around 48
    assert np.unique(image).tolist() == [0, 255]
    assert (image > 0).sum() == 18**2
    # A quarter of a turn is none, an eighth (5 of 40) puts a corner on top
    turned, eighth, small, ellipse, other_way, heart = sprites.draw_sprites(
        np.array(
            [
                [0, 5, 10, 31, 0],
                [0, 5, 5, 31, 0],
                [0, 0, 0, 31, 0],
                [1, 5, 0, 31, 0],
                [1, 5, 10, 31, 0],
                [2, 5, 0, 31, 0],
            ]
        )
    )[..., 0]
    np.testing.assert_array_equal(turned, image[..., 0])
    assert (eighth > 0).any(1).sum() == 26
    assert (small > 0).sum() == 8**2 or (small > 0).sum() == 10**2
    assert (ellipse > 0).any(0).sum() == 26 and (ellipse > 0).any(1).sum() == 12
    assert (other_way > 0).any(1).sum() == 26
    np.testing.assert_array_equal(heart[:, 32:], heart[:, 32:][:, ::-1])  # around 48
    assert (heart[10] > 0).sum() > (heart[26] > 0).sum() > 0  # it stands on its tip


def test_sprites_stay_inside_and_factors_are_even():
    sizes = [3, *sprites.FACTORS.values()]
    factors = sprites.draw_factors(3000, sizes, 0)
    images = sprites.draw_sprites(factors)
    assert images.shape == (3000, 64, 64, 3)
    assert not images[:, [0, -1]].any() and not images[:, :, [0, -1]].any()
    assert images.any((1, 2, 3)).all()
    largest = images.max((1, 2))
    np.testing.assert_array_equal(largest.argmax(1), factors[:, 0])
    for column, count in zip(factors.T, sizes, strict=True):
        shares = np.bincount(column, minlength=count) / len(column)
        np.testing.assert_allclose(shares, 1 / count, atol=0.03)
    other = sprites.draw_factors(3000, sizes, 1)
    assert (other != factors).any()


def test_sprites_are_a_dataset_with_factors(tmp_path, monkeypatch):
    monkeypatch.setattr(factor_builders.Sprites, "COUNTS", {"train": 40, "test": 60})
    for builder in (factor_builders.Sprites, factor_builders.SpritesInHues):
        name, channels = builder.name, builder.CHANNELS
        data = load(Config(dataset=name, data_dir=str(tmp_path)))
        assert data.images.shape == (40, 64, 64, channels)
        assert data.class_names == sprites.SHAPES
        factors = np.stack([data.eval_factors[name] for name in builder.SIZES], 1)
        np.testing.assert_array_equal(sprites.draw_sprites(factors), data.eval_images)
        np.testing.assert_array_equal(data.eval_factors["shape"], data.eval_labels)
    with pytest.raises(UserError, match="60 held-out images; expected 3,000 or more"):
        dis.factors_of(data)


def test_codes_of_a_model_are_measured(config):
    model = build_model(config, (28, 28, 1))
    trained = Trained(model, model.init(jax.random.key(0)))
    factors = {name: FACTORS[:3000, i] for i, name in enumerate("abc")}
    images = np.zeros((3000, 28, 28, 1), np.uint8)
    images[:, 4:20, 4:20] = 255 * FACTORS[:3000, :1, None, None].astype(np.uint8)
    data = Data(images, images, None, [], eval_factors=factors)
    row = dis.evaluate(Subject(trained, data)).rows["codes"]
    assert row["beta_vae"] < 0.9 and 0 <= row["mig"] < 0.5
    with pytest.raises(UserError, match="needs images whose factors are known"):
        dis.evaluate(Subject(trained, data._replace(eval_factors=None)))


def test_pairs_that_share_one_code():
    from experiments.factors import contrast, contrastive

    config = Config(codes="cat:3,uniform:2,noise:2", architecture="dcgan")
    model = contrastive(config, (32, 32, 1), spectral=True)
    first, second = np.split(np.asarray(model.sample_latents(jax.random.key(0), 64)), 2)
    same = (first == second)[:, 3:]
    assert (same[:, :2].sum(1) == 1).all()  # one of the two codes
    assert not same[:, 2:].any()  # no noise
    latents = jnp.zeros((4, 7)).at[2, 3].set(1.0).at[3, 4].set(1.0)
    prints = jnp.zeros((4, 2, 4)).at[2, 0].set(0.5).at[2, 1, 0].set(1.0)
    q_params = jnp.concatenate([jnp.zeros((4, 5)), prints.reshape(4, 8)], 1)
    reading = Reading(jnp.zeros(4), q_params)
    images = jnp.zeros((4, 32, 32, 1))
    batch = Batch(images, images, latents, None, None, None)
    value, _ = contrast(Seen(model, batch, reading, reading, critic=None))
    # Both are 1 away in the first pair, which shares the second; alike in the other.
    assert value == pytest.approx(np.log(2), abs=1e-6)
    far = q_params.at[2, 5:9].set(0)
    reading = Reading(jnp.zeros(4), far)
    value, _ = contrast(Seen(model, batch, reading, reading, critic=None))
    expected = (np.log(1 + np.e) + np.log(2)) / 2
    assert value == pytest.approx(expected, abs=1e-6)
