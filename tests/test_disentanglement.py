"""Measures of codes whose truth is known: factors, twins, mixtures, and noise."""

import numpy as np
import pytest

from infogan_jax import UserError
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
