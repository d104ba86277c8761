"""Choice of one member among several seeds, without a label."""

import dataclasses
from typing import Any

import jax
import numpy as np
from sklearn.metrics import normalized_mutual_info_score

from infogan_jax.core.latents import join_latents, split_latents, trained_range
from infogan_jax.core.model import InfoGAN
from infogan_jax.data import ImageArray
from infogan_jax.evaluation import disentanglement
from infogan_jax.evaluation.results import Choice, Measures, Member, Skipped
from infogan_jax.inference import Trained

_SAMPLE = 5000  # images that the members are compared on
_LEVELS = 10  # of a continuous code


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


def model_centrality(trained: list[Trained]) -> np.ndarray:
    """Returns how well members read the codes of each other's pictures, `[M, M]`.

    FactorVAE's measure (`disentanglement.factor_vae_of_infogan_cr`) where one member
    draws, so that its codes are the true factors, and the other reads; the mean of both
    ways round. A member whose codes mean what those of others mean scores high.

    Reference: Lin et al. 2020, InfoGAN-CR, arXiv:1906.06034, section 4.

    Args:
        trained: members with the same codes, one read code or more.
    """
    drawn = [_draw_levels(member, seed) for seed, member in enumerate(trained)]

    def score(drawer: int, reader: int) -> float:
        images, levels = drawn[drawer]
        codes = disentanglement.read(trained[reader], images)
        rng = np.random.default_rng(0)
        return disentanglement.factor_vae_of_infogan_cr(codes, levels, rng)

    members = range(len(trained))
    scores = np.array([[score(i, j) for j in members] for i in members])
    return (scores + scores.T) / 2


def _draw_levels(trained: Trained, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of codes at evenly spaced levels, and each code's level, int `[N, D]`.

    Noise is drawn from its prior.
    """
    spec, rng = trained.model.spec, np.random.default_rng(seed)
    values = split_latents(spec, trained.sample_latents(jax.random.key(seed), _SAMPLE))
    levels = []
    for code in spec:
        if code.n_params and code.dim:
            ladder = code.traverse(max(_LEVELS, code.dim), *trained_range(code))
            levels.append(rng.integers(0, len(ladder), _SAMPLE))
            values[code.name] = np.asarray(ladder)[levels[-1]]
    return trained.generate(join_latents(spec, values)), np.column_stack(levels)


def mean_of_others(matrix: np.ndarray) -> np.ndarray:
    """Returns each member's mean likeness to the others, `[M]`, of all, `[M, M]`."""
    return (matrix.sum(1) - matrix.diagonal()) / (len(matrix) - 1)


def choose(
    trained: list[Trained],
    seeds: list[int],
    results: list[dict[str, Measures | Skipped]],
    images: ImageArray,
    by: str = "categories",
) -> Choice:
    """Returns the choice of a member.

    Of three or more it is the one that is most like all others: by the categories of
    training images (NMI), or by all codes (`model_centrality`). Two are as like each
    other, so it is the one with the higher I(c; x). Labels of held-out images only show
    which rank the choice has.

    Args:
        trained: the members.
        seeds: of each.
        results: the measures of each.
        images: training images, `[N, H, W, C]`.
        by: `categories` or `codes`; without a categorical code it is by codes.
    """
    category = trained[0].model.category
    reached = [_information(trained[0].model, result) for result in results]
    values = [value for _, value in reached]
    score = np.array(values)
    if len(seeds) > 2:
        if by == "categories" and category is not None:
            some = images[:_SAMPLE]
            matrix = pairwise_nmi(
                [t.infer_categories(some)[category.name] for t in trained]
            )
            because = "the score is the mean NMI of its categories with the others'"
        else:
            matrix = model_centrality(trained)
            because = "the score is its ModelCentrality: the others read its codes"
        score = mean_of_others(matrix)
        chosen = int(score.argmax())
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
