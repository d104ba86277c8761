"""Sides measured in turn, so that their ratios mean something on a changing machine."""

import time
from collections.abc import Callable

import jax
import numpy as np

from infogan_jax import Config, floor, init_state, make_train_step


def in_turn(
    sides: dict[str, Callable[[], object]], repeats: int
) -> dict[str, np.ndarray]:
    """Seconds of each call of each side, after a first one that compiles.

    Args:
        sides: name -> a call that returns when all is done.
        repeats: calls of each.
    """
    for go in sides.values():
        go()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, go in sides.items():
            begin = time.perf_counter()
            go()
            times[name].append(time.perf_counter() - begin)
    return {name: np.array(values) for name, values in times.items()}


def show(
    times: dict[str, np.ndarray], base: str, unit: float, label: str, floor: float = 0.0
) -> None:
    """A line for each side: median and range in `label`, and over the base's median.

    Before them the floor, in seconds, if it is known.
    """
    if floor:
        ratio = floor / np.median(times[base])
        print(f"  {'floor':42} {floor / unit:8.1f} {label}  {ratio:.2f} x ours")
    for name, values in times.items():
        low, middle, high = np.percentile(values, [0, 50, 100]) / unit
        ratio = np.median(values) / np.median(times[base])
        print(
            f"  {name:42} {middle:8.1f} {label} ({low:.1f} to {high:.1f})  "
            f"{ratio:.2f} x ours"
        )


def step_floor(config: Config, shape: tuple[int, int, int]) -> float:
    """Seconds that a step takes at least; see `infogan_jax.floor`."""

    def init(key):
        return init_state(key, config, shape)

    state = jax.eval_shape(init, jax.random.key(0))
    batch = jax.ShapeDtypeStruct((config.batch_size, *shape), np.uint8)
    return floor.step_floor(make_train_step(config, shape), state, batch, config.dtype)


def machine() -> str:
    """The devices, in words."""
    kind = jax.devices()[0].device_kind
    return f"{jax.device_count()} x {kind}, jax {jax.__version__}"
