"""This image, but of another category or code: `--mode=edit`.

Each image is made again by G from what `core/inversion.py` finds, and once more with
the codes that are asked for. An image that G cannot make again is shown, not edited:
its picture would be of another cell.
"""

import csv
import functools
import io
import itertools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.neighbors import NearestNeighbors

from infogan_jax.apps.encode import reading_config
from infogan_jax.apps.sample import class_to_category, parse_fixed, write_tiff
from infogan_jax.core import inversion
from infogan_jax.core.latents import join_latents, split_latents
from infogan_jax.core.model import InfoGAN
from infogan_jax.data import load, read_foreign
from infogan_jax.errors import UserError, check_is_new, expand_path
from infogan_jax.files import write_atomically
from infogan_jax.inference import Trained, in_batches
from infogan_jax.pixels import to_uint8
from infogan_jax.reporting import figures
from infogan_jax.run.dataset import load_eval_classifier
from infogan_jax.run.directory import Run

logger = logging.getLogger(__name__)

_BATCH = 16  # images at a time, which are compiled for
_STEPS = 200  # of the optimiser
_MOST_UNEXPLAINED = 0.25  # of an image, above which it is not edited
_SHOWN = 12  # rows of the sheet
_REAL = 4000  # training images that edited ones are compared with


class Edited(NamedTuple):
    """Images, made again and edited, `[N, H, W, C]` in [0, 1] each."""

    images: np.ndarray
    again: np.ndarray
    edited: np.ndarray  # those that cannot be made again are as they were


def edit(
    trained: Trained,
    images: np.ndarray,
    values: dict[str, np.ndarray],
    seed: int = 0,
) -> Edited:
    """Makes images again, and with other codes; see `inversion.invert`.

    Args:
        trained: a model.
        images: uint8 `[N, H, W, C]`.
        values: of the codes that change, by name, as rows of latents.
        seed: of the pictures that the start is learned from.
    """
    model, state = trained.model, trained.state
    reading = inversion.learn_reading(model, state, jax.random.key(seed))
    learned = state, reading, values
    again, edited = in_batches(_make, model, learned, images, _BATCH)
    return Edited(images / np.float32(255), again, edited)


def _make(
    model: InfoGAN, learned: tuple, images: jax.Array
) -> tuple[jax.Array, jax.Array]:
    state, reading, values = learned
    inverted = inversion.invert(model, state, images, reading, _STEPS)
    codes = split_latents(model.spec, inverted.latents)
    for name, value in values.items():
        codes[name] = jnp.broadcast_to(value, codes[name].shape)
    changed = inverted._replace(latents=join_latents(model.spec, codes))
    render = functools.partial(inversion.render, model, state)
    return render(inverted), render(changed)


