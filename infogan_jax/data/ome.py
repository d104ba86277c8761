"""OME-TIFF files, as Fiji, napari and this program read them."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def write(
    file: Any,
    images: np.ndarray,
    channels: Sequence[str] = (),
    pixel_size: float | None = None,
) -> None:
    """Writes one image, or several as times.

    Args:
        file: path, or a file that is open.
        images: `[H, W, C]` or `[N, H, W, C]`.
        channels: their names; empty: none are said.
        pixel_size: micrometres; None: it is not said.

    Raises:
        OSError: the file cannot be written.
    """
    import tifffile

    about: dict[str, Any] = {"axes": "TCYX"[-images.ndim :]}
    if channels:
        about["Channel"] = {"Name": list(channels)}
    if pixel_size:
        for axis in "XY":
            about[f"PhysicalSize{axis}"] = pixel_size
            about[f"PhysicalSize{axis}Unit"] = "\u00b5m"
    planes = np.moveaxis(images, -1, -3)
    tifffile.imwrite(file, planes, ome=True, photometric="minisblack", metadata=about)
