"""Images: their sources, and the order of batches."""

from infogan_jax.data.folder import Form
from infogan_jax.data.foreign import (
    Foreign,
    is_folder_of,
    preparation,
    read_foreign,
)
from infogan_jax.data.prepare import DATASETS, prepare
from infogan_jax.data.sources import (
    Data,
    fingerprint,
    held_out_names,
    load,
    open_dataset,
)
from infogan_jax.data.stored import ImageArray, StoredImages, is_streamed
from infogan_jax.data.stream import Stream, batch_indices, epoch_order

__all__ = [
    "DATASETS",
    "Data",
    "Foreign",
    "Form",
    "ImageArray",
    "StoredImages",
    "Stream",
    "batch_indices",
    "epoch_order",
    "fingerprint",
    "held_out_names",
    "is_folder_of",
    "is_streamed",
    "load",
    "open_dataset",
    "preparation",
    "prepare",
    "read_foreign",
]
