"""How many kinds of images there are, by neighbours alone; and what Q made of them.

Communities of neighbours are merged, those first that share most of their links. Styles
of one kind share many, two kinds few: where the share falls, the kinds begin.
"""

from typing import Any

import numpy as np

from infogan_jax.evaluation import Subject
from infogan_jax.evaluation.neighbours import (
    Merger,
    communities,
    kept_neighbours,
    mergers,
    neighbour_graph,
)
from infogan_jax.evaluation.results import Measures, Skipped

_SAMPLE = 10_000  # training images, about
_LEAST = 100  # images, to say anything


def suggest(merged: list[Merger]) -> int:
    """Returns the number of sets before the merger whose share falls most.

    Args:
        merged: all mergers of a division, as `neighbours.mergers` gives them.
    """
    shared = np.array([merger.shared for merger in merged])
    if len(shared) < 2:
        return len(shared) + 1
    fall = np.log(np.maximum(shared[:-1], 1e-9) / np.maximum(shared[1:], 1e-9))
    return len(shared) - int(fall.argmax())


def evaluate(subject: Subject) -> Measures | Skipped:
    """Measures on images of the training set, since no label is involved.

    `suggested` has a number of kinds by each division into communities. The rest is of
    the first one: `shared` with each merger's number of sets before it and its share;
    `mergers`; and of each community its `images`, its main `category` of Q, if there is
    one, and the `fraction` that is in it.
    """
    images = subject.data.images
    sample = np.arange(0, len(images), -(-len(images) // _SAMPLE))
    if len(sample) < _LEAST:
        return Skipped(f"kinds: {len(sample)} images, and at least {_LEAST} are needed")
    graph = neighbour_graph(*kept_neighbours(images[sample]))
    divisions = communities(graph)
    merged = [mergers(division, graph) for division in divisions]
    count = len(merged[0]) + 1
    sizes = np.bincount(divisions[0], minlength=count)
    about: list[dict[str, Any]] = [{"images": int(size)} for size in sizes]
    if subject.trained.model.category is not None:
        name = subject.trained.model.category.name
        read = subject.trained.infer_categories(images[sample])[name]
        for k, community in enumerate(about):
            shares = np.bincount(read[divisions[0] == k]) / community["images"]
            community["category"] = int(shares.argmax())
            community["fraction"] = float(shares.max())
    return Measures(
        {},
        {
            "suggested": [suggest(one) for one in merged],
            "shared": [(count - i, m.shared) for i, m in enumerate(merged[0])],
            "mergers": [(m.first, m.second) for m in merged[0]],
            "communities": about,
        },
    )
