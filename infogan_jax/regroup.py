"""Categories of training images as their neighbours have it, found without a label.

A style that is far from the rest of its kind, such as the sevens with a bar, may join
another kind's category in the first steps of a run. Gradients do not bring it back:
I(c; x) is the same wherever a whole style is, and each image that moved alone would be
torn from its likes. But its neighbours, a small deformation away, show where it
belongs: those outside the style are images of its own kind. So the graph of neighbours
is divided into communities, which are kinds and styles; each goes where the links that
leave it lead, and Q is told the outcome.
"""

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import networkx
import numpy as np
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

from infogan_jax.config import UserError
from infogan_jax.evaluation.clustering import infer_categories
from infogan_jax.latents import main_category, parse_spec
from infogan_jax.writers import write_atomically

_SAMPLE = 60_000  # images in the graph: time grows with the square
_CANDIDATES = 50  # the nearest in plain pixels, among which neighbours are
_PLAY = 2  # pixels by which a deformation may move each one
_PART = 500  # images that are compared in one call
LINKS = 7  # of each image, counted where a community has few that leave it
_NEIGHBOURS = 4  # of these, in the graph
_SCALE = 2  # place of the neighbour whose distance is an image's unit: the third
_TINY = 1e-6  # so that equal images have a weight, and the farthest keep one
DIVISIONS = 5  # into communities: a near tie falls otherwise in each
_LARGEST = 0.5  # share of a category that may still be a style of it
_SPREAD = 0.9  # weight of what neighbours say, beside what an image has itself
_ROUNDS = 30  # after which .04 of what is to come is left


def told_categories(step: int, states, config, images, workdir: Path) -> np.ndarray:
    """What Q is told of each training image from `config.regroup_at` on.

    It is found at that step, and read back from the work directory at a later one.

    Args:
        step: where the run is.
        states: of its replicas.
        config: of all of them.
        images: the training images, uint8 `[N, H, W, C]`.
        workdir: keeps regrouped.npy.

    Returns:
        int32 `[R, N]`.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = workdir / "regrouped.npy"
    category = main_category(parse_spec(config.codes))
    if step > config.regroup_at:
        return _read(path, (len(states), len(images)), category.size, step)
    sample = np.arange(0, len(images), -(-len(images) // _SAMPLE))
    print(f"step {step:,}: finding the neighbours of {len(sample):,} images")
    near, squared = neighbours(images[sample])
    graph, links = neighbour_graph(near, squared), _symmetric(near, np.ones(near.shape))
    divisions, nearest = communities(graph), _nearest(images, sample)
    found = []
    for state, alone in zip(states, config.replicas(), strict=True):
        before = infer_categories(state, images, alone)[category.name]
        homes = [
            place_communities(before[sample], division, links, category.size)
            for division in divisions
        ]
        votes = np.mean([np.eye(category.size)[home] for home in homes], 0)
        after = spread(votes, graph).argmax(1)[nearest]
        found.append(after)
        print(f"seed {alone.seed}, step {step:,}: {describe(before, after)}")
    content = io.BytesIO()
    told = np.array(found, np.int32)
    np.save(content, told)
    write_atomically(path, content.getvalue())
    return told


def _read(path: Path, shape: tuple[int, int], size: int, step: int) -> np.ndarray:
    try:
        kept = np.load(path, mmap_mode="r", allow_pickle=False)
        if kept.shape != shape or kept.dtype != np.int32:
            raise ValueError("of another run")
        if not (kept.min() >= 0 and kept.max() < size):
            raise ValueError("no such categories")
        return np.array(kept)
    except (OSError, ValueError, EOFError):
        raise UserError(
            f"{path}: missing or damaged, and needed at step {step}; restore it "
            "from a copy, or begin anew with --restart"
        ) from None


def neighbours(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The images that a small deformation makes of each, the nearest first.

    Args:
        images: uint8 `[N, H, W, C]`.

    Returns:
        Their places, and their squared distances, `[N, 7]` each; fewer if N is below 8.
    """
    count = min(_CANDIDATES + 1, len(images))
    points = half_size(images)
    finder = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(points)
    candidates = finder.kneighbors(points, return_distance=False)
    stored = jnp.asarray(images)

    def compare(start):
        part = slice(start, start + _PART)
        return np.array(deformed_distance(stored, images[part], candidates[part]))

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # on a CPU each uses one core
        squared = np.concatenate([*pool.map(compare, range(0, len(images), _PART))])
    squared[candidates == np.arange(len(images))[:, None]] = np.inf  # the image itself
    order = squared.argsort(1)[:, : min(LINKS, len(images) - 1)]
    return (
        np.take_along_axis(candidates, order, 1),
        np.take_along_axis(squared, order, 1),
    )


