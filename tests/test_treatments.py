"""Treated against control: effects, intervals and p values of wells."""

import itertools

import numpy as np
import pytest

from infogan_jax import UserError, build_model
from infogan_jax.config import Config
from infogan_jax.data import Data
from infogan_jax.evaluation import treatments
from infogan_jax.evaluation.results import surest_first
from infogan_jax.run.dataset import check_measurable
from infogan_jax.settings import Comparison

DMSO = Comparison("treatment", "DMSO")


def wells(values, means, plates=None):
    plates = ["P"] * len(values) if plates is None else plates
    counts = np.full(len(values), 10)
    means = np.asarray(means, float).reshape(len(values), -1)
    return treatments.Wells(np.array(plates), np.array(values), means, counts)


def test_wells_are_means_of_their_cells():
    found = treatments.wells_of(
        np.array([[1.0], [3.0], [5.0], [7.0]]),
        ["P1", "P1", "P1", "P2"],
        ["A01", "A01", "A02", "A01"],
        ["x", "x", "y", "x"],
    )
    assert found.plates.tolist() == ["P1", "P1", "P2"]
    assert found.values.tolist() == ["x", "y", "x"]
    assert found.means.tolist() == [[2], [5], [7]]
    assert found.counts.tolist() == [2, 1, 1]
    with pytest.raises(UserError, match="well A01 has several values"):
        treatments.wells_of(np.ones((2, 1)), "PP", ["A01", "A01"], ["x", "y"])


def test_an_effect_by_hand():
    """Controls 1, 2, 3 and treated 5, 6, 7 of one plate: a difference of 4."""
    x = np.array([0, 0, 0, 1, 1, 1])
    means = np.array([[1.0], [2], [3], [5], [6], [7]])
    found = treatments.compare(x, np.zeros(6), means, np.random.default_rng(0))
    assert found.effect[0] == pytest.approx(4)
    # Pooled variance 1, standard error sqrt(2/3), 4 degrees of freedom: t = 2.776
    assert found.high[0] - 4 == pytest.approx(2.7764 * np.sqrt(2 / 3), rel=1e-4)
    assert 4 - found.low[0] == pytest.approx(2.7764 * np.sqrt(2 / 3), rel=1e-4)
    # Of 20 ways to choose the treated wells, two are as far apart
    assert found.p[0] == pytest.approx(2 / 20)
    assert (found.agreeing[0], found.plates) == (1, 1)


def test_what_plates_differ_by_is_no_effect():
    x = np.array([0, 1, 0, 1])
    plates = np.array(["a", "a", "b", "b"])
    means = np.array([[0.0, 0], [1, 1], [100, 10], [101, 8]])
    found = treatments.compare(x, plates, means, np.random.default_rng(0))
    np.testing.assert_allclose(found.effect, [1, -0.5])
    assert found.agreeing.tolist() == [2, 1]  # plate a says 1, plate b -2
    assert np.isnan(found.p).all()  # four ways: p cannot be 0.05
    alone = treatments.compare(x[:2], plates[:2], means[:2], np.random.default_rng(0))
    assert np.isnan(alone.low).all() and alone.effect[0] == 1
    confounded = treatments.compare(
        np.array([0, 0, 1, 1]), plates, means, np.random.default_rng(0)
    )
    assert np.isnan(confounded.effect).all() and confounded.plates == 0


def test_ways_to_permute_within_plates():
    x, plate = np.array([0.0, 0, 1, 2, 0, 1]), np.array([0, 0, 0, 0, 1, 1])
    ways = treatments._count_ways(x, plate)
    (found,) = treatments._permutations(x, plate, ways, np.random.default_rng(0))
    expected = {
        (*first, *second)
        for first in itertools.permutations(x[:4])
        for second in itertools.permutations(x[4:])
    }
    assert ways == 12 * 2 == len(found)
    assert set(map(tuple, found)) == expected
    many = np.tile([0.0, 1], 20)
    plates, rng = np.arange(40) // 20, np.random.default_rng(0)
    drawn = np.concatenate(list(treatments._permutations(many, plates, 1e9, rng)))
    assert drawn.shape == (10_000, 40)
    assert (drawn[:, :20].sum(1) == 10).all()
    np.testing.assert_allclose(drawn.mean(0), 0.5, atol=0.03)


def test_p_values_are_even_where_nothing_is_done():
    """1,000 scores of noise on two plates of six wells: p below 0.05 in a twentieth."""
    rng = np.random.default_rng(0)
    x = np.tile([0, 0, 0, 1, 1, 1], 2)
    plates = np.repeat([0, 1], 6)
    means = rng.normal(size=(12, 1000)) + 5 * plates[:, None]
    p = treatments.compare(x, plates, means, rng).p
    assert 0.03 < (p <= 0.05).mean() < 0.07
    assert 0.45 < p.mean() < 0.6
    assert p.min() >= 1 / 400  # of 20 x 20 ways


