"""The datasets by name, as arrays: tfds in ArrayRecord, read without TensorFlow."""

import dataclasses
import hashlib
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader

from infogan_jax.config import Config, UserError, expand, first_line
from infogan_jax.data import builders, imaging, splits
from infogan_jax.data import folder as own
from infogan_jax.data.download import DownloadError
from infogan_jax.data.stored import Part, StoredImages


class Source(NamedTuple):
    """A dataset with a name."""

    builder: type[tfds.core.GeneratorBasedBuilder]  # prepares it where it is not yet
    change: Callable[[np.ndarray], np.ndarray] | None = None  # of each image, uint8


DATASETS = {
    "fashion_mnist": Source(builders.FashionMnist),
    "malaria": Source(builders.Malaria),
    "malaria_four_channel": Source(builders.Malaria, imaging.with_dna_stain),
    "malaria_two_channel": Source(builders.Malaria, imaging.separate_stains),
    "mnist": Source(builders.Mnist),
    "mnist_5k": Source(builders.Mnist5k),
}

_HELD_OUT = "test", "validation"  # the first split of these names is measured on
_SAMPLE = 64  # images of each split in a fingerprint
_PART = 1000  # images that are read at once for their groups
_SHARE = 10  # where a dataset has but one split, one image in so many is held out
_SHOWN = 10  # files left out that are told


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
    ranges: list | None = None  # of each channel, the user's values of 0 and 255
    channels: list[str] | None = None  # values of a folder's {channel}


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
    data = look_up(config, with_labels, most_bytes)
    return data._replace(images=data.images.bring())


def look_up(config: Config, with_labels: bool, most_bytes: float) -> Data:
    """As `load`, but all training images are on disk still, for a later `bring`.

    Those of unknown sizes are in memory, for they have to be looked at.
    """
    folder = prepare(config)
    builder = _open(folder)
    features = builder.info.features
    image_key = _image_feature(features)
    if image_key is None:
        raise UserError(
            f"--dataset={config.dataset}: expected one image feature, "
            f"has {list(features)}"
        )
    label_key = _only_feature(features, tfds.features.ClassLabel)
    encoded = isinstance(features[image_key], tfds.features.Image)
    if encoded:
        mode = _mode(config, features[image_key].shape[-1])

    def stored(record):
        if not encoded:
            return record[image_key]
        return imaging.decode(record[image_key], mode)

    def decode(records, *shape):
        images = [_finish(stored(record), config) for record in records]
        shapes = {*shape, *(image.shape for image in images)}
        if len(shapes) > 1:
            raise UserError(
                f"--dataset={config.dataset}: images of several sizes, such as "
                f"{sorted(shapes)[:2]}; bring them to one by --image_size"
            )
        return np.stack(images)

    def images_of(records, most_bytes):
        if not len(records):
            raise UserError(f"--dataset={config.dataset}: has no images")

        _, *shape = decode(records.__getitems__([0])).shape

        def read(places):
            try:
                return decode(records.__getitems__(places), tuple(shape))
            except _UNREADABLE as error:
                raise _damaged(config, folder, error) from None

        in_memory = len(records) * math.prod(shape) <= most_bytes
        images = StoredImages(read, (len(records), *shape), in_memory)
        if None in features[image_key].shape and not config.image_size:
            if not in_memory:
                raise UserError(
                    f"--dataset={config.dataset}: images of several sizes, to be read "
                    "as needed; bring them to one by --image_size"
                )
            images.bring()
        return images

    def labels_of(records):
        every = records.__getitems__(list(range(len(records))))
        return np.array([record[label_key] for record in every])

    names = list(features[label_key].names) if label_key else []
    try:
        _check_whole(builder)
        train, test = _splits(builder, image_key, stored, config)
        most = {"auto": most_bytes, "resident": math.inf, "stream": 0}[config.input]
        images, eval_images = images_of(train, most), images_of(test, math.inf).bring()
        labels = labels_of(train) if with_labels and label_key else None
        eval_labels = labels_of(test) if label_key else None
        if eval_labels is not None and (eval_labels == -1).all():
            eval_labels = None  # how tfds has a split without labels
        for some in (labels, eval_labels):
            if some is not None and not (some.min() >= 0 and some.max() < len(names)):
                raise ValueError(f"labels beyond the {len(names)} names of classes")
    except _UNREADABLE as error:
        raise _damaged(config, folder, error) from None
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
        names,
        labels,
        about.get("ranges"),
        about.get("channels"),
    )


def _finish(image: np.ndarray, config: Config) -> np.ndarray:
    """A stored image, uint8, as the networks see it."""
    change = DATASETS[config.dataset].change if config.dataset in DATASETS else None
    image = image if change is None else change(image)
    image = imaging.resize(image, config.image_size, config.fit)
    return imaging.align(image, config.align)


