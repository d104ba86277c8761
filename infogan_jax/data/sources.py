"""Datasets as arrays: tfds in ArrayRecord, read without TensorFlow."""

import functools
import hashlib
import importlib.metadata
import json
import logging
import math
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader

from infogan_jax import former
from infogan_jax.core.models import ImageShape
from infogan_jax.data import folder as own
from infogan_jax.data import imaging, splits
from infogan_jax.data.prepare import (
    DROPPED,
    REMEDY,
    change_of,
    open_builder,
    prepare,
)
from infogan_jax.data.stored import ImageArray, StoredImages, Subset
from infogan_jax.errors import UserError, expand_path, first_line
from infogan_jax.kept import kept
from infogan_jax.settings import DataConfig

logger = logging.getLogger(__name__)

_HELD_OUT = "test", "validation"  # the first split of these names is measured on
_SAMPLE = 64  # images of each split in a fingerprint
_BATCH = 1000  # records read at once for their labels or groups
_DECODERS = "imagecodecs", "numpy", "pillow", "scikit-image", "tensorflow-datasets"
_FACTOR = "label_"  # names of factors begin so, as tfds has them
_HOLD_OUT_EVERY = 10  # of a dataset with one split, one image in so many is held out


class Data(NamedTuple):
    """A dataset in memory, except for training images that are too many.

    Labels of training images are read for a classification network only; an InfoGAN's
    run is loaded without them.
    """

    images: ImageArray  # uint8 [N, H, W, C]
    eval_images: np.ndarray  # uint8 [M, H, W, C], which the objective never sees
    eval_labels: np.ndarray | None  # int [M], for measuring only
    class_names: list[str]
    labels: np.ndarray | None = None  # int [N], if asked for
    channels: list[str] | None = None  # names, of a folder's
    form: own.Form = own.Form()  # of a folder's images
    dropped: dict[str, np.ndarray] | None = None  # by `config.drop`: kind -> some
    eval_metadata: dict[str, list[str]] | None = None  # column -> value of each image
    eval_factors: dict[str, np.ndarray] | None = None  # name -> int [M], for measuring
    metadata: dict[str, list[str]] | None = None  # of the training images, likewise


def load(
    config: DataConfig, with_labels: bool = False, max_bytes: float = math.inf
) -> Data:
    """Returns the dataset of a config, prepared first if need be.

    Args:
        config: names it.
        with_labels: read those of the training images too.
        max_bytes: limit of training images in memory if `config.data_placement` is
            "auto"; larger sets stay on disk.

    Raises:
        UserError: the dataset is unknown, unavailable, unreadable, of mixed sizes, or
            lacks the labels asked for.
    """
    data = open_dataset(config, with_labels, max_bytes)
    if isinstance(data.images, StoredImages):
        return data._replace(images=data.images.materialize())
    return data


def open_dataset(config: DataConfig, with_labels: bool, max_bytes: float) -> Data:
    """Returns the same as `load`, but with all training images still on disk.

    Images of unknown sizes are read, since their sizes have to be compared.
    """
    folder = prepare(config)
    builder = open_builder(folder)
    reader = _Reader(builder, folder, config)
    placement = {"auto": max_bytes, "resident": math.inf, "stream": 0}
    limit = placement[config.data_placement]
    try:
        _check_complete(builder)
        train, test = _splits(builder, reader, config)
        images = reader.images(train, limit)
        eval_images = reader.images(test, math.inf).materialize()[:]
        labels = reader.labels(train) if with_labels else None
        eval_labels = reader.labels(test)
        eval_metadata = reader.metadata(test)
        eval_factors = reader.factors(test)
        about_train = reader.metadata(train) if config.comparisons() else None
    except _UNREADABLE as error:
        raise _unreadable(config, folder, error) from None
    if with_labels and (labels is None or eval_labels is None):
        raise UserError(
            f"--dataset={config.dataset}: has no labels for a classification network "
            "to learn from; choose one that has"
        )
    about = builder.info.metadata or {}
    return Data(
        images,
        eval_images,
        eval_labels,
        reader.class_names,
        labels,
        about.get("channels"),
        own.Form(**former.upgrade_run(dict(about))["form"]),
        _load_dropped(folder),
        eval_metadata,
        eval_factors,
        about_train,
    )


def _load_dropped(folder: Path) -> dict[str, np.ndarray] | None:
    if not (folder / DROPPED).exists():
        return None
    try:
        with np.load(folder / DROPPED) as file:
            return dict(file)
    except (OSError, ValueError, zipfile.BadZipFile):
        return None  # a picture less


