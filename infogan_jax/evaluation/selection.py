"""Choice of one member among several seeds, without a label."""

import dataclasses
from typing import Any

import numpy as np
from sklearn.metrics import normalized_mutual_info_score

from infogan_jax.core.model import InfoGAN
from infogan_jax.data import ImageArray
from infogan_jax.evaluation.results import Measures, Skipped
from infogan_jax.inference import Trained

_SAMPLE = 5000  # images that the members are compared on


@dataclasses.dataclass(frozen=True)
class Member:
    """What is known of one member; nats, and fractions of images."""

    seed: int
    score: float  # by which the members are compared; see `Choice.because`
    bound: float | None = None
    mi_real: float | None = None
    marginal_entropy: float | None = None
    consistency: float | None = None
    accuracy: float | None = None  # on held-out labels, after the choice
    rank: int | None = None  # by accuracy, from 1


@dataclasses.dataclass(frozen=True)
class Choice:
    """The member that was chosen, and why."""

    chosen: int  # its seed
    because: str
    members: list[Member]


def pairwise_nmi(categories: list[np.ndarray]) -> np.ndarray:
    """Returns how alike members sort the same images: NMI of each pair, `[M, M]`.

    A member that gives all images one category has NMI 0 with all, itself included.

    Args:
        categories: of each member, int `[N]`; their names need not correspond.
    """

    def nmi(a: np.ndarray, b: np.ndarray) -> float:
        if len(set(a)) == 1 or len(set(b)) == 1:
            return 0.0
        return normalized_mutual_info_score(a, b)

    return np.array([[nmi(a, b) for b in categories] for a in categories])


def medoid(matrix: np.ndarray) -> int:
    """Returns the member with the largest similarity to all others."""
    return int(np.argmax(matrix.sum(1)))


def choose(
    trained: list[Trained],
    seeds: list[int],
    results: list[dict[str, Measures | Skipped]],
    images: ImageArray,
) -> Choice:
    """Returns the choice of a member.

    Of three or more it is the medoid in NMI of the categories of training images. Two
    have the same NMI with each other, so it is the one with the higher I(c; x). Labels
    of held-out images only show which rank the choice has.

    Args:
        trained: the members.
        seeds: of each.
        results: the measures of each.
        images: training images, `[N, H, W, C]`.
    """
    category = trained[0].model.category
    reached = [_information(trained[0].model, result) for result in results]
    values = [value for _, value in reached]
    score = np.array(values)
    if category is not None and len(seeds) > 2:
        some = images[:_SAMPLE]
        matrix = pairwise_nmi(
            [t.infer_categories(some)[category.name] for t in trained]
        )
        score = (matrix.sum(1) - matrix.diagonal()) / (len(seeds) - 1)
        chosen = medoid(matrix)
        because = "the score is the mean NMI of its categories with the others'"
    elif isinstance(results[0].get("label_free"), Measures):
        chosen, because = int(np.argmax(values)), f"the score is its {reached[0][0]}"
    else:
        chosen, because = 0, "it is the first one: --evaluators lacks label_free"
    rows = [
        _member(trained[0].model, seed, float(value), result)
        for seed, value, result in zip(seeds, score, results, strict=True)
    ]
    return Choice(seeds[chosen], because, _with_ranks(rows))


def _information(
    model: InfoGAN, results: dict[str, Measures | Skipped]
) -> tuple[str, float]:
    """I(c; x) if it was measured, else the bound on I(c; G); its name and value."""
    measured, bound = results.get("label_free"), "bound on I(c; G), in nats"
    if not isinstance(measured, Measures):
        return bound, 0.0
    if model.category is None:
        return bound, sum(row["bound"] for row in measured.rows.values())
    row = measured.rows.get(model.category.name, {"bound": 0.0})
    if "mi_real" in row:
        return "I(c; x), in nats", row["mi_real"]
    return bound, row["bound"]


def _member(
    model: InfoGAN, seed: int, score: float, results: dict[str, Measures | Skipped]
) -> Member:
    if model.category is None:
        return Member(seed, score)
    known: dict[str, Any] = {}
    label_free, clustering = results.get("label_free"), results.get("clustering")
    if isinstance(label_free, Measures):
        known |= label_free.rows.get(model.category.name, {})
    if isinstance(clustering, Measures):
        known["accuracy"] = clustering.rows[model.category.name]["accuracy"]
    return Member(seed, score, **known)


def _with_ranks(members: list[Member]) -> list[Member]:
    known = [m.accuracy for m in members if m.accuracy is not None]
    if len(known) < len(members):
        return members
    return [
        dataclasses.replace(m, rank=1 + sum(a > (m.accuracy or 0) for a in known))
        for m in members
    ]
