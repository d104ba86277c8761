"""Images: where they come from (`sources`, `stored`), and in which order (`stream`)."""

from infogan_jax.data.sources import (
    DATASETS,
    Data,
    fingerprint,
    load,
    look_up,
    prepare,
    read_like,
)
from infogan_jax.data.stored import StoredImages, is_streamed
from infogan_jax.data.stream import Stream, batch_indices, epoch_order

__all__ = [
    "DATASETS",
    "Data",
    "StoredImages",
    "Stream",
    "batch_indices",
    "epoch_order",
    "fingerprint",
    "is_streamed",
    "load",
    "look_up",
    "prepare",
    "read_like",
]
