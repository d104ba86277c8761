"""Sides measured in turn, so that their ratios mean something on a changing machine."""

import time
from collections.abc import Callable, Mapping

import jax
import numpy as np

from infogan_jax import Config, build_model, make_train_step
from infogan_jax.distributed.roofline import min_step_time
from infogan_jax.errors import first_line


def in_turn(
    sides: Mapping[str, Callable[[], object]], repeats: int
) -> dict[str, np.ndarray]:
    """Seconds of each call of each side, after a first one that compiles.

    A side whose first call fails is told and left out, but for the first side, which
    others are compared with.

    Args:
        sides: name -> a call that returns when all is done.
        repeats: calls of each.
    """
    times: dict[str, list[float]] = {}
    for name, go in sides.items():
        begin = time.perf_counter()
        try:
            go()
        except Exception as error:  # compilers of others raise anything
            if not times:
                raise
            print(f"  {name:42} failed: {first_line(error)}", flush=True)
            continue
        print(f"  {name:42} first call {time.perf_counter() - begin:.1f} s", flush=True)
        times[name] = []
    for _ in range(repeats):
        for name in times:
            go = sides[name]
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
    digits = 1 if np.median(times[base]) >= 10 * unit else 3
    if floor:
        ratio = floor / np.median(times[base])
        print(f"  {'floor':42} {floor / unit:8.{digits}f} {label}  {ratio:.2f} x ours")
    for name, values in times.items():
        low, middle, high = np.percentile(values, [0, 50, 100]) / unit
        ratio = np.median(values) / np.median(times[base])
        print(
            f"  {name:42} {middle:8.{digits}f} {label} "
            f"({low:.{digits}f} to {high:.{digits}f})  "
            f"{ratio:.2f} x ours"
        )


def step_floor(config: Config, shape: tuple[int, int, int]) -> float:
    """Seconds that a step takes at least; see `distributed.roofline`."""
    model = build_model(config, shape)
    state = jax.eval_shape(model.init, jax.random.key(0))
    batch = jax.ShapeDtypeStruct((config.batch_size, *shape), np.uint8)
    return min_step_time(make_train_step(model), state, batch, config.dtype)


def machine() -> str:
    """The devices, in words."""
    kind = jax.devices()[0].device_kind
    return f"{jax.device_count()} x {kind}, jax {jax.__version__}"
