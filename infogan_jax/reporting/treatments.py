"""The picture of what treatments do to codes: dose curves, a dot for each well."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from infogan_jax.evaluation.results import surest_first

_MOST = 6  # panels


def draw_treatments(measured: Any, titles: dict[str, str]) -> Figure:
    """Returns a panel for each code with an effect, those of the least q first.

    Args:
        measured: `results.TreatmentsOverall`, what `evaluation/treatments.py` measured.
        titles: of the codes.
    """
    rows = surest_first(measured["rows"])
    shown = list(dict.fromkeys((row["column"], row["code"]) for row in rows))[:_MOST]
    columns = min(3, len(shown))
    lines = -(-len(shown) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.3 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel in panels[len(shown) :]:
        panel.set_axis_off()
    for (column, code), axes in zip(shown, panels, strict=False):
        wells, place = measured["wells"][column], measured["names"].index(code)
        _draw_curve(axes, wells, place)
        axes.set_title(titles[code], fontsize=9)
        axes.set_xlabel(column, fontsize=8)
    panels[0].legend(frameon=False, fontsize=7)
    return figure


def _draw_curve(axes: Any, wells: list[dict[str, Any]], place: int) -> None:
    """Wells' means of one code, by value of the compared column."""
    values = list(dict.fromkeys(well["value"] for well in wells))
    plates = sorted({well["plate"] for well in wells})
    x = np.array([values.index(well["value"]) for well in wells], float)
    y = np.array([well["means"][place] for well in wells])
    for k, plate in enumerate(plates):
        here = np.array([well["plate"] == plate for well in wells])
        beside = x[here] + 0.16 * (k - (len(plates) - 1) / 2) / len(plates)
        axes.plot(beside, y[here], ".", ms=5, color=f"C{k % 10}", label=plate)
    means = [y[x == i].mean() for i in range(len(values))]
    axes.plot(range(len(values)), means, color="grey", lw=1, zorder=0)
    axes.set_xticks(range(len(values)), values, fontsize=8)
    axes.tick_params(axis="y", labelsize=8)
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
