"""The picture of how communities of neighbours merge into kinds."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import dendrogram


def draw_kinds(kinds: Any) -> Figure:
    """Returns the share of links by number of sets, and the tree of mergers.

    Args:
        kinds: `results.KindsOverall`, what `evaluation/kinds.py` measured.
    """
    figure = Figure(figsize=(7.2, 4.8), layout="constrained")
    curve, tree = figure.subplots(1, 2, width_ratios=(2, 3))
    sets, shared = np.array(kinds["shared"]).T
    curve.plot(sets, shared, "o-", color="tab:blue", ms=3, lw=1)
    for number in sorted(set(kinds["suggested"])):
        curve.axvline(number, color="grey", ls="--", lw=1)
    curve.set(xlabel="sets that are left", ylabel="links shared by the next two")
    curve.set_yscale("log")
    # The tree goes from many links in common to few, however two shares may compare
    height = np.maximum.accumulate(-np.log(np.maximum(shared, 1e-9)))
    height += 1 - height[0]
    leaves = [1] * len(kinds["communities"])
    linkage = []
    for (first, second), level in zip(kinds["mergers"], height, strict=True):
        leaves.append(leaves[first] + leaves[second])
        linkage.append([first, second, level, leaves[-1]])
    labels = [
        f"{community['images']:,}"
        + (f", category {community['category']}" if "category" in community else "")
        for community in kinds["communities"]
    ]
    dendrogram(
        np.array(linkage, float),
        orientation="left",
        labels=labels,
        ax=tree,
        leaf_font_size=8,
        color_threshold=0,
        above_threshold_color="tab:blue",
    )
    tree.set(xlabel="less in common  \N{LEFTWARDS ARROW}", xticks=[])
    for axes in (curve, tree):
        axes.spines[["top", "right"]].set_visible(False)
    return figure