@jax.jit
def deformed_distance(images: jax.Array, own: jax.Array, others: jax.Array):
    """How far images are from others that each pixel's play brings nearest to them.

    The image distortion model of gradients with their context (Keysers et al. 2007,
    Deformation models for image recognition, section 3.4): the sum over pixels p of
    the least, over shifts s of up to 2 pixels, of the sum over q next to p of
    |grad a(q) - grad b(q + s)|^2, by Sobel's gradients.

    Args:
        images: uint8 `[N, H, W, C]`.
        own: a, uint8 `[n, H, W, C]`.
        others: places of b among the images, int `[n, M]`.

    Returns:
        float32 `[n, M]`.
    """
    height, width, _ = images.shape[1:]
    shifts = range(2 * _PLAY + 1)

    def around(x, axis):
        """The sum of each three neighbours along an axis, fewer by two."""
        size = x.shape[axis] - 2
        return sum(jax.lax.slice_in_dim(x, i, i + size, axis=axis) for i in range(3))

    def compare(inputs):
        image, places = inputs
        a = jnp.pad(_gradients(image[None]), ((0, 0), (0, 0), (1, 1), (1, 1)))
        edge = (_PLAY + 1, _PLAY + 1)
        b = jnp.pad(_gradients(images[places]), ((0, 0), (0, 0), edge, edge))
        least = jnp.inf
        for i in shifts:
            for j in shifts:
                moved = b[:, :, i : i + height + 2, j : j + width + 2]
                local = around(around(((a - moved) ** 2).sum(1), 1), 2)
                least = jnp.minimum(least, local)
        return least.sum((1, 2))

    return jax.lax.map(compare, (own, others))


def _gradients(images: jax.Array) -> jax.Array:
    """Sobel's, uint8 `[N, H, W, C]` -> float32 `[N, 2 C, H, W]`; it is dark around."""
    x = jnp.pad(images / jnp.float32(255), ((0, 0), (1, 1), (1, 1), (0, 0)))
    x = jnp.moveaxis(x, -1, 1)
    across = x[..., 2:] - x[..., :-2]
    across = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
    down = x[..., 2:, :] - x[..., :-2, :]
    down = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    return jnp.concatenate([across, down], 1)


def half_size(images: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels, float32 `[N, H // 2 * W // 2 * C]`."""
    n, height, width, channels = images.shape
    even = images[:, : height // 2 * 2, : width // 2 * 2]
    blocks = even.reshape(n, height // 2, 2, width // 2, 2, channels)
    return blocks.mean((2, 4), dtype=np.float32).reshape(n, -1)


def neighbour_graph(near: np.ndarray, squared: np.ndarray) -> sparse.csr_array:
    """Links of each image to four neighbours, and to those whose neighbour it is.

    With a weight of exp(-d^2 / s s'): d is the distance, s and s' are those of both to
    their third neighbour (Zelnik-Manor and Perona 2004, Self-tuning spectral
    clustering, eq. 3).

    Args:
        near: places of neighbours, the nearest first, `[N, M]`.
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
    """Divisions of images into sets with more links within than chance would give.

    By modularity (Blondel et al. 2008, Fast unfolding of communities in large
    networks), each begun in another random order.

    Args:
        graph: W, `[N, N]`.

    Returns:
        The community of each image, int `[5, N]`.
    """
    network = networkx.from_scipy_sparse_array(graph)
    found = np.zeros((DIVISIONS, graph.shape[0]), np.int64)
    for seed, division in enumerate(found):
        parts = networkx.community.louvain_communities(network, seed=seed)
        for i, members in enumerate(parts):
            division[list(members)] = i
    return found


def place_communities(
    categories: np.ndarray, community: np.ndarray, links: sparse.csr_array, size: int
) -> np.ndarray:
    """The category that each community is in, or where the links that leave it lead.

    First it is the one that Q has for most of its images. Of all communities that are
    at most half of their category, the one then moves whose links to another category
    exceed those to the rest of its own by most; then the next, while there is one.

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
        small = count <= _LARGEST * (count @ belongs)[home]
        gain = np.where(small, to.max(1) - stay, 0)
        first = gain.argmax()
        if gain[first] <= 0:
            return home[community]
        home[first] = to[first].argmax()


def spread(votes: np.ndarray, graph: sparse.csr_array) -> np.ndarray:
    """Votes for categories, each beside those of its neighbours, theirs, and so on.

    f = .9 P f + .1 q, as in label spreading (Zhou et al. 2004, Learning with local and
    global consistency), but by the probabilities P of a walk.

    Args:
        votes: q, for each category, `[N, K]`.
        graph: W, `[N, N]`.

    Returns:
        f, `[N, K]`.
    """
    walk = sparse.diags_array(1 / graph.sum(1)) @ graph
    found = votes
    for _ in range(_ROUNDS):
        found = _SPREAD * (walk @ found) + (1 - _SPREAD) * votes
    return found


def _nearest(images, sample: np.ndarray) -> np.ndarray:
    """For each image, which of the sample is nearest to it in plain pixels, `[N]`."""
    if len(sample) == len(images):
        return sample
    finder = NearestNeighbors(n_neighbors=1, algorithm="brute")
    finder.fit(half_size(images[sample]))
    starts = range(0, len(images), _SAMPLE)
    parts = (half_size(images[s : s + _SAMPLE]) for s in starts)
    near = [finder.kneighbors(part, return_distance=False) for part in parts]
    return np.concatenate(near)[:, 0]


def describe(before: np.ndarray, after: np.ndarray) -> str:
    """How many images moved, in a line, and the three largest moves."""
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
