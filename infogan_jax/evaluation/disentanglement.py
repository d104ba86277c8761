"""How disentangled codes are, by the field's measures: functions of two arrays.

Codes are `[N, D]` floats, what Q reads in N images; factors are `[N, F]` whole numbers,
the truth about the same images. Row i of both belongs to image i; rows are in random
order. The protocols are those of disentanglement_lib (Locatello et al. 2019,
arXiv:1811.12359), so that figures compare; a measure that needs images that share a
factor takes them from the N by their factors. A few ten thousand images are enough.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.feature_selection import mutual_info_classif
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, mutual_info_score, roc_auc_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from infogan_jax.core.latents import Categorical
from infogan_jax.cores import core_count
from infogan_jax.data import Data
from infogan_jax.errors import UserError
from infogan_jax.evaluation import Subject
from infogan_jax.evaluation.results import Measures
from infogan_jax.inference import Trained

_TRAIN, _TEST = 10_000, 5_000  # points of a classifier
_GROUP = 64  # images, or pairs of them, that share a factor
_LEAST_DEVIATION = 0.05  # of a code that FactorVAE's measure counts
_BINS = 20


class Dci(NamedTuple):
    """Disentanglement, completeness and informativeness."""

    disentanglement: float
    completeness: float
    informativeness: float


class InfoMec(NamedTuple):
    """Modularity, compactness and explicitness by information."""

    modularity: float
    compactness: float
    explicitness: float


def check(codes: np.ndarray, factors: np.ndarray) -> None:
    """Raises UserError unless the arrays can be measured."""
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors):
        raise UserError(
            f"codes {codes.shape} and factors {factors.shape}: expected [N, D] and "
            "[N, F], a row of both for each image"
        )
    if not np.isfinite(codes).all():
        raise UserError("codes: expected finite numbers")
    for number, column in enumerate(factors.T):
        if len(np.unique(column)) < 2:
            raise UserError(
                f"factor {number}: has one value; expected two or more, so leave it out"
            )


def factor_vae(
    codes: np.ndarray, factors: np.ndarray, rng: np.random.Generator
) -> float:
    """Accuracy of telling by its steadiest code which factor images share.

    10,000 votes of 64 images each train a majority classifier, 5,000 evaluate it. A
    vote is the code whose variance is least, in units of its variance over all images;
    codes with a standard deviation below 0.05 have no vote.

    Reference: Kim and Mnih 2018, arXiv:1802.05983, section 4.
    """
    check(codes, factors)
    some = codes[:_TRAIN]
    active = some.std(0, ddof=1) >= _LEAST_DEVIATION
    if not active.any():
        return 0.0
    scaled = codes[:, active] / some[:, active].std(0, ddof=1)
    train, test = (
        _votes(scaled, factors, rng, count, _GROUP) for count in (_TRAIN, _TEST)
    )
    return float(test[range(len(train)), train.argmax(1)].sum() / test.sum())


def factor_vae_of_infogan_cr(
    codes: np.ndarray, factors: np.ndarray, rng: np.random.Generator
) -> float:
    """The same as InfoGAN-CR's authors compute it.

    500 votes of 100 images, no code left out, and the accuracy on the votes themselves.

    Reference: Lin et al. 2020, arXiv:1906.06034, and its code.
    """
    check(codes, factors)
    deviation = codes.std(0)
    votes = _votes(
        codes / np.where(deviation > 0, deviation, 1), factors, rng, 500, 100
    )
    return float(votes.max(1).sum() / votes.sum())


def _votes(
    codes: np.ndarray,
    factors: np.ndarray,
    rng: np.random.Generator,
    count: int,
    size: int,
) -> np.ndarray:
    """How often each code is the steadiest where a factor is shared, int `[D, F]`."""
    groups = _Groups(factors)
    table = np.zeros((codes.shape[1], factors.shape[1]), int)
    for factor in rng.integers(0, factors.shape[1], count):
        shared = codes[groups.draw(int(factor), size, rng)]
        table[shared.var(0).argmin(), factor] += 1
    return table


class _Groups:
    """Images by the value of each factor."""

    def __init__(self, factors: np.ndarray):
        self._places = [
            [np.flatnonzero(column == value) for value in np.unique(column)]
            for column in factors.T
        ]

    def draw(self, factor: int, size: int, rng: np.random.Generator) -> np.ndarray:
        """Indices of images that share a value of the factor, drawn evenly."""
        values = self._places[factor]
        places = values[rng.integers(len(values))]
        return places[rng.integers(0, len(places), size)]

    def pairs(
        self, factor: int, size: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Indices of pairs, each of which shares a value of the factor."""
        values = self._places[factor]
        chosen = rng.integers(0, len(values), size)
        counts = np.array([len(places) for places in values])[chosen]
        drawn = (rng.random((2, size)) * counts).astype(int)
        first, second = (
            np.array([values[v][i] for v, i in zip(chosen, row, strict=True)])
            for row in drawn
        )
        return first, second


