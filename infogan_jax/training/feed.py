"""What a compiled call takes: all data on the devices, or a stretch of batches."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from infogan_jax.config import Config
from infogan_jax.data import StoredImages, Stream, batch_indices, is_streamed
from infogan_jax.distributed import devices
from infogan_jax.distributed.roofline import min_step_time
from infogan_jax.training.schedule import max_call_steps
from infogan_jax.training.task import Task

_MAX_BYTES = 2**27  # of the batches that are streamed to one call


class Feeder:
    """Feeds compiled calls.

    Data that become resident on the devices are only shapes until they were read from
    disk (`read`) and copied (`put`).
    """

    def __init__(self, task: Task, config: Config):
        self._task, self._config, self.mesh = task, config, devices.make_mesh()
        leaves = jax.tree.leaves(task.arrays)
        self._size = len(leaves[0])
        self.is_streamed = any(is_streamed(x) for x in leaves)
        self._resident = None
        if not self.is_streamed:
            sharding = devices.placement(self.mesh)
            self._resident = devices.shapes(task.arrays, sharding)
        # Upper bound on steps per compiled call: at most the shortest interval, and
        # when streaming at most _MAX_BYTES of batches.
        self.max_steps = max_call_steps(config)
        if self.is_streamed:
            rows = config.num_seeds * config.batch_size
            each = sum(rows * math.prod(x.shape[1:]) * x.dtype.itemsize for x in leaves)
            self.max_steps = max(1, min(self.max_steps, _MAX_BYTES // each))
        self._stream: Stream | None = None  # made by `put`, when its clock starts

    def read(self) -> None:
        """Reads from disk what is to be in memory."""
        for array in jax.tree.leaves(self._task.arrays):
            if isinstance(array, StoredImages):
                array.materialize()

    def put(self) -> None:
        """Copies to the devices what is to be resident there."""
        if not self.is_streamed:
            arrays = jax.tree.map(lambda x: jnp.asarray(x[:]), self._task.arrays)
            self._resident = devices.replicate(arrays, self.mesh)
        self._stream = Stream(self.take)

    def take(self, begin: int, end: int) -> tuple[Any, np.ndarray]:
        """Returns the arrays and batches of steps `begin` to `end - 1`."""
        config = self._config
        batches = np.array(
            [
                [
                    batch_indices(seed, step, config.batch_size, self._size)
                    for step in range(begin, end)
                ]
                for seed in config.seeds
            ]
        )
        batches = batches if config.num_seeds > 1 else batches[0]
        if not self.is_streamed:
            return self._resident, batches
        stretch = devices.load_batches(
            self._task.arrays, batches, self.mesh, self.max_steps, config.num_seeds
        )
        return stretch, batches

    def get(self, begin: int, end: int, next_end: int) -> tuple[Any, np.ndarray]:
        """Returns the same as `take`, and prefetches steps `end` to `next_end - 1`."""
        assert self._stream is not None, "call put first"
        inputs = self._stream.get(begin, end)
        if next_end > end:
            self._stream.prefetch(end, next_end)
        return inputs

    def input_rates(self) -> tuple[float, float] | None:
        """Returns `Stream.rates`, or None if nothing is streamed."""
        if self._stream is None or not self.is_streamed:
            return None
        return self._stream.rates()

    def no_labels(self) -> np.ndarray:
        """Returns a placeholder for the pseudo-labels of the primary process."""
        return np.zeros((self._config.num_seeds, self._size), np.int32)

    def min_step_time(self) -> float:
        """Returns the seconds that a step of all members takes at least."""
        batch = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(
                (self._config.batch_size, *x.shape[1:]), x.dtype
            ),
            self._task.arrays,
        )
        state = jax.eval_shape(self._task.init, jax.random.key(0))
        dtype = self._config.dtype
        seconds = min_step_time(self._task.train_step, state, batch, dtype)
        # The rates are those of a whole CPU, even if several devices share it.
        shared = devices.devices_per_memory() / self.mesh.size
        return seconds * self._config.num_seeds * shared

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
