"""Batches: their order is a function of the seed and not of history."""

import functools
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np


def epoch_order(seed: int, epoch: int, n: int) -> np.ndarray:
    """The permutation of n images that this epoch follows, int32 `[n]`."""
    return _orders(seed, n)(epoch)


@functools.lru_cache(maxsize=64)
def _orders(seed: int, n: int) -> Callable[[int], np.ndarray]:
    """The orders of a seed, which keeps those of two epochs."""

    @functools.lru_cache(maxsize=2)
    def order(epoch: int) -> np.ndarray:
        key = np.random.Philox(key=[seed, epoch])
        found = np.random.Generator(key).permutation(n).astype(np.int32)
        found.flags.writeable = False  # it is cached
        return found

    return order


def batch_indices(seed: int, step: int, batch_size: int, n: int) -> np.ndarray:
    """Which of n images make the batch of a step, int32 `[batch_size]`.

    An epoch is `n // batch_size` steps; the images left over wait for the next one,
    whose order is another.
    """
    epoch, place = divmod(step, n // batch_size)
    start = place * batch_size
    return epoch_order(seed, epoch, n)[start : start + batch_size]


class Stream:
    """Makes what stretches of steps need, the next one while the devices work."""

    def __init__(self, make: Callable[[int, int], Any]):
        """`make(begin, end)` gives what the steps from begin to before end need."""
        self._make = make
        self._pool = ThreadPoolExecutor(1)
        self._asked: dict[tuple[int, int], Future] = {}
        self._steps, self._busy, self._waited = 0, 0.0, 0.0
        self._since = time.perf_counter()

    def ask(self, begin: int, end: int) -> None:
        """Begins to make it, in the background."""
        if (begin, end) not in self._asked:
            self._asked[begin, end] = self._pool.submit(self._timed, begin, end)

    def get(self, begin: int, end: int) -> Any:
        """What was asked for, as soon as it is made."""
        self.ask(begin, end)
        start = time.perf_counter()
        made = self._asked.pop((begin, end)).result()
        self._asked.clear()  # of what nobody came for
        self._waited += time.perf_counter() - start
        return made

    def rates(self) -> tuple[float, float]:
        """Steps made per second of making, share of time waited; since last asked."""
        now = time.perf_counter()
        found = self._steps / max(self._busy, 1e-9), self._waited / (now - self._since)
        self._steps, self._busy, self._waited, self._since = 0, 0.0, 0.0, now
        return found

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _timed(self, begin: int, end: int) -> Any:
        start = time.perf_counter()
        made = self._make(begin, end)
        self._busy += time.perf_counter() - start
        self._steps += end - begin
        return made
