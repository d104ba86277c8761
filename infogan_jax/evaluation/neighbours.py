"""The graph of images that a small deformation makes of each other, and its parts.

No label is involved, and nothing that was trained. Images are joined to their nearest
neighbours, the graph is divided into communities, which are kinds and styles of them,
and communities are merged by their links.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import networkx
import numpy as np
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

from infogan_jax.cores import core_count
from infogan_jax.kept import kept

_CANDIDATES = 50  # nearest images in plain pixels, among which neighbours are sought
_MAX_SHIFT = 2  # pixels by which a deformation may move each one
_BATCH = 500  # images that are compared in one call
LINKS = 7  # of each image, counted where a community has few that leave it
_NEIGHBOURS = 4  # of these, in the graph
_SCALE = 2  # index of the neighbour whose distance is an image's unit: the third
_TINY = 1e-6  # least weight of a link, also between equal images
DIVISIONS = 5  # into communities: each resolves near ties differently


def kept_neighbours(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`neighbours`, which every run on these images shares, kept on disk."""
    settings = (_CANDIDATES, _MAX_SHIFT, LINKS)
    digest = hashlib.sha256(repr((images.shape, settings)).encode())
    digest.update(np.ascontiguousarray(images).data)
    made = kept("neighbours", digest.hexdigest(), lambda: np.stack(neighbours(images)))
    return made[0].astype(int), made[1].astype(np.float32)


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
    return symmetric(near, np.maximum(np.exp(-squared / unit), _TINY))


def symmetric(near: np.ndarray, weights: np.ndarray) -> sparse.csr_array:
    """Returns the links of `[N, M]` neighbours, in both directions, `[N, N]`."""
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


class Merger(NamedTuple):
    """Two sets of communities that become one."""

    first: int  # below the number of communities C a community; C + i is the result of
    second: int  # merger i
    shared: float  # the sum of both sets' fractions of links that lead to the other


def mergers(community: np.ndarray, links: sparse.csr_array) -> list[Merger]:
    """Returns how communities merge, one pair after the other, until one set is left.

    Those two merge that share most of their links, each measured by its own: the sum of
    W_ab / W_a and W_ab / W_b, the terms of the normalised cut that vanish with a merger
    (Shi and Malik 2000, Normalized cuts and image segmentation, eq. 2). A rare kind
    keeps to itself as well as a frequent one.

    Args:
        community: of each image, int `[N]`.
        links: W, symmetric, `[N, N]`.
    """
    images = np.arange(len(community))
    member = sparse.csr_array((np.ones(len(images)), (images, community)))
    between = (member.T @ links @ member).toarray()
    names, merged = list(range(len(between))), []
    count = len(names)
    while len(between) > 1:
        total = between.sum(0)
        shared = between / total + between / total[:, None]
        np.fill_diagonal(shared, -1)
        into, gone = sorted(np.unravel_index(shared.argmax(), shared.shape))
        merged.append(Merger(names[into], names[gone], float(shared[into, gone])))
        between[into] += between[gone]
        between[:, into] += between[:, gone]
        between = np.delete(np.delete(between, gone, 0), gone, 1)
        names[into] = count + len(merged) - 1
        del names[gone]
    return merged


def merge_communities(
    community: np.ndarray, links: sparse.csr_array, size: int
) -> np.ndarray:
    """Returns a category of each image: communities, merged until `size` are left.

    Takes what `mergers` takes; returns int `[N]`. There are fewer categories than
    `size` if there are fewer communities.
    """
    count = int(community.max()) + 1
    home = np.arange(count)
    for i, merger in enumerate(mergers(community, links)[: max(count - size, 0)]):
        home[np.isin(home, merger[:2])] = count + i
    _, first, category = np.unique(home, return_index=True, return_inverse=True)
    return first.argsort().argsort()[category][community]