def read_like(
    root: Path, config: Config, image_shape: tuple[int, int, int], ranges: list | None
) -> Iterator[tuple[str, np.ndarray | str]]:
    """The images of any folder, in the form of those that a run was trained on.

    Args:
        root: the folder; subfolders are looked through.
        config: of the run.
        image_shape: of the run's images.
        ranges: of its folder's channels, if it was one.

    Yields:
        The name of each image, in order, and the image, uint8 of `image_shape`, or the
        reason why it cannot be used.

    Raises:
        UserError: the folder cannot be read, or has no images.
    """
    size, _, channels = image_shape
    form = own.Survey([], {}, size, ranges or [])
    config = dataclasses.replace(config, image_size=size)
    if not config.dataset.startswith("folder:"):
        # Bytes; a dataset that changes its images takes those in colour, of any size
        changes = config.dataset in DATASETS and DATASETS[config.dataset].change
        stored = 3 if changes else channels
        form = own.Survey([], {}, 0, [own.BYTES] * stored)
        mode = {1: "grey", 3: "rgb"}.get(stored, "")
        config = dataclasses.replace(config, channels=mode)
    files = own.find(root, config)
    if files.passed_over:
        print(files.passed_over)
    yield from sorted(files.left_out.items())

    def read(item):
        try:
            image = _finish(own.convert(item, form, config, is_new=True), config)
        except Exception as error:  # decoders raise anything for a damaged file
            return item.name, first_line(error)
        return item.name, image

    yield from own.in_order(read, files.items, "reading")


_ANEW = "if it is damaged, delete that folder and prepare it anew"
_UNREADABLE = OSError, RuntimeError, ValueError  # the second one is ArrayRecord's


def _damaged(config: Config, folder: Path, error: Exception) -> UserError:
    reason = first_line(error)
    return UserError(
        f"--dataset={config.dataset}: {folder}: cannot be read ({reason}); {_ANEW}"
    )


def _open(folder: Path) -> tfds.core.DatasetBuilder:
    """Raises UserError if what describes the dataset is damaged."""
    try:
        return tfds.builder_from_directory(folder)
    except Exception as error:  # it is parsed by several libraries
        reason = first_line(error)
        raise UserError(f"{folder}: cannot be read ({reason}); {_ANEW}") from None


def _check_whole(builder: tfds.core.DatasetBuilder) -> None:
    """Raises ValueError unless the files hold as many records as they should."""
    for name, split in builder.info.splits.items():
        if name not in ("train", *_HELD_OUT):
            continue
        for path, expected in zip(split.filepaths, split.shard_lengths, strict=True):
            if "array_record" not in Path(path).name:
                continue  # prepared in another format first, and then in this one
            reader = ArrayRecordReader(str(path))
            found = reader.num_records()
            reader.close()
            if found != expected:
                raise ValueError(
                    f"{Path(path).name} has {found} records, '{name}' {expected}"
                )


def _splits(builder, image_key: str, stored: Callable, config: Config):
    """The records to train on and those to measure on."""
    has = builder.info.splits
    if "train" not in has:
        raise UserError(
            f"--dataset={config.dataset}: expected a split 'train', has {sorted(has)}"
        )
    skip = {}
    if isinstance(builder.info.features[image_key], tfds.features.Image):
        skip = {image_key: tfds.decode.SkipDecoding()}
    train = builder.as_data_source("train", decoders=skip)
    held_out = next((name for name in _HELD_OUT if name in has), None)
    if config.groups and held_out:
        raise UserError(
            f"--groups={config.groups}: --dataset={config.dataset} has a split "
            f"'{held_out}' of its own; leave --groups out"
        )
    if held_out:
        return train, builder.as_data_source(held_out, decoders=skip)
    if config.groups:
        out = _out_by_groups(train, stored, config)
    else:
        out = np.arange(len(train)) >= len(train) - len(train) // _SHARE
        if config.dataset.startswith("malaria"):
            print(
                "note: cells of one slide are both trained and measured on; --groups "
                "names the slides"
            )
    return Part(train, np.flatnonzero(~out)), Part(train, np.flatnonzero(out))


def _out_by_groups(records, stored: Callable, config: Config) -> np.ndarray:
    """Which records are held out, by the groups of `config.groups`, bool `[N]`."""
    group_of = splits.read_groups(expand("groups", config.groups))

    groups: list[str] = []
    for begin in range(0, len(records), _PART):
        part = range(begin, min(begin + _PART, len(records)))
        for i, record in zip(part, records.__getitems__(list(part)), strict=True):
            found = splits.digest(stored(record))
            if found not in group_of:
                raise UserError(
                    f"--groups={config.groups}: has no group for image {i:,} of "
                    f"--dataset={config.dataset}; name the table that belongs to it"
                )
            groups.append(group_of[found])
    return splits.held_out(groups)


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
    standard = os.environ.get("TFDS_DATA_DIR") or tfds.core.constants.DATA_DIR
    root = expand("data_dir", config.data_dir or str(standard))
    kind, _, name = config.dataset.rpartition(":")
    if kind == "folder" or config.dataset.startswith("folder:"):
        return _prepare_folder(config, root)
    known = config.dataset in DATASETS
    if not known and kind != "tfds":
        raise UserError(
            f"--dataset={config.dataset}: expected one of {sorted(DATASETS)}, "
            "folder:PATH for images of your own, or tfds:NAME for a dataset that tfds "
            "has prepared"
        )
    if not known and not re.fullmatch(r"\w[\w-]*(/[\w-][\w.-]*)*", name):
        raise UserError(
            f"--dataset={config.dataset}: expected the name of a dataset, such as "
            "tfds:cifar10"
        )
    if known:
        name = DATASETS[config.dataset].builder.name
    folder = _prepared(root / name) if name else None
    if folder is not None:
        _check_format(folder)
        return folder
    if not known:
        folders = root.glob("*") if root.is_dir() else []
        has = sorted(p.name for p in folders if _versions(p))
        raise UserError(
            f"--dataset={config.dataset}: {root} has no such prepared dataset, it has "
            f"{has}; prepare it with tfds's own command and file format array_record, "
            "or name its folder by --data_dir"
        )
    builder, options = DATASETS[config.dataset].builder, {}
    if issubclass(builder, builders.RemoteBuilder):
        options = {"downloads": root / "downloads" / name, "mirror": config.mirror}
    return _build(builder, root, config.dataset, **options)