def unexplained(images: np.ndarray, again: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Returns the squared error over that of the mean image, `[N]`.

    Args:
        images: in [0, 1], `[N, H, W, C]`.
        again: what G made of them, likewise.
        mean: of the training images, `[H, W, C]`.
    """
    error, whole = (
        ((images - other) ** 2).mean((1, 2, 3)) for other in (again, mean[None])
    )
    return error / np.maximum(whole, 1e-9)


def nearest(images: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the place of the nearest real image, and its root mean square distance.

    Args:
        images: `[N, H, W, C]` in [0, 1].
        real: `[M, H, W, C]` in [0, 1].
    """
    rows, of_real = (x.reshape(len(x), -1) for x in (images, real))
    finder = NearestNeighbors(n_neighbors=1).fit(of_real)
    distance, place = finder.kneighbors(rows)
    return place[:, 0], distance[:, 0] / np.sqrt(rows.shape[1])


def edit_folder(
    run: Run,
    images: str,
    fix: str,
    output: Path,
    seed: int | None = None,
    keep_residual: bool = False,
    metadata: str | None = None,
) -> None:
    """Writes the images of a folder with some codes changed, a sheet, and a table.

    The sheet has for each of the first twelve: the image, made again, what is missing,
    edited, and the nearest real image of the category that is asked for. The table,
    edited.csv, says how much of each image is unexplained, whether it is edited, how
    each channel correlates with that of the edited image, how far the nearest real
    image is beside that of real images of their kind, and, given
    `config.eval_classifier`, which class that network sees before and after.

    Args:
        run: its newest checkpoint is used.
        images: a folder.
        fix: codes and values, as for `--mode=sample`, one value each.
        output: a folder that does not exist yet.
        seed: of the member, if there are several; by default the chosen one's.
        keep_residual: add what G could not make again to the edited image.
        metadata: a table of these images, of another experiment. Without one, plates
            that are named as the run's are the run's and are read by its ranges.

    Raises:
        UserError: there is no such folder, code or value; or `output` exists already.
    """
    check_is_new("output", output)
    folder, trained = run.load_trained(seed)
    classes = class_to_category(run, folder, trained.step)
    values = _values(trained, fix, classes)
    data = load(run.config)
    classifier = load_eval_classifier(run.config, data)
    names, pixels = _read(run, images, metadata)
    real = data.images[:: -(-len(data.images) // _REAL)]
    made = edit(trained, pixels, values)
    if keep_residual:
        kept = np.clip(made.edited + made.images - made.again, 0, 1)
        made = made._replace(edited=kept)
    ratio = unexplained(made.images, made.again, real.mean(0) / 255)
    is_edited = ratio <= _MOST_UNEXPLAINED
    made.edited[~is_edited] = made.images[~is_edited]
    kind = _of_kind(trained, real, values) / np.float32(255)
    place, distance = nearest(made.edited, kind)
    table = {
        "image": names,
        "edited": is_edited.tolist(),
        "unexplained": ratio.round(4).tolist(),
        "distance_to_real": distance.round(4).tolist(),
        "distance_of_real": [round(_own_distance(kind), 4)] * len(names),
        **_correlations(made, run.info.channels),
    }
    if classifier is not None:
        for column, seen in (("class", made.images), ("class_edited", made.edited)):
            found = classifier.classify(seen)
            table[column] = [classifier.class_names[k] for k in found]
    try:
        output.mkdir(parents=True)
        for i in np.flatnonzero(is_edited):
            path = output / Path(names[i]).with_suffix(".tif")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_tiff(path, made.edited[i], run)
        _draw_sheet(made, kind[place], names, is_edited, output / "sheet.png", run)
        _write_table(output / "edited.csv", table)
    except OSError as error:
        raise UserError(
            f"--output={output}: cannot be written ({error.strerror})"
        ) from None
    for name in itertools.compress(names, ~is_edited):
        logger.info(f"not edited: {name}: the generator cannot make it again")
    logger.info(f"{is_edited.sum()} of {len(names)} images edited, in {output}")


def _values(
    trained: Trained, fix: str, classes: dict[str, int]
) -> dict[str, np.ndarray]:
    """The codes that are asked for, by name."""
    if not fix:
        raise UserError("--fix: expected CODE=VALUE, such as cat=1")
    fixed = parse_fixed(fix, trained.spec, 1, classes)
    if any(".." in part for part in fix.split(",")):
        raise UserError(f"--fix={fix}: expected one value of each code, no range")
    return {code.name: code.values[0] for code in fixed}


def _read(run: Run, images: str, metadata: str | None) -> tuple[list[str], np.ndarray]:
    """Names and pixels, uint8 `[N, H, W, C]`, of the images of a folder."""
    root = expand_path("images", images)
    if not images or not root.is_dir():
        raise UserError(f"--images={images}: is no folder; expected one with images")
    config = reading_config(run, images, metadata)
    names, pixels = [], []
    shape, form = run.info.image_shape, run.info.form
    for image in read_foreign(root, config, shape, form, are_own=metadata is None):
        if isinstance(image.pixels, str):
            logger.info(f"left out: {image.name}: {image.pixels}")
        else:
            names.append(image.name)
            pixels.append(image.pixels)
    if not names:
        raise UserError(f"--images={root}: none of its images can be used")
    return names, np.stack(pixels)


def _of_kind(
    trained: Trained, real: np.ndarray, values: dict[str, np.ndarray]
) -> np.ndarray:
    """Real images of the categories that are asked for; all, if there are none."""
    chosen = np.ones(len(real), bool)
    read = trained.infer_categories(real)
    for name in values.keys() & read.keys():
        chosen &= read[name] == values[name].argmax()
    return real[chosen] if chosen.any() else real


def _own_distance(real: np.ndarray) -> float:
    """The median distance of real images to the nearest other one."""
    if len(real) < 2:
        return float("nan")
    return float(np.median(nearest(real[::2], real[1::2])[1]))


def correlation(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns Pearson's r of each image's pixels with another's, `[N, C]`.

    Args:
        images: `[N, H, W, C]`.
        others: likewise. A channel that is constant in either has r 0.
    """
    a, b = (x - x.mean((1, 2), keepdims=True) for x in (images, others))
    size = np.sqrt((a**2).mean((1, 2)) * (b**2).mean((1, 2)))
    return (a * b).mean((1, 2)) / np.maximum(size, 1e-9)


def _correlations(made: Edited, channels: Sequence[str] | None) -> dict[str, list]:
    """A column for each channel."""
    r = correlation(made.images, made.edited).round(4)
    names = channels or [f"channel_{i}" for i in range(1, r.shape[1] + 1)]
    return {
        f"r_{name}": column.tolist() for name, column in zip(names, r.T, strict=True)
    }


def _write_table(path: Path, columns: dict[str, list]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    write_atomically(path, text.getvalue())


def _draw_sheet(
    made: Edited,
    real: np.ndarray,
    names: Sequence[str],
    is_edited: np.ndarray,
    path: Path,
    run: Run,
) -> None:
    residual = 0.5 + (made.images - made.again) / 2
    columns = made.images, made.again, residual, made.edited, real
    rows = np.stack(columns, 1)[:_SHOWN].reshape(-1, *made.images.shape[1:])
    labels = [
        name if ok else f"{name}, not edited"
        for name, ok in zip(names, is_edited, strict=True)
    ][:_SHOWN]
    titles = ["image", "again", "missing", "edited", "nearest"]
    picture = figures.image_grid(
        to_uint8(rows), len(columns), labels, titles, colours=run.config.composite
    )
    figures.save(picture, path)
