"""Which codes tell treated wells from controls: effects, intervals and p values.

A well is one observation, however many cells it has: cells of one well are no
replicates of a treatment. Plates are compared within themselves, so that what differs
between plates is no effect. Everything is a function of one number a well and score.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from infogan_jax.core.latents import Categorical
from infogan_jax.data import Data
from infogan_jax.errors import UserError
from infogan_jax.evaluation import Subject
from infogan_jax.evaluation.results import Measures, Skipped
from infogan_jax.fields import as_number
from infogan_jax.inference import most_probable
from infogan_jax.settings import Comparison

_PERMUTATIONS = 10_000  # at most; fewer ways to permute are all taken
_LEAST_P = 0.05  # that a design must be able to reach
_WHOLE = 1e-9  # of the statistic, below which two are equal


class Wells(NamedTuple):
    """The mean of each score in each well."""

    plates: np.ndarray  # of each well, [W]
    values: np.ndarray  # of the compared column, text [W]
    means: np.ndarray  # float [W, S]
    counts: np.ndarray  # cells, int [W]


class Effects(NamedTuple):
    """What one treatment does to each of S scores."""

    effect: np.ndarray  # difference of wells' means within plates, or slope, [S]
    low: np.ndarray  # of the 95 % confidence interval; nan where there is none, [S]
    high: np.ndarray
    p: np.ndarray  # by permuting wells within plates, [S]; nan: no test is possible
    agreeing: np.ndarray  # plates whose own effect has the same sign, int [S]
    plates: int  # that have an effect of their own


def wells_of(
    scores: np.ndarray, plates: Sequence[str], wells: Sequence[str], values: Sequence
) -> Wells:
    """Returns the wells' means.

    Args:
        scores: `[N, S]`, of each cell.
        plates: of each cell.
        wells: of each cell; a well is of one plate.
        values: of the compared column, for each cell.

    Raises:
        UserError: a well has several values.
    """
    keys = [f"{plate}\0{well}" for plate, well in zip(plates, wells, strict=True)]
    _, first, well = np.unique(keys, return_index=True, return_inverse=True)
    column = np.array(list(values), str)
    mixed = np.flatnonzero(column != column[first][well])
    if len(mixed):
        raise UserError(
            f"well {wells[mixed[0]]} has several values of the compared column; "
            "expected one for each well"
        )
    counts = np.bincount(well)
    sums = np.zeros((len(first), scores.shape[1]))
    np.add.at(sums, well, scores)
    of_wells = np.array(list(plates), str)[first]
    return Wells(of_wells, column[first], sums / counts[:, None], counts)


def compare(
    x: np.ndarray, plates: np.ndarray, means: np.ndarray, rng: np.random.Generator
) -> Effects:
    """Returns the effect of x on each score, plates apart.

    The effect is the slope of a regression of wells' means on x and an intercept for
    each plate; of an x of 0 and 1 it is the difference of treated and control. Its
    interval is Student's. p is the fraction of the ways to permute x among the wells of
    each plate that give as large an effect, of either sign.

    Args:
        x: 0 for control and 1 for treated wells, or a dose on any scale, `[W]`.
        plates: of each well, `[W]`.
        means: of each well, `[W, S]`.
        rng: draws permutations where there are more than 10,000.
    """
    _, plate = np.unique(plates, return_inverse=True)
    within, apart = _centred(x[:, None], plate)[:, 0], _centred(means, plate)
    power = float(within @ within)
    n_scores = means.shape[1]
    nothing = np.full(n_scores, math.nan)
    if power < _WHOLE:
        no_plates = np.zeros(n_scores, int)
        return Effects(nothing, nothing, nothing, nothing, no_plates, 0)
    slope = within @ apart / power
    low, high = nothing, nothing
    freedom = len(x) - max(plate) - 2
    if freedom > 0:
        rest = apart - within[:, None] * slope
        error = np.sqrt((rest**2).sum(0) / freedom / power)
        reach = stats.t.ppf(0.975, freedom) * error
        low, high = slope - reach, slope + reach
    p = nothing
    ways = _count_ways(x, plate)
    if 1 / ways <= _LEAST_P:
        as_large, total = np.zeros(n_scores), 0
        for permuted in _permutations(x, plate, ways, rng):
            other = np.abs(_centred(permuted.T, plate).T @ apart) / power
            as_large += (other >= np.abs(slope) * (1 - _WHOLE)).sum(0)
            total += len(permuted)
        # Of all ways the one observed is among them; of drawn ones it is added
        drawn = int(ways > _PERMUTATIONS)
        p = (as_large + drawn) / (total + drawn)
    own = [
        within[plate == k] @ apart[plate == k]
        for k in range(max(plate) + 1)
        if (within[plate == k] ** 2).sum() > _WHOLE
    ]
    agreeing = (np.sign(own) == np.sign(slope)).sum(0)
    return Effects(slope, low, high, p, agreeing, len(own))


def _centred(values: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """Values `[W, ..]` less their mean in each plate."""
    sums = np.zeros((max(plate) + 1, values.shape[1]))
    np.add.at(sums, plate, values)
    return values - (sums / np.bincount(plate)[:, None])[plate]


def _count_ways(x: np.ndarray, plate: np.ndarray) -> float:
    """How many ways there are to permute x within plates that differ."""
    ways = 1.0
    for k in range(max(plate) + 1):
        _, counts = np.unique(x[plate == k], return_counts=True)
        ways *= math.factorial(counts.sum()) / math.prod(map(math.factorial, counts))
    return ways


def _permutations(
    x: np.ndarray, plate: np.ndarray, ways: float, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """All ways to permute x within plates, or many drawn ones: `[n, W]` at a time."""
    places = [np.flatnonzero(plate == k) for k in range(max(plate) + 1)]
    if ways > _PERMUTATIONS:
        for _ in range(_PERMUTATIONS // 1000):
            permuted = np.tile(x, (1000, 1))
            for here in places:
                permuted[:, here] = rng.permuted(permuted[:, here], axis=1)
            yield permuted
        return
    whole = x[None]
    for here in places:
        orders = np.array(list(_distinct_orders(list(x[here]))))
        whole = np.repeat(whole, len(orders), 0)
        whole[:, here] = np.tile(orders, (len(whole) // len(orders), 1))
    yield whole


def _distinct_orders(values: list[float]) -> Iterator[tuple[float, ...]]:
    """Each order of some values once, equal ones being the same."""
    if not values:
        yield ()
    for first in sorted(set(values)):
        others = values.copy()
        others.remove(first)
        for rest in _distinct_orders(others):
            yield (first, *rest)


def rows_of(
    wells: Wells,
    names: Sequence[str],
    deviations: np.ndarray,
    comparison: Comparison,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Returns a row for each treatment and score; with doses also for their trend.

    Args:
        wells: all that have a value.
        names: of the scores.
        deviations: standard deviation of each score among cells of the control, `[S]`.
        comparison: the column and its control value.
        rng: for permutations.

    Raises:
        UserError: there is no control well, or nothing else.
    """
    is_control = _find_controls(wells.values, comparison)
    others = sorted(set(wells.values[~is_control]), key=_order)
    designs = {
        value: (is_control | (wells.values == value), wells.values == value)
        for value in others
    }
    doses = [as_number(value) for value in wells.values]
    if len(others) > 1 and None not in doses:
        # Doses are often far apart, tenfold say: their order counts
        order = stats.rankdata(doses, "dense") - 1
        designs["trend"] = (np.ones(len(doses), bool), order)
    rows = []
    for value, (used, x) in designs.items():
        x = np.asarray(x, float)[used]
        effects = compare(x, wells.plates[used], wells.means[used], rng)
        for s, name in enumerate(names):
            rows.append(
                {
                    "column": comparison.column,
                    "value": value,
                    "control": comparison.control,
                    "code": name,
                    "effect": _or_none(effects.effect[s]),
                    "low": _or_none(effects.low[s]),
                    "high": _or_none(effects.high[s]),
                    "in_deviations": _or_none(effects.effect[s] / deviations[s]),
                    "p": _or_none(effects.p[s]),
                    "q": None,
                    "plates": effects.plates,
                    "plates_that_agree": int(effects.agreeing[s]),
                    "wells": int((x > 0).sum()),
                    "control_wells": int((x == 0).sum()),
                }
            )
    tested = [row for row in rows if row["p"] is not None]
    if tested:
        qs = stats.false_discovery_control([row["p"] for row in tested])
        for row, q in zip(tested, qs, strict=True):
            row["q"] = float(q)
    return rows


