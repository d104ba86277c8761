"""Pseudo-labels: categories of training images, corrected by their neighbours.

A style that is far from the rest of its class, such as sevens with a bar, may join the
category of another class in the first steps of a run. Gradients do not move it back:
I(c; x) is the same wherever a whole style is, and a single image that moved would be
torn from those like it. Its neighbours, a small deformation away, show where it
belongs: those outside the style are images of its own class. So the graph of neighbours
is divided into communities, which are classes and styles; each goes to the category
that most links leading out of it point to, and Q learns the result.
"""

import contextlib
import hashlib
import io
import logging
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import networkx
import numpy as np
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

from infogan_jax.cores import core_count
from infogan_jax.errors import UserError
from infogan_jax.files import cache_folder, write_atomically
from infogan_jax.inference import Trained

logger = logging.getLogger(__name__)

_SAMPLE = 60_000  # images in the graph: time grows with the square
_CANDIDATES = 50  # nearest images in plain pixels, among which neighbours are sought
_MAX_SHIFT = 2  # pixels by which a deformation may move each one
_BATCH = 500  # images that are compared in one call
LINKS = 7  # of each image, counted where a community has few that leave it
_NEIGHBOURS = 4  # of these, in the graph
_SCALE = 2  # index of the neighbour whose distance is an image's unit: the third
_TINY = 1e-6  # least weight of a link, also between equal images
DIVISIONS = 5  # into communities: each resolves near ties differently
_MAX_STYLE = 0.5  # largest fraction of a category that may still be a style of it
_DAMPING = 0.9  # weight of the neighbours' votes, beside an image's own
_ROUNDS = 30  # of propagation, after which 0.04 of the change is left


