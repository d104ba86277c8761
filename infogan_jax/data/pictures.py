"""Pictures as cameras and the web have them, read as Pillow does."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from infogan_jax.data.axes import check_size

UNREADABLE = "no image that can be read"


def read_picture(path: Path) -> np.ndarray:
    """Returns grey or colours, `[h, w, 1 or 3]`; ValueError if it cannot."""
    try:
        with Image.open(path) as file:
            check_size((*file.size, len(file.getbands())))
            if (frames := getattr(file, "n_frames", 1)) > 1:
                raise ValueError(f"{frames} frames; save each as an image")
            wide = any(isinstance(x[3], str) and ";16" in x[3] for x in file.tile)
            picture = ImageOps.exif_transpose(file)
    except UnidentifiedImageError:
        raise ValueError(UNREADABLE) from None
    except (SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{UNREADABLE} ({error})") from None
    if wide and not picture.mode.startswith("I"):
        raise ValueError("16-bit colours, of which 8 would be lost; save it as TIFF")
    is_grey = picture.mode in ("1", "L", "LA") or (
        picture.mode == "P"
        and not np.ptp(np.asarray(picture.convert("RGB")), axis=-1).any()
    )
    # 16- and 32-bit images keep their transparent value: converting to RGBA would
    # truncate them to 8 bits.
    if picture.has_transparency_data and picture.mode[0] not in "IF":
        picture = picture.convert("RGBA")
        black = Image.new("RGBA", picture.size, "black")
        picture = Image.alpha_composite(black, picture)
    if is_grey:
        picture = picture.convert("L")
    elif picture.mode not in ("L", "I", "I;16", "F", "RGB"):
        picture = picture.convert("RGB")
    image = np.asarray(picture)
    if image.dtype == np.int32:  # how Pillow reads 16 bits in some files
        image = image.astype(np.uint16) if image.max() < 1 << 16 else image
    return image.reshape(*image.shape[:2], -1)
