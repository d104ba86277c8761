"""The order of the data, as a function of the seed and not of history."""

import functools

import numpy as np


@functools.lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, n: int) -> np.ndarray:
    """The permutation of n images that this epoch follows, int32 `[n]`."""
    order = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(n)
    order = order.astype(np.int32)
    order.flags.writeable = False  # it is cached
    return order


def batch_indices(seed: int, step: int, batch_size: int, n: int) -> np.ndarray:
    """Which of n images make the batch of a step, int32 `[batch_size]`.

    An epoch is `n // batch_size` steps; the images left over wait for the next one,
    whose order is another.
    """
    epoch, place = divmod(step, n // batch_size)
    start = place * batch_size
    return epoch_order(seed, epoch, n)[start : start + batch_size]