class _Reader:
    """Reads images and labels of a prepared dataset's records."""

    def __init__(
        self, builder: tfds.core.DatasetBuilder, folder: Path, config: DataConfig
    ):
        """Raises UserError unless there is one image feature that can be read."""
        self._folder, self._config = folder, config
        features = builder.info.features
        key = _image_feature(features)
        if key is None:
            raise UserError(
                f"--dataset={config.dataset}: expected one image feature, "
                f"has {list(features)}"
            )
        self.image_key = key
        self.is_encoded = isinstance(features[key], tfds.features.Image)
        self._mode = _mode(config, features[key].shape[-1]) if self.is_encoded else ""
        self._has_one_size = None not in features[key].shape or bool(config.image_size)
        labels = _features_of(features, tfds.features.ClassLabel)
        factors = sorted(name for name in labels if name.startswith(_FACTOR))
        self._factors = factors if len(factors) > 1 else []
        if f"{_FACTOR}shape" in self._factors:
            labels = [f"{_FACTOR}shape"]
        self._label_key = labels[0] if len(labels) == 1 else None
        is_own = config.dataset.startswith("folder:")
        self._has_metadata = is_own and "metadata" in features
        self.class_names: list[str] = (
            list(features[self._label_key].names) if self._label_key else []
        )

    def stored_image(self, record: dict[str, Any]) -> np.ndarray:
        """The image of a record as it is stored, uint8 `[h, w, C]`."""
        image = record[self.image_key]
        return imaging.decode(image, self._mode) if self.is_encoded else image

    def _decode(self, records: Iterable, shape: tuple[int, ...] | None) -> np.ndarray:
        images = [preprocess(self.stored_image(r), self._config) for r in records]
        shapes = {image.shape for image in images} | ({shape} if shape else set())
        if len(shapes) > 1:
            raise UserError(
                f"--dataset={self._config.dataset}: images of several sizes, such as "
                f"{sorted(shapes)[:2]}; convert them to one by --image_size"
            )
        return np.stack(images)

    def _read(self, records: Any, shape: ImageShape, places: list[int]) -> np.ndarray:
        try:
            return self._decode(records.__getitems__(places), shape)
        except _UNREADABLE as error:
            raise _unreadable(self._config, self._folder, error) from None

    def digest(self, *settings: Any) -> str:
        """Hexadecimal digits over the files, the code that reads them, and settings."""
        total = hashlib.sha256(str(self._folder).encode(errors="surrogateescape"))
        for path in sorted(self._folder.rglob("*")):
            about = path.stat()
            total.update(repr((path.name, about.st_size, about.st_mtime_ns)).encode())
        packages = [importlib.metadata.version(name) for name in _DECODERS]
        total.update(repr((settings, packages)).encode())
        for module in ("imaging", "prepare", "sources", "splits"):
            total.update(Path(__file__).with_name(f"{module}.py").read_bytes())
        return total.hexdigest()

    def _digest_of_images(self, records: Subset) -> str:
        config = self._config
        settings = config.dataset, config.image_size, config.resize_mode, config.align
        return self.digest(*settings, records.name, records.places.tolist())

    def images(self, records: Subset, max_bytes: float) -> StoredImages:
        """The images of records, to be read later."""
        if not len(records):
            raise UserError(f"--dataset={self._config.dataset}: has no images")
        _, height, width, channels = self._decode(records.__getitems__([0]), None).shape
        shape = height, width, channels
        read = functools.partial(self._read, records, shape)
        in_memory = len(records) * math.prod(shape) <= max_bytes
        digest = self._digest_of_images(records) if in_memory else ""
        images = StoredImages(read, (len(records), *shape), in_memory, digest)
        if not self._has_one_size:
            if not in_memory:
                raise UserError(
                    f"--dataset={self._config.dataset}: images of several sizes, to be "
                    "read as needed; convert them to one by --image_size"
                )
            images.materialize()
        return images

    def labels(self, records: Any) -> np.ndarray | None:
        """The labels of records; None if there are none."""
        if self._label_key is None:
            return None
        labels = np.array(_values(records, self._label_key))[:, 0]
        if (labels == -1).all():
            return None  # tfds marks a split without labels like that
        if not (labels.min() >= 0 and labels.max() < len(self.class_names)):
            raise ValueError(f"labels beyond the {len(self.class_names)} class names")
        return labels

    def metadata(self, records: Any) -> dict[str, list[str]] | None:
        """The columns of what a folder's table and names say of records."""
        if not self._has_metadata:
            return None
        rows = [json.loads(text) for (text,) in _values(records, "metadata")]
        return {name: [row[name] for row in rows] for name in rows[0]}

    def factors(self, records: Any) -> dict[str, np.ndarray] | None:
        """The truth about the images of records, where it is known, by factor."""
        if not self._factors:
            return None
        columns = np.array(_values(records, *self._factors)).T
        names = [key.removeprefix(_FACTOR) for key in self._factors]
        return dict(zip(names, columns, strict=True))


def _values(records: Any, *keys: str) -> list[list]:
    """Some features of records; images come along, so few are read at once."""
    return [
        [record[key] for key in keys]
        for places in _batches(len(records))
        for record in records.__getitems__(places)
    ]


def preprocess(image: np.ndarray, config: DataConfig) -> np.ndarray:
    """A stored image, uint8, as the networks see it."""
    change = change_of(config.dataset)
    image = image if change is None else change(image)
    image = imaging.resize(image, config.image_size, config.resize_mode)
    return imaging.align(image, config.align)