def _find_controls(values: np.ndarray, comparison: Comparison) -> np.ndarray:
    """Which values are the control's; UserError unless there are both kinds."""
    is_control = np.array([comparison.is_control(value) for value in values])
    if not is_control.any() or is_control.all():
        raise UserError(
            f"--compare={comparison.text}: {comparison.column} is one of "
            f"{sorted(set(values.tolist()))}; expected wells of "
            f"{comparison.control} and of another value"
        )
    return is_control


def _order(value: str) -> tuple[float, str]:
    number = as_number(value)
    return (math.inf if number is None else number, value)


def _or_none(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None


def in_rows(wells: Wells) -> list[dict[str, Any]]:
    """Returns the wells as `results.WellRow`, by value of the column."""
    values = wells.values.tolist()
    order = sorted(range(len(values)), key=lambda i: _order(values[i]))
    return [
        {
            "plate": str(wells.plates[i]),
            "value": values[i],
            "cells": int(wells.counts[i]),
            "means": wells.means[i].tolist(),
        }
        for i in order
    ]


def scores_of(subject: Subject, images: Any) -> dict[str, np.ndarray]:
    """Returns what wells are compared by, `[N]` each.

    Whether a cell is in a category, of which the mean is the category's share of a
    well, and the value of each other code.
    """
    codes = subject.trained.read_codes(images)
    scores: dict[str, np.ndarray] = {}
    for code in subject.trained.model.spec:
        if isinstance(code, Categorical):
            best = most_probable(code, codes)
            scores |= {f"{code.name} {k}": (best == k) * 1.0 for k in range(code.size)}
        elif code.n_params:
            scores[code.name] = codes[code.name].astype(float)
    return scores


def table_of(data: Data, comparisons: Sequence[Comparison]) -> dict[str, list[str]]:
    """Returns the metadata of training images and behind them of held-out ones.

    Without plates all wells are of one.

    Raises:
        UserError: they cannot be compared: a column is missing, or controls are, or a
            well has several values.
    """
    train, held_out = data.metadata or {}, data.eval_metadata or {}
    table = {
        name: [*train[name], *held_out[name]] for name in train if name in held_out
    }
    for column in ("well", *(c.column for c in comparisons)):
        if column not in table:
            raise UserError(
                f"--evaluators=treatments: no column {column}; expected one of "
                f"{sorted(table)} in --metadata or --file_pattern"
            )
    plates = table.setdefault("plate", ["plate"] * len(table["well"]))
    for comparison in comparisons:
        values = table[comparison.column]
        wells = wells_of(np.zeros((len(values), 0)), plates, table["well"], values)
        _find_controls(wells.values, comparison)
    return table


def evaluate(subject: Subject) -> Measures | Skipped:
    """Compares the wells of all images, trained on or not; see `rows_of`.

    What a treatment is never touches training, so that its wells may.
    """
    if not subject.comparisons:
        return Skipped(
            "no controls are named: --compare=COLUMN=CONTROL, such as treatment=DMSO"
        )
    table = table_of(subject.data, subject.comparisons)
    images = subject.data.images, subject.data.eval_images
    parts = [scores_of(subject, some) for some in images]
    names = list(parts[0])
    if not names:
        return Skipped("there is no code that Q reads")
    scores = np.concatenate([np.stack([*part.values()], 1) for part in parts])
    rng, notes = np.random.default_rng(subject.seed), []
    rows: list[dict[str, Any]] = []
    measured: dict[str, list] = {}
    for comparison in subject.comparisons:
        values = table[comparison.column]
        wells = wells_of(scores, table["plate"], table["well"], values)
        is_control = np.array([comparison.is_control(value) for value in values])
        deviations = scores[is_control].std(0)
        rows += rows_of(wells, names, np.maximum(deviations, 1e-6), comparison, rng)
        measured[comparison.column] = in_rows(wells)
    for value in {row["value"]: None for row in rows if row["p"] is None}:
        notes.append(
            f"{value}: no test possible, for there are too few ways to permute wells"
        )
    overall = {"names": names, "rows": rows, "wells": measured, "notes": notes}
    return Measures({}, overall)
