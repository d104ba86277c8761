"""The datasets by name, as arrays: tfds in ArrayRecord, read without TensorFlow."""

import contextlib
import hashlib
import io
import logging
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageOps

from infogan_jax.config import Config, UserError
from infogan_jax.data import builders
from infogan_jax.data.download import DownloadError
from infogan_jax.data.stored import StoredImages

# name -> the builder that prepares it where it is not prepared yet
DATASETS = {
    "fashion_mnist": builders.FashionMnist,
    "mnist": builders.Mnist,
    "mnist_5k": builders.Mnist5k,
}

_HELD_OUT = "test", "validation"  # the first split of these names is measured on
_SAMPLE = 64  # images of each split in a fingerprint
_NO_SPLIT = "train[:90%]", "train[90%:]"  # where a dataset has but one


class Data(NamedTuple):
    """A dataset in memory, but for training images that are too many.

    Labels of training images are there for a classification network only; an InfoGAN's
    run is loaded without them.
    """

    images: np.ndarray | StoredImages  # uint8 [N, H, W, C]
    eval_images: np.ndarray  # uint8 [M, H, W, C], which the objective never sees
    eval_labels: np.ndarray | None  # int [M], for measuring only
    class_names: list[str]
    labels: np.ndarray | None = None  # int [N], where asked for


def load(
    config: Config, with_labels: bool = False, most_bytes: float = math.inf
) -> Data:
    """The dataset of a config, prepared first if need be.

    Args:
        config: names it.
        with_labels: have those of the training images too.
        most_bytes: of training images in memory, if `config.input` is "auto"; more than
            that stay on disk.

    Raises:
        UserError: unknown, not to be had, not readable, of mixed sizes, or without the
            labels asked for.
    """
    folder = prepare(config)
    builder = tfds.builder_from_directory(folder)
    features = builder.info.features
    image_key = _only_feature(features, tfds.features.Image)
    if image_key is None:
        raise UserError(
            f"--dataset={config.dataset}: expected one image feature, "
            f"has {list(features)}"
        )
    channels = features[image_key].shape[-1]
    label_key = _only_feature(features, tfds.features.ClassLabel)
    splits = builder.info.splits
    if "train" not in splits:
        raise UserError(
            f"--dataset={config.dataset}: expected a split 'train', has "
            f"{sorted(splits)}"
        )
    held_out = next((name for name in _HELD_OUT if name in splits), None)
    train, test = ("train", held_out) if held_out else _NO_SPLIT

    def decode(records):
        return _decode([r[image_key] for r in records], channels, config)

    def read(split, most_bytes):
        source = builder.as_data_source(
            split, decoders={image_key: tfds.decode.SkipDecoding()}
        )
        shape = decode(source.__getitems__([0])).shape[1:] if len(source) else (0, 0, 0)
        if len(source) * math.prod(shape) > most_bytes:
            if None in features[image_key].shape and not config.image_size:
                raise UserError(
                    f"--dataset={config.dataset}: images of several sizes, to be read "
                    "as needed; bring them to one by --image_size"
                )
            images, records = StoredImages(source, decode, shape), source
        else:
            records = source.__getitems__(list(range(len(source))))
            images = decode(records)
        return images, (lambda: np.array([r[label_key] for r in records]))

    try:
        most = {"auto": most_bytes, "resident": math.inf, "stream": 0}[config.input]
        images, labels_of = read(train, most)
        labels = labels_of() if with_labels and label_key else None
        eval_images, eval_labels_of = read(test, math.inf)
        eval_labels = eval_labels_of() if label_key else None
    except (OSError, ValueError) as error:
        raise UserError(f"--dataset={config.dataset}: {folder}: {error}") from None
    if with_labels and labels is None:
        raise UserError(
            f"--dataset={config.dataset}: has no labels for a classification network "
            "to learn from; choose one that has"
        )
    return Data(
        images,
        eval_images,
        eval_labels,
        list(features[label_key].names) if label_key else [],
        labels,
    )