def test_rows_of_a_dose():
    """Three doses in two wells of each of two plates; one score falls, one does not."""
    values = ["0.0", "0.0", "1.0", "1.0", "10.0", "10.0"] * 2
    plates = np.repeat(["P1", "P2"], 6)
    falls = np.array([0.5, 0.52, 0.3, 0.31, 0.1, 0.09] * 2)
    flat = np.random.default_rng(1).normal(size=12)
    table = wells(values, np.stack([falls, flat], 1), plates)
    rows = treatments.rows_of(
        table,
        ["cat 1", "uniform1"],
        np.array([0.5, 1.0]),
        Comparison("dose", "0"),
        np.random.default_rng(0),
    )
    found = {(row["value"], row["code"]): row for row in rows}
    assert [value for value, _ in found][::2] == ["1.0", "10.0", "trend"]
    ten, trend = found["10.0", "cat 1"], found["trend", "cat 1"]
    assert ten["effect"] == pytest.approx(-0.415)
    assert ten["in_deviations"] == pytest.approx(-0.83)
    assert (ten["wells"], ten["control_wells"], ten["plates_that_agree"]) == (4, 4, 2)
    assert ten["p"] == pytest.approx(2 / 36)
    assert trend["effect"] == pytest.approx(-0.2075, abs=1e-3)  # a step of dose
    assert trend["q"] < 0.01 < 0.2 < found["trend", "uniform1"]["q"]
    assert all(row["q"] >= row["p"] for row in rows)
    points = treatments.in_rows(table)
    assert [point["value"] for point in points][::4] == ["0.0", "1.0", "10.0"]
    assert points[-1] == {
        "plate": "P2",
        "value": "10.0",
        "cells": 10,
        "means": [0.09, flat[-1]],
    }


def test_shuffled_wells_are_seldom_significant():
    """Of 20 shuffles of the treatment, at most one finds anything at q 0.05."""
    rng = np.random.default_rng(0)
    plates = np.repeat(["P1", "P2"], 6)
    values = np.array(["0", "0", "1", "1", "10", "10"] * 2)
    means = rng.normal(size=(12, 7))
    means[:, 0] -= np.tile([0, 0, 2, 2, 4, 4], 2)
    found = 0
    for _ in range(20):
        shuffled = values.copy()
        for here in (slice(6), slice(6, 12)):
            shuffled[here] = rng.permutation(values[here])
        rows = treatments.rows_of(
            wells(shuffled, means, plates),
            [f"code {i}" for i in range(7)],
            np.ones(7),
            Comparison("dose", "0"),
            rng,
        )
        found += any(row["q"] <= 0.05 for row in rows)
    assert found <= 1


def test_one_well_of_each_treatment_is_no_test():
    table = wells(["DMSO", "drug", "drug2"], [1.0, 2, 3])
    rng = np.random.default_rng(0)
    rows = treatments.rows_of(table, ["a"], np.ones(1), DMSO, rng)
    assert [row["value"] for row in rows] == ["drug", "drug2"]
    assert {(row["p"], row["q"], row["low"]) for row in rows} == {(None, None, None)}
    assert [row["effect"] for row in rows] == [1, 2]


@pytest.mark.parametrize("values", [["drug", "drug"], ["DMSO", "DMSO"]])
def test_a_column_with_nothing_to_compare(values):
    told = r"--compare=treatment=DMSO: treatment is one of \['\w+'\]; expected wells"
    with pytest.raises(UserError, match=told):
        treatments.rows_of(
            wells(values, [1.0, 2]), ["a"], np.ones(1), DMSO, np.random.default_rng(0)
        )


def test_what_the_flag_says():
    assert Config().comparisons() == ()
    of_plates = Config(dataset="folder:x", normalise_by="plate:Metadata_Treatment=DMSO")
    assert of_plates.comparisons() == (DMSO,)
    both = Config(compare="treatment=DMSO, dose=0").comparisons()
    assert both == (DMSO, Comparison("dose", "0"))
    assert both[1].is_control("0.0") and not both[1].is_control("x")
    with pytest.raises(UserError, match="--compare=treatment: expected COLUMN=CONTROL"):
        Config(compare="treatment")


def test_what_cannot_be_compared_is_told_before_training():
    """By `check_measurable`, which looks at the data only."""
    table = {"well": ["A1", "A2", "B1"], "treatment": ["DMSO", "drug", "drug"]}
    images = np.zeros((3, 8, 8, 1), np.uint8)
    whole = Data(images, images, None, [], metadata=table, eval_metadata=table)
    config = Config(
        dataset="folder:x", compare="treatment=DMSO", evaluators="treatments"
    )
    model = build_model(config, (28, 28, 1))
    check_measurable(config, model, whole, None)
    odd = table | {"treatment": ["DMSO", "drug", "other"]}
    for columns, told in (
        ({"well": table["well"]}, "no column treatment; expected one of \\['well'\\]"),
        ({"treatment": table["treatment"]}, "no column well"),
        (table | {"treatment": ["drug"] * 3}, "expected wells of DMSO and of another"),
        (odd | {"well": ["A1", "A2", "A2"]}, "well A2 has several values"),
    ):
        data = whole._replace(metadata=columns, eval_metadata=columns)
        with pytest.raises(UserError, match=told):
            check_measurable(config, model, data, None)


def test_of_effects_that_are_equally_sure_the_largest_is_first():
    def row(code, q, size):
        return {"code": code, "q": q, "in_deviations": size}

    rows = [
        row("untested", None, 9.0),
        row("small", 0.01, 0.1),
        row("unsure", 0.2, 3.0),
        row("large", 0.01, -2.0),
        row("without", 0.01, None),
    ]
    order = [row["code"] for row in surest_first(rows)]
    assert order == ["large", "small", "without", "unsure", "untested"]