def held_out_names(config: DataConfig) -> set[str] | None:
    """Returns the names of the images of a folder that a run of it never saw.

    None if a former version prepared the folder, without names.
    """
    builder = open_builder(prepare(config))
    if "name" not in builder.info.features:
        return None
    records = builder.as_data_source(_HELD_OUT[0])
    return {name.decode() for (name,) in _values(records, "name")}


_UNREADABLE = OSError, RuntimeError, ValueError  # ArrayRecord raises RuntimeError


def _unreadable(config: DataConfig, folder: Path, error: Exception) -> UserError:
    reason = first_line(error)
    return UserError(
        f"--dataset={config.dataset}: {folder}: cannot be read ({reason}); {REMEDY}"
    )


def _check_complete(builder: tfds.core.DatasetBuilder) -> None:
    """Raises ValueError unless the files hold as many records as they should."""
    for name, split in builder.info.splits.items():
        if name not in ("train", *_HELD_OUT):
            continue
        for path, expected in zip(split.filepaths, split.shard_lengths, strict=True):
            if "array_record" not in Path(path).name:
                continue  # prepared in another format first, and then in this one
            reader = ArrayRecordReader(str(path))
            count = reader.num_records()
            reader.close()
            if count != expected:
                raise ValueError(
                    f"{Path(path).name} has {count} records, '{name}' {expected}"
                )


def _splits(
    builder: tfds.core.DatasetBuilder, reader: _Reader, config: DataConfig
) -> tuple[Subset, Subset]:
    """The records to train on and those to measure on."""
    has = builder.info.splits
    if "train" not in has:
        raise UserError(
            f"--dataset={config.dataset}: expected a split 'train', has {sorted(has)}"
        )
    skip = {}
    if reader.is_encoded:
        skip = {reader.image_key: tfds.decode.SkipDecoding()}

    def split(name: str) -> Subset:
        records = builder.as_data_source(name, decoders=skip)
        return Subset(records, np.arange(len(records)), name)

    train = split("train")
    held_out = next((name for name in _HELD_OUT if name in has), None)
    if config.group_csv and held_out:
        raise UserError(
            f"--group_csv={config.group_csv}: --dataset={config.dataset} has a split "
            f"'{held_out}' of its own; leave --group_csv out"
        )
    if held_out:
        return train, split(held_out)
    if config.group_csv:
        out = _hold_out_groups(train, reader, config)
    else:
        first_out = len(train) - len(train) // _HOLD_OUT_EVERY
        out = np.arange(len(train)) >= first_out
        if config.dataset.startswith("malaria"):
            logger.info(
                "note: cells of one slide are both trained and measured on; "
                "--group_csv names the slides"
            )
    return train.subset(~out), train.subset(out)


def _hold_out_groups(
    records: Subset, reader: _Reader, config: DataConfig
) -> np.ndarray:
    """Which records are held out, by the groups of `config.group_csv`, bool `[N]`."""
    group_of = splits.read_groups(expand_path("group_csv", config.group_csv))

    def all_digests() -> np.ndarray:
        images = (
            reader.stored_image(record)
            for places in _batches(len(records))
            for record in records.__getitems__(places)
        )
        return np.array([splits.digest(image) for image in images])

    digests = kept("digests", reader.digest(), all_digests).tolist()
    if unknown := [i for i, digest in enumerate(digests) if digest not in group_of]:
        raise UserError(
            f"--group_csv={config.group_csv}: has no group for image {unknown[0]:,} of "
            f"--dataset={config.dataset}; name the table that belongs to it"
        )
    return splits.held_out([group_of[digest] for digest in digests])


def _batches(count: int) -> Iterator[list[int]]:
    """The places from 0 on, some at a time."""
    for begin in range(0, count, _BATCH):
        yield list(range(begin, min(begin + _BATCH, count)))


def fingerprint(data: Data) -> str:
    """Returns twelve hexadecimal digits over the sizes and a sample of a dataset."""
    total = hashlib.sha256()
    for images in (data.images, data.eval_images):
        total.update(repr(images.shape).encode())
        total.update(images[:: -(-len(images) // _SAMPLE)].tobytes())
    return total.hexdigest()[:12]


def _features_of(features: Any, kind: type) -> list[str]:
    return [name for name in features if isinstance(features[name], kind)]


def _image_feature(features: Any) -> str | None:
    """The only feature of encoded images, or of plain arrays uint8 `[H, W, C]`."""
    arrays = [
        name
        for name in features
        if type(features[name]) is tfds.features.Tensor
        and len(features[name].shape) == 3
        and features[name].np_dtype == np.uint8
    ]
    encoded = _features_of(features, tfds.features.Image)
    for names in (encoded, arrays):
        if len(names) == 1:
            return names[0]
    return None


def _mode(config: DataConfig, channels: int) -> str:
    mode = {1: "L", 3: "RGB"}.get(channels)
    if mode is None:
        raise UserError(
            f"--dataset={config.dataset}: encoded images of {channels} channels; "
            "expected 1 or 3"
        )
    return mode