def pseudo_labels(
    step: int,
    trained: Sequence[Trained],
    seeds: Sequence[int],
    images: Any,
    path: Path,
    first_step: int,
) -> np.ndarray:
    """Returns the pseudo-labels of all training images from `first_step` on.

    They are computed at `first_step`, and read back from a file at later ones.

    Args:
        step: the step of the run.
        trained: its members.
        seeds: of each member.
        images: the training images, uint8 `[N, H, W, C]`.
        path: of the file, pseudo_labels.npy.
        first_step: `config.pseudo_label_step`.

    Returns:
        int32 `[M, N]`.

    Raises:
        UserError: the file is missing or damaged.
    """
    category = trained[0].model.category
    assert category is not None
    if step > first_step:
        return _read(path, (len(trained), len(images)), category.size, step)
    sample = np.arange(0, len(images), -(-len(images) // _SAMPLE))
    logger.info(f"step {step:,}: finding the neighbours of {len(sample):,} images")
    near, squared = _kept_neighbours(images[sample])
    graph, links = neighbour_graph(near, squared), _symmetric(near, np.ones(near.shape))
    divisions, nearest = communities(graph), _nearest(images, sample)
    labels = []
    for member, seed in zip(trained, seeds, strict=True):
        before = member.infer_categories(images)[category.name]
        homes = [
            place_communities(before[sample], division, links, category.size)
            for division in divisions
        ]
        votes = np.mean([np.eye(category.size)[home] for home in homes], 0)
        after = propagate(votes, graph).argmax(1)[nearest]
        labels.append(after)
        logger.info(f"seed {seed}, step {step:,}: {describe(before, after)}")
    content, result = io.BytesIO(), np.array(labels, np.int32)
    np.save(content, result)
    write_atomically(path, content.getvalue())
    return result


def _read(path: Path, shape: tuple[int, int], size: int, step: int) -> np.ndarray:
    try:
        saved = np.load(path, mmap_mode="r", allow_pickle=False)
        if saved.shape != shape or saved.dtype != np.int32:
            raise ValueError("another run's shape")
        if not (saved.min() >= 0 and saved.max() < size):
            raise ValueError("no such categories")
        return np.array(saved)
    except (OSError, ValueError, EOFError):
        raise UserError(
            f"{path}: missing or damaged, and needed at step {step}; restore it "
            "from a copy, or start over with --restart"
        ) from None


def _kept_neighbours(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`neighbours`, which every run on these images shares, kept on disk."""
    settings = (_CANDIDATES, _MAX_SHIFT, LINKS)
    digest = hashlib.sha256(repr((images.shape, settings)).encode())
    digest.update(np.ascontiguousarray(images).data)
    path = cache_folder() / f"neighbours_{digest.hexdigest()[:16]}.npz"
    try:
        with np.load(path) as kept:
            return kept["near"], kept["squared"]
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        near, squared = neighbours(images)  # there is none yet, or it is damaged
    content = io.BytesIO()
    np.savez(content, near=near, squared=squared)
    with contextlib.suppress(OSError):  # a home that cannot be written
        write_atomically(path, content.getvalue())
    return near, squared


def neighbours(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the images that a small deformation makes of each, the nearest first.

    Args:
        images: uint8 `[N, H, W, C]`.

    Returns:
        Their indices and squared distances, `[N, 7]` each; fewer if N is below 8.
    """
    count = min(_CANDIDATES + 1, len(images))
    points = half_size(images)
    finder = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(points)
    candidates = finder.kneighbors(points, return_distance=False)
    stored = jnp.asarray(images)

    def compare(start: int) -> np.ndarray:
        batch = slice(start, start + _BATCH)
        return np.array(deformed_distance(stored, images[batch], candidates[batch]))

    with ThreadPoolExecutor(core_count()) as pool:  # a CPU call uses one core
        squared = np.concatenate([*pool.map(compare, range(0, len(images), _BATCH))])
    squared[candidates == np.arange(len(images))[:, None]] = np.inf  # the image itself
    order = squared.argsort(1)[:, : min(LINKS, len(images) - 1)]
    return (
        np.take_along_axis(candidates, order, 1),
        np.take_along_axis(squared, order, 1),
    )


@jax.jit
def deformed_distance(
    images: jax.Array, own: jax.Array, others: jax.Array
) -> jax.Array:
    """Returns distances of images to others after the best local deformation.

    The image distortion model of gradients with their context (Keysers et al. 2007,
    Deformation models for image recognition, section 3.4): the sum over pixels p of
    the least, over shifts s of up to 2 pixels, of the sum over q next to p of
    |grad a(q) - grad b(q + s)|^2, by Sobel's gradients.

    Args:
        images: uint8 `[N, H, W, C]`.
        own: a, uint8 `[n, H, W, C]`.
        others: indices of b among the images, int `[n, M]`.

    Returns:
        float32 `[n, M]`.
    """
    height, width, _ = images.shape[1:]
    shifts = range(2 * _MAX_SHIFT + 1)

    def sum_of_three(x: jax.Array, axis: int) -> jax.Array:
        """Sums of three neighbours along an axis, which becomes shorter by two."""
        size = x.shape[axis] - 2
        first, second, third = (
            jax.lax.slice_in_dim(x, i, i + size, axis=axis) for i in range(3)
        )
        return first + second + third

    def compare(inputs: tuple[jax.Array, jax.Array]) -> jax.Array:
        image, places = inputs
        a = jnp.pad(_gradients(image[None]), ((0, 0), (0, 0), (1, 1), (1, 1)))
        edge = (_MAX_SHIFT + 1, _MAX_SHIFT + 1)
        b = jnp.pad(_gradients(images[places]), ((0, 0), (0, 0), edge, edge))
        least: Any = jnp.inf
        for i in shifts:
            for j in shifts:
                moved = b[:, :, i : i + height + 2, j : j + width + 2]
                local = sum_of_three(sum_of_three(((a - moved) ** 2).sum(1), 1), 2)
                least = jnp.minimum(least, local)
        return least.sum((1, 2))

    return jax.lax.map(compare, (own, others))


def _gradients(images: jax.Array) -> jax.Array:
    """Sobel's, uint8 `[N, H, W, C]` -> float32 `[N, 2 C, H, W]`, with a dark border."""
    x = jnp.pad(images / jnp.float32(255), ((0, 0), (1, 1), (1, 1), (0, 0)))
    x = jnp.moveaxis(x, -1, 1)
    across = x[..., 2:] - x[..., :-2]
    across = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
    down = x[..., 2:, :] - x[..., :-2, :]
    down = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    return jnp.concatenate([across, down], 1)


def half_size(images: np.ndarray) -> np.ndarray:
    """Returns means of 2 x 2 pixels, float32 `[N, H // 2 * W // 2 * C]`."""
    n, height, width, channels = images.shape
    even = images[:, : height // 2 * 2, : width // 2 * 2]
    blocks = even.reshape(n, height // 2, 2, width // 2, 2, channels)
    return blocks.mean((2, 4), dtype=np.float32).reshape(n, -1)


def neighbour_graph(near: np.ndarray, squared: np.ndarray) -> sparse.csr_array:
    """Returns links of each image to its four nearest neighbours, in both directions.

    Their weight is exp(-d^2 / s s'): d is the distance, s and s' are the distances of
    both images to their third neighbour (Zelnik-Manor and Perona 2004, Self-tuning
    spectral clustering, eq. 3).

    Args:
        near: indices of neighbours, the nearest first, `[N, M]`.
        squared: d^2, of the same shape.

    Returns:
        W, symmetric, `[N, N]`; two images that are each other's neighbours count twice.
    """
    near, squared = near[:, :_NEIGHBOURS], squared[:, :_NEIGHBOURS]
    own = np.sqrt(squared[:, min(_SCALE, near.shape[1] - 1)])
    unit = np.maximum(own[:, None] * own[near], _TINY)
    return _symmetric(near, np.maximum(np.exp(-squared / unit), _TINY))


def _symmetric(near: np.ndarray, weights: np.ndarray) -> sparse.csr_array:
    origin = np.repeat(np.arange(len(near)), near.shape[1])
    shape = (len(near), len(near))
    one_way = sparse.csr_array((weights.ravel(), (origin, near.ravel())), shape)
    return one_way + one_way.T


def communities(graph: sparse.csr_array) -> np.ndarray:
    """Returns divisions of images into sets with more links within than by chance.

    By modularity (Blondel et al. 2008, Fast unfolding of communities in large
    networks), each from another random order.

    Args:
        graph: W, `[N, N]`.

    Returns:
        The community of each image, int `[5, N]`.
    """
    network = networkx.from_scipy_sparse_array(graph)
    divisions = np.zeros((DIVISIONS, graph.shape[0]), np.int64)
    for seed, division in enumerate(divisions):
        parts = networkx.community.louvain_communities(network, seed=seed)
        for i, members in enumerate(parts):
            division[list(members)] = i
    return divisions


def place_communities(
    categories: np.ndarray, community: np.ndarray, links: sparse.csr_array, size: int
) -> np.ndarray:
    """Returns the category of each image after its community was placed.

    A community first has the category that Q gives to most of its images. Among the
    communities that are at most half of their category, the one moves whose links to
    another category exceed those to the rest of its own by most; then the next one,
    until none does.

    Args:
        categories: of each image, int `[N]` below `size`.
        community: of each image, int `[N]`.
        links: symmetric, `[N, N]`.
        size: how many categories there are.

    Returns:
        The new category of each image, `[N]`.
    """
    images = np.arange(len(community))
    member = sparse.csr_array((np.ones(len(images)), (images, community)))
    count = member.sum(0)
    home = (member.T @ np.eye(size)[categories]).argmax(1)
    between = (member.T @ links @ member).toarray()
    np.fill_diagonal(between, 0)
    places = np.arange(len(home))
    while True:  # each move adds links within categories, so it ends
        belongs = np.eye(size)[home]
        to = between @ belongs
        stay = to[places, home]
        to[places, home] = -1
        small = count <= _MAX_STYLE * (count @ belongs)[home]
        gain = np.where(small, to.max(1) - stay, 0)
        best = int(np.argmax(gain))
        if gain[best] <= 0:
            return home[community]
        home[best] = np.argmax(to[best])


def propagate(votes: np.ndarray, graph: sparse.csr_array) -> np.ndarray:
    """Returns votes for categories, averaged over neighbours, theirs, and so on.

    f = 0.9 P f + 0.1 q, as in label spreading (Zhou et al. 2004, Learning with local
    and global consistency), but with the probabilities P of a random walk.

    Args:
        votes: q, for each category, `[N, K]`.
        graph: W, `[N, N]`.

    Returns:
        f, `[N, K]`.
    """
    walk = sparse.diags_array(1 / graph.sum(1)) @ graph
    f = votes
    for _ in range(_ROUNDS):
        f = _DAMPING * (walk @ f) + (1 - _DAMPING) * votes
    return f


def _nearest(images: Any, sample: np.ndarray) -> np.ndarray:
    """Which of the sample is nearest to each image in plain pixels, int `[N]`."""
    if len(sample) == len(images):
        return sample
    finder = NearestNeighbors(n_neighbors=1, algorithm="brute")
    finder.fit(half_size(images[sample]))
    starts = range(0, len(images), _SAMPLE)
    parts = (half_size(images[s : s + _SAMPLE]) for s in starts)
    near = [finder.kneighbors(part, return_distance=False) for part in parts]
    return np.concatenate(near)[:, 0]


def describe(before: np.ndarray, after: np.ndarray) -> str:
    """Returns how many images moved, and the three largest moves, in a line."""
    moved = before != after
    pairs, counts = np.unique(
        np.stack([before[moved], after[moved]]), axis=1, return_counts=True
    )
    order = np.argsort(-counts, kind="stable")
    parts = [
        f"{counts[i]:,} from category {pairs[0, i]} to {pairs[1, i]}" for i in order
    ]
    rest = len(parts) - 3
    return (
        f"neighbours moved {moved.sum():,} of {len(before):,} images"
        + (f": {', '.join(parts[:3])}" if parts else "")
        + (f", and {rest} more such moves" if rest > 0 else "")
    )
