"""Pseudo-labels: categories of training images, corrected by their neighbours.

A style that is far from the rest of its class, such as sevens with a bar, may join the
category of another class in the first steps of a run. Gradients do not move it back:
I(c; x) is the same wherever a whole style is, and a single image that moved would be
torn from those like it. Its neighbours, a small deformation away, show where it
belongs: those outside the style are images of its own class. So the graph of neighbours
is divided into communities, which are classes and styles; each goes to the category
that most links leading out of it point to, and Q learns the result.
"""

import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from sklearn.neighbors import NearestNeighbors

from infogan_jax.errors import UserError
from infogan_jax.evaluation.neighbours import (
    communities,
    half_size,
    kept_neighbours,
    merge_communities,
    neighbour_graph,
    symmetric,
)
from infogan_jax.files import write_atomically
from infogan_jax.inference import Trained

logger = logging.getLogger(__name__)

_SAMPLE = 60_000  # images in the graph: time grows with the square
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
    labels, content = find_pseudo_labels(step, trained, seeds, images), io.BytesIO()
    np.save(content, labels)
    write_atomically(path, content.getvalue())
    return labels


def find_pseudo_labels(
    step: int, trained: Sequence[Trained], seeds: Sequence[int], images: Any
) -> np.ndarray:
    """Computes what `pseudo_labels` returns at its first step, and keeps no file."""
    category = trained[0].model.category
    assert category is not None
    sample = np.arange(0, len(images), -(-len(images) // _SAMPLE))
    logger.info(f"step {step:,}: finding the neighbours of {len(sample):,} images")
    near, squared = kept_neighbours(images[sample])
    graph, links = neighbour_graph(near, squared), symmetric(near, np.ones(near.shape))
    divisions, nearest = communities(graph), _nearest(images, sample)
    labels, merged = [], []
    if category.is_prior_learned:
        merged = [merge_communities(d, graph, category.size) for d in divisions]
    for member, seed in zip(trained, seeds, strict=True):
        before = member.infer_categories(images)[category.name]
        homes = align(merged, before[sample], category.size) or [
            place_communities(before[sample], division, links, category.size)
            for division in divisions
        ]
        votes = np.mean([np.eye(category.size)[home] for home in homes], 0)
        after = propagate(votes, graph).argmax(1)[nearest]
        labels.append(after)
        logger.info(f"seed {seed}, step {step:,}: {describe(before, after)}")
    return np.array(labels, np.int32)


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


def align(
    divisions: Sequence[np.ndarray], categories: np.ndarray, size: int
) -> list[np.ndarray]:
    """Returns divisions with the numbers of the categories that they overlap most.

    Args:
        divisions: of images into sets, int `[N]` below `size` each.
        categories: of each image, int `[N]` below `size`; the second division and those
            behind it are aligned with the first, which they resemble more.
        size: how many categories there are.
    """
    aligned: list[np.ndarray] = []
    for division in divisions:
        overlap = np.zeros((size, size))
        np.add.at(overlap, (division, aligned[0] if aligned else categories), 1)
        aligned.append(linear_sum_assignment(overlap, maximize=True)[1][division])
    return aligned


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
