"""Batches, in an order that is a function of the seed and not of history."""

import functools
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np


def epoch_order(seed: int, epoch: int, n: int) -> np.ndarray:
    """Returns the permutation of n images in an epoch, int32 `[n]`."""
    return _orders(seed, n)(epoch)


@functools.lru_cache(maxsize=64)
def _orders(seed: int, n: int) -> Callable[[int], np.ndarray]:
    """A function of the epoch that caches two permutations."""

    @functools.lru_cache(maxsize=2)
    def order(epoch: int) -> np.ndarray:
        key = np.random.Philox(key=[seed, epoch])
        permutation = np.random.Generator(key).permutation(n).astype(np.int32)
        permutation.flags.writeable = False  # it is cached
        return permutation

    return order


def batch_indices(seed: int, step: int, batch_size: int, n: int) -> np.ndarray:
    """Returns which of n images make the batch of a step, int32 `[batch_size]`.

    An epoch is `n // batch_size` steps; the images left over wait for the next one,
    which has another order.
    """
    epoch, place = divmod(step, n // batch_size)
    start = place * batch_size
    return epoch_order(seed, epoch, n)[start : start + batch_size]


class Stream:
    """Makes the inputs of calls, the next one's while the devices compute."""

    def __init__(self, make: Callable[[int, int], Any]):
        """`make(begin, end)` returns the inputs of steps `begin` to `end - 1`."""
        self._make = make
        self._pool = ThreadPoolExecutor(1)
        self._pending: dict[tuple[int, int], Future] = {}
        self._steps, self._busy, self._waited = 0, 0.0, 0.0
        self._since = time.perf_counter()

    def prefetch(self, begin: int, end: int) -> None:
        """Starts to make inputs in the background."""
        if (begin, end) not in self._pending:
            self._pending[begin, end] = self._pool.submit(self._timed, begin, end)

    def get(self, begin: int, end: int) -> Any:
        """Returns inputs, as soon as they are made."""
        self.prefetch(begin, end)
        start = time.perf_counter()
        made = self._pending.pop((begin, end)).result()
        self._pending.clear()  # after a rollback some are not needed
        self._waited += time.perf_counter() - start
        return made

    def rates(self) -> tuple[float, float]:
        """Returns steps made per second of making, and the fraction of time waited.

        Both since the last call.
        """
        now = time.perf_counter()
        rates = self._steps / max(self._busy, 1e-9), self._waited / (now - self._since)
        self._steps, self._busy, self._waited, self._since = 0, 0.0, 0.0, now
        return rates

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _timed(self, begin: int, end: int) -> Any:
        start = time.perf_counter()
        made = self._make(begin, end)
        self._busy += time.perf_counter() - start
        self._steps += end - begin
        return made
