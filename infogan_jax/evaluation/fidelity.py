"""How alike two sets of images are: FID, KID, precision, recall, density, coverage.

All of them compare features, arrays `[N, F]`, and mean something only beside the same
figure for two sets of real images (the floor), under the same extractor.
"""

import jax
import numpy as np
from sklearn.neighbors import NearestNeighbors

from infogan_jax.config import UserError
from infogan_jax.evaluation.inference import apply
from infogan_jax.evaluation.judge import Features, load_extractor
from infogan_jax.latents import parse_spec, sample_latents
from infogan_jax.steps import generate

_MOST = 10_000  # images of each set
_SEARCHED = 100_000  # training images among which the nearest one is sought
_NEIGHBOURS = 5
SHOWN = 24  # pictures beside their nearest training images
_FEWEST = 2 * _NEIGHBOURS


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Between Gaussians fitted to two sets of features `[N, F]`.

    |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)). It falls as N grows, so compare
    at one N only.

    References:
        Heusel et al. 2017, arXiv:1706.08500, eq. 6.
    """
    _check(a, b)
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    difference = a.mean(0) - b.mean(0)
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    cov_a, cov_b = np.atleast_2d(cov_a), np.atleast_2d(cov_b)
    # The eigenvalues of a product of two covariances are real and not negative.
    eigenvalues = np.clip(np.linalg.eigvals(cov_a @ cov_b).real, 0, None)
    cross = np.sqrt(eigenvalues).sum()
    return float(
        difference @ difference + np.trace(cov_a) + np.trace(cov_b) - 2 * cross
    )


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """KID: the unbiased squared maximum mean discrepancy, kernel (x.y / F + 1)^3.

    References:
        Binkowski et al. 2018, arXiv:1801.01401, section 4.
    """
    _check(a, b)
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    dim = a.shape[1]

    def total(x, y):
        parts = np.array_split(x, max(1, len(x) // 1000))  # of memory, not of the sum
        return sum(((part @ y.T / dim + 1) ** 3).sum() for part in parts)

    def among(x):
        own = (((x**2).sum(1) / dim + 1) ** 3).sum()
        return (total(x, x) - own) / (len(x) * (len(x) - 1))

    return float(among(a) + among(b) - 2 * total(a, b) / (len(a) * len(b)))


def neighbourhoods(
    real: np.ndarray, fake: np.ndarray, k: int = _NEIGHBOURS
) -> dict[str, float]:
    """Shares of one set that lie among the other, by balls to the k-th neighbour.

    Returns:
        `precision`, of fakes inside any real ball; `recall`, of reals inside any fake
        ball; `density`, real balls around a fake, over k; `coverage`, of reals whose
        ball holds a fake.

    References:
        Kynkaanniemi et al. 2019, arXiv:1904.06991, eq. 2 and 3;
        Naeem et al. 2020, arXiv:2002.09797, eq. 4 and 5.
    """
    _check(real, fake)
    if min(len(real), len(fake)) <= k:
        raise UserError(
            f"fidelity: {len(real)} and {len(fake)} images; expected more than {k}"
        )

    def radii(x):  # the first neighbour of a point is itself
        return NearestNeighbors(n_neighbors=k + 1).fit(x).kneighbors(x)[0][:, -1]

    real_radius, fake_radius = radii(real), radii(fake)
    inside_real, inside_fake, covered = np.zeros(len(fake)), [], []
    for start in range(0, len(real), 500):
        part = real[start : start + 500]
        distance = _distances(part, fake)
        near = distance <= real_radius[start : start + 500, None]
        inside_real += near.sum(0)
        covered.append(near.any(1))
        inside_fake.append((distance <= fake_radius).any(1))
    return {
        "precision": float((inside_real > 0).mean()),
        "recall": float(np.concatenate(inside_fake).mean()),
        "density": float(inside_real.mean() / k),
        "coverage": float(np.concatenate(covered).mean()),
    }


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return np.sqrt(np.maximum(squares, 0))


def measures(real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
    """All of them, on features `[N, F]`.

    Raises:
        UserError: too few rows, other widths, or values that are not finite.
    """
    return {
        "fid": frechet_distance(real, fake),
        "kid": kernel_distance(real, fake),
        **neighbourhoods(real, fake),
    }


def compare(real: Features, fake: Features) -> dict[str, float]:
    """The measures of features that know their extractor.

    Raises:
        UserError: they are of two extractors, or as `measures` says.
    """
    if real.extractor != fake.extractor:
        raise UserError(
            f"fidelity: features of {real.extractor} and of {fake.extractor}; expected "
            "one extractor for both, such as one --classifier"
        )
    return measures(real.values, fake.values)


def nearest(images: np.ndarray, training: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest training image of each image, and how far it is.

    Args:
        images: features `[N, F]`.
        training: features `[M, F]`.

    Returns:
        Places in `training`, int `[N]`, and distances `[N]`.
    """
    _check(images, training)
    found = NearestNeighbors(n_neighbors=1).fit(training).kneighbors(images)
    return found[1][:, 0], found[0][:, 0]