def fingerprint(data: Data) -> str:
    """Twelve hexadecimal digits that tell datasets apart: sizes and a sample."""
    total = hashlib.sha256()
    for images in (data.images, data.eval_images):
        total.update(repr(images.shape).encode())
        total.update(images[:: -(-len(images) // _SAMPLE)].tobytes())
    return total.hexdigest()[:12]


def prepare(config: Config) -> Path:
    """The folder of the prepared dataset, in ArrayRecord.

    A dataset that tfds has prepared already is used as it is.

    Raises:
        UserError: there is no such dataset, and none could be made.
    """
    root = Path(
        config.data_dir
        or os.environ.get("TFDS_DATA_DIR")
        or tfds.core.constants.DATA_DIR
    ).expanduser()
    known = config.dataset in DATASETS
    if not known and not config.dataset.startswith("tfds:"):
        raise UserError(
            f"--dataset={config.dataset}: expected one of {sorted(DATASETS)}, or "
            "tfds:NAME for a dataset that tfds has prepared"
        )
    name = config.dataset.removeprefix("tfds:")
    folder = _prepared(root / name) if name else None
    if folder is not None:
        _check_format(folder)
        return folder
    if not known:
        has = (
            sorted(p.name for p in root.glob("*") if _prepared(p))
            if root.is_dir()
            else []
        )
        raise UserError(
            f"--dataset={config.dataset}: {root} has no such prepared dataset, it has "
            f"{has}; prepare it with tfds's own command and file format array_record, "
            "or name its folder by --data_dir"
        )
    options = {"data_dir": root, "file_format": "array_record"}
    if issubclass(DATASETS[name], builders.IdxBuilder):
        options |= {"downloads": root / "downloads" / name, "mirror": config.mirror}
    logging.getLogger("absl").setLevel(logging.ERROR)  # tfds tells of each file
    tfds.disable_progress_bar()
    print(f"preparing {name} in {root}", flush=True)
    try:
        builder = DATASETS[name](**options)
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(
                    compute_stats=tfds.download.ComputeStatsMode.SKIP
                )
            )
    except DownloadError as error:
        raise UserError(
            f"--dataset={name}: could not be fetched ({error}); name a folder that has "
            "it prepared by --data_dir, or use the embedded --dataset=mnist_5k"
        ) from None
    except OSError as error:
        raise UserError(
            f"--dataset={name}: {root} cannot be written ({error}); name another "
            "folder by --data_dir"
        ) from None
    return Path(builder.data_dir)


def _prepared(folder: Path) -> Path | None:
    """The folder of the newest version below, with a configuration between or not."""
    found = sorted(folder.glob("**/dataset_info.json"))
    return found[-1].parent if found else None


def _check_format(folder: Path) -> None:
    if not any(folder.glob("*.array_record*")):
        raise UserError(
            f"{folder}: prepared in a format that only TensorFlow reads; convert it, "
            "in an environment that has TensorFlow: python -m "
            "tensorflow_datasets.scripts.convert_format --out_file_format=array_record "
            f"--dataset_dir={folder} --out_path=FOLDER"
        )


def _only_feature(features: Iterable, kind: type) -> str | None:
    found = [name for name in features if isinstance(features[name], kind)]
    return found[0] if len(found) == 1 else None


def _decode(encoded: list[bytes], channels: int, config: Config) -> np.ndarray:
    """Images of one size, uint8 `[N, H, W, C]`."""
    mode = {1: "L", 3: "RGB"}.get(channels)
    if mode is None:
        raise UserError(
            f"--dataset={config.dataset}: images of {channels} channels; expected 1 "
            "or 3"
        )
    size = config.image_size

    def one(content):
        image = Image.open(io.BytesIO(content)).convert(mode)
        if size and image.size != (size, size):
            image = ImageOps.pad(image, (size, size), Image.Resampling.LANCZOS)
        return np.asarray(image)

    images = [one(content) for content in encoded]
    if not images:
        raise UserError(f"--dataset={config.dataset}: has no images")
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise UserError(
            f"--dataset={config.dataset}: images of {len(shapes)} sizes, such as "
            f"{sorted(shapes)[:2]}; bring them to one by --image_size"
        )
    return np.stack(images).reshape(len(images), *images[0].shape[:2], channels)
