"""Images: where they come from (`sources`), and in which order (`stream`)."""

from infogan_jax.data.sources import DATASETS, Data, load, prepare
from infogan_jax.data.stream import batch_indices, epoch_order

__all__ = ["DATASETS", "Data", "batch_indices", "epoch_order", "load", "prepare"]
