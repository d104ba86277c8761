"""Styles that went to a wrong category, found without a label and moved as a whole.

A style that is far from the rest of its kind, such as the sevens with a bar, may join
another kind's category in the first steps of a run. Gradients do not bring it back:
I(c; x) is the same wherever a whole style is, and each image that moved alone would be
torn from its likes. But its neighbours show where it belongs: those outside the style
are images of its own kind. So the graph of neighbours is asked about whole styles.
"""

import io
from pathlib import Path

import numpy as np
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform
from sklearn.cluster import MiniBatchKMeans
from sklearn.neighbors import NearestNeighbors

from infogan_jax.config import UserError
from infogan_jax.evaluation.clustering import infer_categories
from infogan_jax.evaluation.inference import apply
from infogan_jax.latents import main_category, parse_spec
from infogan_jax.steps import extract_features
from infogan_jax.writers import write_atomically

STYLES = 40  # small clusters that each category is divided into
_NEIGHBOURS = 10
_SAMPLE = 60_000  # images whose neighbours are sought: time grows with the square
_LARGEST = 0.5  # share of a category that may still be a style of it

Move = tuple[int, int, int]  # from category, to category, images


def told_categories(step: int, states, config, images, workdir: Path) -> np.ndarray:
    """What Q is told of each training image from `config.regroup_at` on for an epoch.

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
        try:
            kept = np.load(path, mmap_mode="r", allow_pickle=False)
            if kept.shape != (len(states), len(images)) or kept.dtype != np.int32:
                raise ValueError("of another run")
            if not (kept.min() >= 0 and kept.max() < category.size):
                raise ValueError("no such categories")
            return np.array(kept)
        except (OSError, ValueError, EOFError):
            raise UserError(
                f"{path}: missing or damaged, and needed at step {step}; restore it "
                "from a copy, or begin anew with --restart"
            ) from None
    pairs, found = neighbour_pairs(images), []
    for state, alone in zip(states, config.replicas(), strict=True):
        categories = infer_categories(state, images, config)[category.name]
        features = apply(extract_features, state, images, config)
        regrouped, moves = regroup(categories, features, pairs, category.size)
        found.append(regrouped)
        print(f"seed {alone.seed}, step {step:,}: {describe(moves)}")
    content = io.BytesIO()
    told = np.array(found, np.int32)
    np.save(content, told)
    write_atomically(path, content.getvalue())
    return told


def neighbour_pairs(images: np.ndarray) -> np.ndarray:
    """Images that are near to each other in half-size pixels.

    Args:
        images: uint8 `[N, H, W, C]`; of more than 60,000, an even sample is used.

    Returns:
        Places of an image and one of its 10 nearest neighbours, `[pairs, 2]`.
    """
    chosen = np.arange(0, len(images), -(-len(images) // _SAMPLE))
    _, height, width, channels = images.shape
    even = images[chosen][:, : height // 2 * 2, : width // 2 * 2]
    blocks = even.reshape(-1, height // 2, 2, width // 2, 2, channels)
    points = blocks.mean((2, 4), dtype=np.float32).reshape(len(chosen), -1)
    count = min(_NEIGHBOURS + 1, len(chosen))  # the first one is the image itself
    finder = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(points)
    near = finder.kneighbors(points, return_distance=False)[:, 1:]
    return np.stack([chosen.repeat(near.shape[1]), chosen[near.ravel()]], 1)


def regroup(
    categories: np.ndarray, features: np.ndarray, pairs: np.ndarray, size: int
) -> tuple[np.ndarray, list[Move]]:
    """Moves styles to the category that most of their neighbours are in.

    Each category is divided into small clusters of features, and these are joined step
    by step, the most linked ones first. A style is any set of clusters on this way, up
    to half of its category. Of all styles the one moves whose links to another category
    exceed those to the rest of its own by most; then the next, while there is one.

    Args:
        categories: of each image, int `[N]` below `size`.
        features: of each image, `[N, F]`; their direction counts.
        pairs: places of neighbours, `[P, 2]`.
        size: how many categories there are.

    Returns:
        The new categories, `[N]`, and the moves in order.
    """
    style = _styles(categories, _directions(features), size)
    links = np.zeros((size * STYLES, size * STYLES))
    np.add.at(links, (style[pairs[:, 0]], style[pairs[:, 1]]), 1)
    links += links.T
    count = np.bincount(style, minlength=len(links))
    home = np.arange(len(links)) // STYLES  # category of each small cluster
    moves: list[Move] = []
    for _ in range(len(links)):  # each move adds links within categories, so it ends
        member = np.eye(size)[home]
        gain, origin, target, group = max(
            (_best_move(links, count, member, c) for c in range(size)),
            key=lambda move: move[0],
        )
        if gain <= 0:
            break
        home[group] = target
        moves.append((origin, target, int(count[group].sum())))
    return home[style], moves


def describe(moves: list[Move]) -> str:
    """The moves in a line, those between the same categories as one."""
    total: dict[tuple[int, int], int] = {}
    for origin, target, images in moves:
        total[origin, target] = total.get((origin, target), 0) + images
    largest = sorted(total.items(), key=lambda item: -item[1])
    parts = [f"{n:,} from category {a} to {b}" for (a, b), n in largest[:3]]
    rest = len(largest) - len(parts)
    return (
        f"regrouped {sum(total.values()):,} images"
        + (f": {', '.join(parts)}" if parts else "")
        + (f", and {rest} more such moves" if rest else "")
    )


def _best_move(links, count, member, category: int):
    """The gain in links, the categories from and to, and the style, bool `[S]`."""
    members = np.flatnonzero((member[:, category] > 0) & (count > 0))
    if len(members) < 2:
        return 0, category, category, members
    groups = _groups(links, count, members)
    out = groups @ links
    to = out @ member
    rest = to[:, category] - (out * groups).sum(1)
    to[:, category] = -1
    gain = to.max(1) - rest
    best = gain.argmax()
    return gain[best], category, int(to[best].argmax()), groups[best]


def _groups(links, count, members) -> np.ndarray:
    """The styles of a category: sets of its small clusters, bool `[G, S]`."""
    pairs = np.outer(count[members], count[members])
    density = links[np.ix_(members, members)] / pairs
    distance = density.max() - density
    np.fill_diagonal(distance, 0)
    groups = np.zeros((2 * len(members) - 1, len(links)), bool)
    groups[np.arange(len(members)), members] = True
    merged = linkage(squareform(distance, checks=False), "average")
    for i, (a, b, _, _) in enumerate(merged, start=len(members)):
        groups[i] = groups[int(a)] | groups[int(b)]
    return groups[groups @ count <= _LARGEST * count[members].sum()]


def _styles(categories, points, size: int) -> np.ndarray:
    """The small cluster of each image; those of category c begin at c * STYLES."""
    style = categories * STYLES
    for category in range(size):
        own = np.flatnonzero(categories == category)
        if len(own) > STYLES:
            means = MiniBatchKMeans(STYLES, random_state=0, n_init=3, batch_size=1024)
            style[own] += means.fit_predict(points[own])
    return style


def _directions(features: np.ndarray) -> np.ndarray:
    centred = features - features.mean(0)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)