def _build(builder: type, root: Path, dataset: str, **options) -> Path:
    print(f"preparing {dataset} in {root}", flush=True)
    try:
        return builders.write(builder, root, **options)
    except DownloadError as error:
        raise UserError(
            f"--dataset={dataset}: could not be fetched ({error}); name a "
            "folder that has it prepared by --data_dir, or use the embedded "
            "--dataset=mnist_5k"
        ) from None
    except (OSError, RuntimeError) as error:  # ArrayRecord raises the latter
        reason = first_line(error)
        raise UserError(
            f"--dataset={dataset}: {root} cannot be written ({reason}); make room, or "
            "name another folder by --data_dir"
        ) from None


def _prepare_folder(config: Config, root: Path) -> Path:
    """Images of the user's own: prepared anew whenever a file has changed."""
    named = config.dataset.removeprefix("folder:")
    source = expand("dataset", named).resolve()
    if not named or not source.is_dir():
        raise UserError(
            f"--dataset={config.dataset}: {source} is no folder; expected one with "
            "images"
        )
    files = own.find(source, config)
    listing = own.listing_digest(files.items)
    settings = [getattr(config, name) for name in _FOLDER_SETTINGS]
    digest = hashlib.sha256(repr((str(source), *settings)).encode()).hexdigest()[:8]
    name = re.sub(r"\W", "_", source.name) + "_" + digest
    folder = _prepared(root / builders.Folder.name / name)
    if folder is not None:
        if (_open(folder).info.metadata or {}).get("listing") == listing:
            return folder
        print(f"{source} has changed since it was prepared")
        shutil.rmtree(root / builders.Folder.name / name)
    found = own.survey(source, files, config)
    if files.passed_over:
        print(files.passed_over)
    for file in sorted(found.left_out)[:_SHOWN]:
        print(f"left out: {file}: {found.left_out[file]}")
    about = {"source": str(source), "listing": listing, "channels": files.channels}
    about |= found._asdict()
    del about["items"]
    folder = _build(
        builders.Folder,
        root,
        config.dataset,
        found=found,
        run=config,
        about=about,
        config=tfds.core.BuilderConfig(name=name),
    )
    if len(found.left_out) > _SHOWN:
        print(f"left out: {len(found.left_out)} in all, see {folder}/metadata.json")
    return folder


# What a prepared folder depends on
_FOLDER_SETTINGS = "image_size", "pattern", "channels", "fit", "percentiles", "max_bad"


def _versions(folder: Path) -> list[Path]:
    """The folders of prepared versions below, with a configuration between or not."""
    return [
        path.parent
        for path in folder.rglob("dataset_info.json")
        if "incomplete" not in path.parent.name
    ]


def _prepared(folder: Path) -> Path | None:
    """The one of the newest version; UserError if there are several configurations."""
    found = _versions(folder)
    kinds = sorted({str(path.parent.relative_to(folder)) for path in found})
    if len(kinds) > 1:
        raise UserError(
            f"{folder}: has several configurations, {kinds}; name one, as in "
            f"--dataset=tfds:{folder.name}/{kinds[-1]}"
        )

    def numbers(path):
        return [int(part) for part in re.findall(r"\d+", path.name)]

    return max(found, key=numbers, default=None)


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


def _image_feature(features) -> str | None:
    """Of encoded images, or of plain arrays uint8 `[H, W, C]`."""
    arrays = [
        name
        for name in features
        if type(features[name]) is tfds.features.Tensor
        and len(features[name].shape) == 3
        and features[name].np_dtype == np.uint8
    ]
    encoded = _only_feature(features, tfds.features.Image)
    return encoded or (arrays[0] if len(arrays) == 1 else None)


def _mode(config: Config, channels: int) -> str:
    mode = {1: "L", 3: "RGB"}.get(channels)
    if mode is None:
        raise UserError(
            f"--dataset={config.dataset}: encoded images of {channels} channels; "
            "expected 1 or 3"
        )
    return mode
