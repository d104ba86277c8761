"""How alike two sets of images are: FID, KID, precision, recall, density, coverage.

All of them compare features, arrays `[N, F]`. A value means something only beside the
same measure of two sets of real images (the real reference), by the same extractor.
"""

from collections.abc import Callable

import jax
import numpy as np
from sklearn.neighbors import NearestNeighbors

from infogan_jax.core.models import ImageShape
from infogan_jax.errors import UserError
from infogan_jax.evaluation import Subject
from infogan_jax.evaluation.extractors import (
    Features,
    make_extractor,
    random_extractor,
    texture_extractor,
)
from infogan_jax.evaluation.properties import foreground
from infogan_jax.evaluation.results import Measures, Skipped
from infogan_jax.inference import Trained

_MAX_IMAGES = 10_000  # of each set
_MAX_OF_VIEW = 3000  # of each set, in views of parts of the images
_MAX_SEARCHED = 100_000  # training images among which the nearest one is sought
_NEIGHBOURS = 5
SHOWN = 24  # generated images beside their nearest training images
_MIN_IMAGES = 2 * _NEIGHBOURS  # of each set


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Returns FID: the distance of Gaussians fitted to two sets of features `[N, F]`.

    With means m and covariances S it is `|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a
    S_b)^(1/2))`. It falls as N grows, so compare values at one N only.

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
    """Returns KID: the unbiased squared MMD of the kernel (x.y / F + 1)^3.

    References:
        Binkowski et al. 2018, arXiv:1801.01401, section 4.
    """
    _check(a, b)
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    dim = a.shape[1]

    def total(x: np.ndarray, y: np.ndarray) -> float:
        parts = np.array_split(x, max(1, len(x) // 1000))  # to bound memory
        return sum(((part @ y.T / dim + 1) ** 3).sum() for part in parts)

    def among(x: np.ndarray) -> float:
        own = (((x**2).sum(1) / dim + 1) ** 3).sum()
        return (total(x, x) - own) / (len(x) * (len(x) - 1))

    return float(among(a) + among(b) - 2 * total(a, b) / (len(a) * len(b)))


def neighbourhoods(
    real: np.ndarray, fake: np.ndarray, k: int = _NEIGHBOURS
) -> dict[str, float]:
    """Returns fractions of one set within the other, by balls to the k-th neighbour.

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

    def radii(x: np.ndarray) -> np.ndarray:  # a point's first neighbour is itself
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
    """Returns all measures of features `[N, F]`.

    Raises:
        UserError: too few rows, other widths, or values that are not finite.
    """
    return {
        "fid": frechet_distance(real, fake),
        "kid": kernel_distance(real, fake),
        **neighbourhoods(real, fake),
    }


def compare(real: Features, fake: Features) -> dict[str, float]:
    """Returns the measures of features of one extractor.

    Raises:
        UserError: they are of two extractors, or as `measures` says.
    """
    if real.extractor != fake.extractor:
        raise UserError(
            f"fidelity: features of {real.extractor} and of {fake.extractor}; expected "
            "one extractor for both, such as one --eval_classifier"
        )
    return measures(real.values, fake.values)


def nearest(images: np.ndarray, training: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the nearest training image of each image, and its distance.

    Args:
        images: features `[N, F]`.
        training: features `[M, F]`.

    Returns:
        Indices into `training`, int `[N]`, and distances `[N]`.
    """
    _check(images, training)
    finder = NearestNeighbors(n_neighbors=1).fit(training)
    distances, indices = finder.kneighbors(images)
    return indices[:, 0], distances[:, 0]


def near_duplicate_rate(generated: np.ndarray, held_out: np.ndarray) -> float:
    """Returns how often generated images lie closer to training images than real ones.

    Args:
        generated: distance of each image to the nearest training image, `[N]`.
        held_out: the same of real images that were not trained on, `[M]`.

    Returns:
        The fraction below the first percentile of held-out images: about 0.01 if
        generated images are as new as those.
    """
    return float((generated < np.percentile(held_out, 1)).mean())


def mode_coverage(modes: np.ndarray, n_modes: int) -> tuple[int, float]:
    """Returns how many modes occur, and KL(p || uniform) of their frequencies, in nats.

    Args:
        modes: of each image, int `[N]` below `n_modes`.
        n_modes: how many there are.
    """
    p = np.bincount(modes, minlength=n_modes) / len(modes)
    p = p[p > 0]
    return len(p), float(np.sum(p * np.log(p * n_modes)))


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


def sample(trained: Trained, seed: int, n: int) -> np.ndarray:
    """Returns the first n images that are measured, `[n, H, W, C]`."""
    return trained.generate(trained.sample_latents(jax.random.key(seed), n))


def evaluate(subject: Subject) -> Measures | Skipped:
    """Compares generated images, and as the reference other real ones, with real ones.

    Both halves are of the training set, since held-out sets are often small. Whole
    images count first; then each of `_views`, on fewer images.
    """
    data = subject.data
    n = min(_MAX_IMAGES, len(data.images) // 2)
    if n < _MIN_IMAGES:
        return Skipped(f"{len(data.images)} images; expected {2 * _MIN_IMAGES} or more")
    extractor = make_extractor(subject)
    real, other = data.images[:n], data.images[n : 2 * n]
    fake = sample(subject.trained, subject.seed, n)
    features = [extractor(images) for images in (real, fake, other)]
    rest = data.images[2 * n : _MAX_SEARCHED]
    training = np.concatenate(
        [features[0].values, features[2].values]
        + ([extractor.features(rest)] if len(rest) else [])
    )
    indices, distances = nearest(features[1].values, training)
    held_out = nearest(extractor.features(data.eval_images), training)[1]
    rows = {
        "generated": compare(features[0], features[1]),
        "real_reference": compare(features[0], features[2]),
    }
    some = [images[:_MAX_OF_VIEW] for images in (real, fake, other)]
    for name, view in _views(subject.trained.model.image_shape).items():
        of_real, of_fake, of_other = (view(images) for images in some)
        rows[f"generated_{name}"] = compare(of_real, of_fake)
        rows[f"real_reference_{name}"] = compare(of_real, of_other)
    return Measures(
        rows,
        {
            "near_duplicate_rate": near_duplicate_rate(distances, held_out),
            "nearest": indices[:SHOWN].tolist(),  # of the first generated images
            "searched": len(training),
            "images": n,
            "extractor": features[0].extractor,
        },
    )


def _views(image_shape: ImageShape) -> dict[str, Callable[[np.ndarray], Features]]:
    """Ways to look at images, each of which sees faults that others do not.

    texture: how it is drawn, wherever it is; mask: the outline of an object on a dark
    background; centre: the middle half of the image, at twice its size.
    """
    height, width, _ = image_shape
    if min(height, width) < 16:
        return {}
    top, left = height // 4, width // 4
    of_mask = random_extractor((height, width, 1))
    of_whole = random_extractor(image_shape)
    of_texture = texture_extractor(image_shape)

    def centre(images: np.ndarray) -> Features:
        middle = images[:, top : top + height // 2, left : left + width // 2]
        return of_whole(middle.repeat(2, axis=1).repeat(2, axis=2))

    return {
        "texture": lambda images: of_texture(images),
        "mask": lambda images: of_mask(foreground(images)[..., None] * np.float32(1)),
        "centre": centre,
    }