def beta_vae(codes: np.ndarray, factors: np.ndarray, rng: np.random.Generator) -> float:
    """Accuracy of telling linearly, by mean differences, which factor pairs share.

    10,000 points of 64 pairs train a logistic regression, 5,000 evaluate it.

    Reference: Higgins et al. 2017, beta-VAE, section 3.
    """
    check(codes, factors)
    groups = _Groups(factors)

    def points(count: int) -> tuple[np.ndarray, np.ndarray]:
        shared = rng.integers(0, factors.shape[1], count)
        first, second = zip(
            *(groups.pairs(int(factor), _GROUP, rng) for factor in shared), strict=True
        )
        return np.abs(codes[list(first)] - codes[list(second)]).mean(1), shared

    classifier = LogisticRegression(max_iter=1000).fit(*points(_TRAIN))
    return float(classifier.score(*points(_TEST)))


def mutual_information_table(codes: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """I(code; factor) in nats by 20 equal bins of each code's range, `[D, F]`."""
    binned = [np.digitize(code, np.histogram(code, _BINS)[1][:-1]) for code in codes.T]
    return np.array([[mutual_info_score(f, c) for f in factors.T] for c in binned])


def mig(codes: np.ndarray, factors: np.ndarray) -> float:
    """Mean over factors of (best - second code's information) / H(factor).

    Of 10,000 images.

    Reference: Chen et al. 2018, arXiv:1802.04942, eq. 6.
    """
    check(codes, factors)
    codes, factors = codes[:_TRAIN], factors[:_TRAIN]
    table = np.sort(mutual_information_table(codes, factors), axis=0)
    second = table[-2] if len(table) > 1 else np.zeros(len(table[-1]))
    return float(((table[-1] - second) / _entropies(factors)).mean())


def _entropies(factors: np.ndarray) -> np.ndarray:
    return np.array([mutual_info_score(f, f) for f in factors.T])


def dci(codes: np.ndarray, factors: np.ndarray) -> Dci:
    """Importances of codes for factors in boosted trees, and the trees' accuracy.

    10,000 images train, 5,000 evaluate. Disentanglement: how far each code serves one
    factor, weighted by its importance; completeness: how far each factor is served by
    one code.

    Reference: Eastwood and Williams 2018, section 3.
    """
    check(codes, factors)
    train, test = slice(_TRAIN), slice(_TRAIN, _TRAIN + _TEST)

    def fit(factor: np.ndarray) -> tuple[np.ndarray, float]:
        trees = GradientBoostingClassifier(random_state=0)
        trees.fit(codes[train], factor[train])
        right = trees.predict(codes[test]) == factor[test]
        return np.abs(trees.feature_importances_), float(right.mean())

    with ThreadPoolExecutor(core_count()) as pool:  # trees grow in compiled code
        importance, right = zip(*pool.map(fit, factors.T), strict=True)
    return Dci(*_dci_of(np.array(importance).T), float(np.mean(right)))


def _dci_of(importance: np.ndarray) -> tuple[float, float]:
    """Disentanglement and completeness of importances `[D, F]`."""

    def focus(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """1 - entropy of each row, with the row's length as base; and its weight."""
        total = rows.sum(1)
        p = rows / np.where(total > 0, total, 1)[:, None]
        entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(1)
        return 1 - entropy / np.log(rows.shape[1]), total / total.sum()

    scores = (focus(importance), focus(importance.T))
    by_code, by_factor = (float((value * weight).sum()) for value, weight in scores)
    return by_code, by_factor


def sap(codes: np.ndarray, factors: np.ndarray) -> float:
    """Mean over factors of the gap between the two codes that best tell it linearly.

    A support vector machine on a single code each; 10,000 images train, 5,000 evaluate.

    Reference: Kumar et al. 2018, arXiv:1711.00848, section 3.
    """
    check(codes, factors)
    train, test = slice(_TRAIN), slice(_TRAIN, _TRAIN + _TEST)
    scores = np.zeros((codes.shape[1], factors.shape[1]))
    for d, code in enumerate(codes.T[..., None]):
        for f, factor in enumerate(factors.T):
            machine = LinearSVC(C=0.01, class_weight="balanced", random_state=0)
            machine.fit(code[train], factor[train])
            scores[d, f] = machine.score(code[test], factor[test])
    best = np.sort(scores, axis=0)
    return float((best[-1] - best[-2]).mean()) if len(best) > 1 else float(best.mean())


def modularity(codes: np.ndarray, factors: np.ndarray) -> float:
    """Mean over codes of how little they know of all factors but their own.

    1 - sum of the other squared informations / (max^2 (F - 1)); 10,000 images.

    Reference: Ridgeway and Mozer 2018, arXiv:1802.05312, section 3.
    """
    check(codes, factors)
    table = mutual_information_table(codes[:_TRAIN], factors[:_TRAIN]) ** 2
    most = table.max(1)
    most_of_others = np.where(most > 0, most, 1) * (table.shape[1] - 1)
    own = 1 - (table.sum(1) - most) / most_of_others
    return float(np.where(most > 0, own, 0).mean())


def explicitness(codes: np.ndarray, factors: np.ndarray) -> float:
    """Mean AUC of telling each value of each factor linearly from the others.

    10,000 images train, 5,000 evaluate.

    Reference: Ridgeway and Mozer 2018, arXiv:1802.05312, section 3.
    """
    check(codes, factors)
    aucs = []
    for _, truth, probabilities, classes in _linear_readings(codes, factors):
        aucs += [
            roc_auc_score(truth == value, probabilities[:, k])
            for k, value in enumerate(classes)
            if 0 < (truth == value).sum() < len(truth)
        ]
    return float(np.mean(aucs))


def info_mec(codes: np.ndarray, factors: np.ndarray) -> InfoMec:
    """Modularity, compactness and explicitness by information.

    The information of each code about each factor is estimated without bins, over
    H(factor); codes whose range is below an eighth of the largest are left out. A share
    of the largest entry is rescaled so that equal entries give 0. Explicitness is the
    part of H(factor) that a logistic regression on all codes removes.

    Reference: Hsu et al. 2023, arXiv:2305.18378, section 4.
    """
    check(codes, factors)
    ranges = np.ptp(codes, axis=0)
    used = codes[:, ranges >= ranges.max() / 8]
    some, truth = used[:_TRAIN], factors[:_TRAIN]
    table = np.array(
        [mutual_info_classif(some, f, random_state=0) for f in truth.T]
    ).T / _entropies(truth)

    def concentration(rows: np.ndarray) -> float:
        total = rows.sum(1)
        largest = np.where(total > 0, rows.max(1) / np.where(total > 0, total, 1), 0)
        least = 1 / rows.shape[1]
        return float((largest.mean() - least) / (1 - least)) if least < 1 else 1.0

    explained = []
    for before, after, probabilities, classes in _linear_readings(codes, factors):
        prior = [(before == value).mean() for value in classes]
        nothing = log_loss(after, np.tile(prior, (len(after), 1)), labels=classes)
        something = log_loss(after, probabilities, labels=classes)
        explained.append((nothing - something) / nothing)
    return InfoMec(
        concentration(table), concentration(table.T), float(np.mean(explained))
    )


def _linear_readings(codes: np.ndarray, factors: np.ndarray) -> list[tuple[Any, ...]]:
    """For each factor: its training and test values, probabilities, and classes."""
    scaled = StandardScaler().fit(codes[:_TRAIN]).transform(codes)
    readings = []
    for factor in factors.T:
        before, after = factor[:_TRAIN], factor[_TRAIN : _TRAIN + _TEST]
        reader = LogisticRegression(max_iter=1000).fit(scaled[:_TRAIN], before)
        probabilities = reader.predict_proba(scaled[_TRAIN : _TRAIN + _TEST])
        readings.append((before, after, probabilities, reader.classes_))
    return readings


def measure(codes: np.ndarray, factors: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Returns all measures by name, each at most 1.

    Args:
        codes: `[N, D]`.
        factors: `[N, F]`; N is 15,000 or more.
        seed: of what the measures draw.

    Raises:
        UserError: the arrays cannot be measured.
    """
    check(codes, factors)
    if len(codes) < _TRAIN + _TEST:
        raise UserError(f"{len(codes):,} images: expected {_TRAIN + _TEST:,} or more")
    drawn: dict[str, Callable] = {
        "factor_vae": factor_vae,
        "factor_vae_of_infogan_cr": factor_vae_of_infogan_cr,
        "beta_vae": beta_vae,
    }
    measures = {
        name: function(codes, factors, np.random.default_rng(seed))
        for name, function in drawn.items()
    }
    whole, mec = dci(codes, factors), info_mec(codes, factors)
    return measures | {
        "mig": mig(codes, factors),
        "dci_disentanglement": whole.disentanglement,
        "dci_completeness": whole.completeness,
        "dci_informativeness": whole.informativeness,
        "sap": sap(codes, factors),
        "modularity": modularity(codes, factors),
        "explicitness": explicitness(codes, factors),
        "info_modularity": mec.modularity,
        "info_compactness": mec.compactness,
        "info_explicitness": mec.explicitness,
    }


def factors_of(data: Data) -> np.ndarray:
    """Returns the factors of the held-out images, `[M, F]`.

    Raises:
        UserError: they are unknown, or too few.
    """
    if data.eval_factors is None:
        raise UserError(
            "--evaluators=disentanglement: needs images whose factors are known, such "
            "as --dataset=sprites; choose one, or leave the evaluator out"
        )
    factors = np.stack([*data.eval_factors.values()], 1)
    if len(factors) < _TRAIN + _TEST:
        raise UserError(
            f"--evaluators=disentanglement: {len(factors):,} held-out images; expected "
            f"{_TRAIN + _TEST:,} or more"
        )
    return factors


def read(trained: Trained, images: Any) -> np.ndarray:
    """Returns what Q reads in images, a column a code, `[N, D]`.

    A category is its number, which says nothing of its distance to others.
    """
    values = trained.infer_codes(images)
    columns = [
        values[code.name].argmax(1)
        if isinstance(code, Categorical)
        else values[code.name]
        for code in trained.model.spec
        if code.n_params
    ]
    return np.column_stack(columns).astype(float)


def evaluate(subject: Subject) -> Measures:
    """Measures all codes as Q reads them from held-out images, a number each."""
    factors = factors_of(subject.data)
    codes = read(subject.trained, subject.data.eval_images)
    return Measures({"codes": measure(codes, factors)})
