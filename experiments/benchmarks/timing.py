"""Sides measured in turn, so that their ratios mean something on a changing machine."""

import time
from collections.abc import Callable

import jax
import numpy as np


def in_turn(
    sides: dict[str, Callable[[], object] | None], repeats: int
) -> dict[str, np.ndarray]:
    """Seconds of each call of each side, after a first one that compiles.

    Args:
        sides: name -> a call that returns when all is done; None is left out.
        repeats: calls of each.
    """
    here = {name: go for name, go in sides.items() if go is not None}
    for go in here.values():
        go()
    times: dict[str, list[float]] = {name: [] for name in here}
    for _ in range(repeats):
        for name, go in here.items():
            begin = time.perf_counter()
            go()
            times[name].append(time.perf_counter() - begin)
    return {name: np.array(values) for name, values in times.items()}


def show(times: dict[str, np.ndarray], base: str, unit: float, label: str) -> None:
    """A line for each side: median and range in `label`, and over the base's median."""
    for name, values in times.items():
        low, middle, high = np.percentile(values, [0, 50, 100]) / unit
        ratio = np.median(values) / np.median(times[base])
        print(
            f"  {name:42} {middle:8.1f} {label} ({low:.1f} to {high:.1f})  "
            f"{ratio:.2f} x ours"
        )


def machine() -> str:
    """The devices, in words."""
    kind = jax.devices()[0].device_kind
    return f"{jax.device_count()} x {kind}, jax {jax.__version__}"