def copies(generated: np.ndarray, held_out: np.ndarray) -> float:
    """The share of pictures that are nearer to a training image than real ones are.

    Args:
        generated: distance of each picture to the nearest training image, `[N]`.
        held_out: the same of real images that were not trained on, `[M]`.

    Returns:
        The share of pictures below the first percentile of real images: about 0.01 if
        pictures are as new as held-out images.
    """
    return float((generated < np.percentile(held_out, 1)).mean())


def mode_coverage(modes: np.ndarray, n_modes: int) -> tuple[int, float]:
    """How many modes occur, and KL(p || even) in nats, p being their frequencies.

    Args:
        modes: of each picture, int `[N]` below `n_modes`.
        n_modes: how many there are.
    """
    share = np.bincount(modes, minlength=n_modes) / len(modes)
    found = share[share > 0]
    return len(found), float(np.sum(found * np.log(found * n_modes)))


def _check(a: np.ndarray, b: np.ndarray) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise UserError(
            f"fidelity: features {a.shape} and {b.shape}; expected two arrays [N, F] "
            "of one extractor"
        )
    if min(len(a), len(b)) < 2:
        raise UserError(f"fidelity: {len(a)} and {len(b)} images; expected 2 or more")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise UserError("fidelity: features are not finite; was the extractor trained?")


def sample(state, config, n: int) -> np.ndarray:
    """The n pictures that are measured, `[n, H, W, C]`; more begin with the same."""
    spec = parse_spec(config.codes)
    latents = sample_latents(jax.random.key(config.seed), n, spec)
    return apply(generate, state, np.asarray(latents), config)


def evaluate(state, config, data) -> dict:
    """Generated pictures, and as the floor other real ones, beside real images.

    Both halves are of the training set, for held-out sets are often small.
    """
    n = min(_MOST, len(data.images) // 2)
    if n < _FEWEST:
        return {"skipped": f"{len(data.images)} images; expected {2 * _FEWEST} or more"}
    extractor = load_extractor(config, data)
    real, other = data.images[:n], data.images[n : 2 * n]
    fake = sample(state, config, n)
    features = [extractor(images) for images in (real, fake, other)]
    rest = data.images[2 * n : _SEARCHED]
    training = np.concatenate(
        [features[0].values, features[2].values]
        + ([extractor.features(rest)] if len(rest) else [])
    )
    places, distances = nearest(features[1].values, training)
    held_out = extractor.features(data.eval_images)
    return {
        "generated": compare(features[0], features[1]),
        "floor": compare(features[0], features[2]),
        "copies": copies(distances, nearest(held_out, training)[1]),
        "nearest": places[:SHOWN].tolist(),  # of the first pictures
        "searched": len(training),
        "images": n,
        "extractor": features[0].extractor,
    }
