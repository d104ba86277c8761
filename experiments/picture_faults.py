"""Which meter of pictures sees which fault: real images, altered by hand, are measured.

    python -m experiments.picture_faults --flagfile=experiments/malaria_few_codes.cfg

prints a row per fault: FID, precision and recall of whole images by a random network,
of their texture, and the property of `evaluation/appearance.py` that moved most. The
first row is of other real images, unaltered. Faults that anybody sees in one picture
come first, those that nobody sees last. `--num_images` of each set, 1,500 by default.
"""

from collections.abc import Callable

import numpy as np
from absl import app, flags, logging
from scipy.ndimage import gaussian_filter

from infogan_jax.data import load
from infogan_jax.evaluation import appearance, fidelity
from infogan_jax.evaluation.extractors import random_extractor, texture_extractor
from infogan_jax.evaluation.properties import find_edges, foreground
from infogan_jax.flags import config_from_flags
from infogan_jax.pixels import to_uint8

Fault = Callable[[np.ndarray], np.ndarray]  # images [N, H, W, C] in [0, 1] -> likewise


def lines(images: np.ndarray) -> np.ndarray:
    """Every other row is brighter."""
    bright = 1 + 0.08 * np.cos(np.pi * np.arange(images.shape[1]))
    return images * bright[:, None, None]


def coloured_rims(images: np.ndarray) -> np.ndarray:
    """The object's outermost pixels have another tint."""
    tint = np.ones(images.shape[-1])
    tint[:3] = 1.4, 0.7, 1.0
    rims = find_edges(foreground(images))
    return np.where(rims[..., None], images * tint, images)


def mottle(images: np.ndarray) -> np.ndarray:
    """The tint changes from place to place."""
    noise = np.random.default_rng(0).normal(size=(*images.shape[:3], 3))
    noise = gaussian_filter(noise, (0, 2, 2, 0))
    changed = images.copy()
    changed[..., :3] *= 1 + 0.1 * noise / noise.std()
    return changed


def blurred(images: np.ndarray) -> np.ndarray:
    """Out of focus."""
    return gaussian_filter(images, (0, 1.5, 1.5, 0))


def no_stain(images: np.ndarray) -> np.ndarray:
    """The fourth channel is empty."""
    changed = images.copy()
    changed[..., 3:] = 0
    return changed


def round_outlines(images: np.ndarray) -> np.ndarray:
    """Outlines without their corners and bays."""
    objects = foreground(images)[..., None]
    mean = images.sum((1, 2), keepdims=True, where=objects) / objects.sum(
        (1, 2), keepdims=True
    )
    smooth = gaussian_filter(objects * 1.0, (0, 2.5, 2.5, 0)) > 0.5
    return np.where(smooth, np.where(objects, images, mean), 0)


def half_the_tints(images: np.ndarray) -> np.ndarray:
    """All images' tints half way to their mean."""
    mean = images[..., :3].mean((1, 2), keepdims=True)
    changed = images.copy()
    changed[..., :3] *= (mean + mean.mean(0)) / 2 / np.maximum(mean, 1e-6)
    return changed


def less_high(images: np.ndarray) -> np.ndarray:
    """Objects that are 5 % less high."""
    height = images.shape[1]
    middle = (height - 1) / 2
    rows = middle + (np.arange(height) - middle) / 0.95
    below = np.floor(rows).astype(int)
    part = (rows - below)[:, None, None]
    padded = np.pad(images, ((0, 0), (height, height), (0, 0), (0, 0)))
    below += height
    return padded[:, below] * (1 - part) + padded[:, below + 1] * part


def moved(images: np.ndarray) -> np.ndarray:
    """A pixel lower."""
    return np.roll(images, 1, axis=1)


# From what anybody sees in a single picture to what nobody sees in one.
SEEN: tuple[Fault, ...] = (lines, mottle, coloured_rims, blurred, no_stain)
UNSEEN: tuple[Fault, ...] = (round_outlines, half_the_tints, less_high, moved)


def measure(
    real: np.ndarray, altered: np.ndarray, other: np.ndarray, colours: str
) -> list[str]:
    """Returns one row of the table, of images in [0, 1]."""
    row = []
    shape = real.shape[1:]
    for extractor in (random_extractor(shape), texture_extractor(shape)):
        found = fidelity.compare(extractor(real), extractor(altered))
        row += [f"{found[kind]:.3f}" for kind in ("fid", "precision", "recall")]
    table = appearance.compare(
        to_uint8(real), to_uint8(altered), to_uint8(other), colours
    )
    most = max(table, key=lambda k: table[k]["distance"] - table[k]["real_reference"])
    moved_by = table[most]
    reference = f"{moved_by['distance']:.2f} ({moved_by['real_reference']:.2f})"
    return [*row, f"{most} {reference}"]


def main(argv):
    del argv
    logging.set_verbosity(logging.ERROR)  # tfds has much to say
    config = config_from_flags()
    data, n = load(config), flags.FLAGS.num_images
    real, other = (
        data.images[start : start + n].astype(np.float32) / 255 for start in (0, n)
    )
    print("fault | FID precision recall | of texture | most moved: distance (real)")
    for fault in (lambda x: x, *SEEN, *UNSEEN):
        name = fault.__name__.replace("<lambda>", "none").replace("_", " ")
        altered = np.clip(fault(other), 0, 1).astype(np.float32)
        print(name, "|", *measure(real, altered, other, config.composite), flush=True)


if __name__ == "__main__":
    flags.DEFINE_integer("num_images", 1500, "Images of each set.", lower_bound=100)
    app.run(main)
