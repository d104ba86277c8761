"""Datasets by name, prepared by tfds as ArrayRecord without TensorFlow."""

import contextlib
import dataclasses
import hashlib
import io
import logging
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from infogan_jax.data import builders, factor_builders, imaging, listing, metadata
from infogan_jax.data.download import DownloadError
from infogan_jax.data.folder import convert
from infogan_jax.data.splits import held_out, one_sided
from infogan_jax.data.survey import Survey, survey, tell
from infogan_jax.errors import UserError, expand_path, first_line, some_of
from infogan_jax.files import write_atomically
from infogan_jax.settings import DataConfig

logger = logging.getLogger(__name__)


class Source(NamedTuple):
    """A dataset with a name."""

    builder: type[tfds.core.GeneratorBasedBuilder]  # prepares it if need be
    change: Callable[[np.ndarray], np.ndarray] | None = None  # of each image, uint8


DATASETS = {
    "dsprites": Source(factor_builders.DSprites, imaging.stretch_bits),
    "fashion_mnist": Source(builders.FashionMnist),
    "malaria": Source(builders.Malaria),
    "malaria_four_channel": Source(builders.Malaria, imaging.with_dna_stain),
    "malaria_two_channel": Source(builders.Malaria, imaging.separate_stains),
    "mnist": Source(builders.Mnist),
    "mnist_5k": Source(builders.Mnist5k),
    "shapes3d": Source(factor_builders.Shapes3d),
    "sprites": Source(factor_builders.Sprites),
    "sprites_in_hues": Source(factor_builders.SpritesInHues),
}


def change_of(dataset: str) -> Callable[[np.ndarray], np.ndarray] | None:
    """What a dataset makes of each of its images, uint8; None if nothing."""
    return DATASETS[dataset].change if dataset in DATASETS else None


REMEDY = "if it is damaged, delete that folder and prepare it again"
DROPPED = "dropped.npz"  # in a prepared folder: kind -> images, uint8 [n, H, W, C]
_DROPPED = 12  # images of each kind that are kept
_SHOWN = 10  # files left out that are printed


def prepare(config: DataConfig) -> Path:
    """Returns the folder of the dataset in ArrayRecord, prepared first if need be.

    A dataset that tfds has prepared already is used as it is.

    Raises:
        UserError: there is no such dataset, and none could be made.
    """
    standard = os.environ.get("TFDS_DATA_DIR") or tfds.core.constants.DATA_DIR
    root = expand_path("data_dir", config.data_dir or str(standard))
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
        options = {"downloads": root / "downloads" / name, "url": config.download_url}
    return _build(builder, root, config.dataset, **options)


def _build(builder: type, root: Path, dataset: str, **options: Any) -> Path:
    logger.info(f"preparing {dataset} in {root}")
    try:
        return builders.write(builder, root, **options)
    except DownloadError as error:
        raise UserError(
            f"--dataset={dataset}: could not be fetched ({error}); name a "
            "folder that has it prepared by --data_dir, or use the embedded "
            "--dataset=mnist_5k"
        ) from None
    except ValueError as error:
        raise UserError(f"--dataset={dataset}: {error}") from None
    except (OSError, RuntimeError) as error:  # ArrayRecord raises the latter
        reason = first_line(error)
        raise UserError(
            f"--dataset={dataset}: {root} cannot be written ({reason}); make room, or "
            "name another folder by --data_dir"
        ) from None


def _prepare_folder(config: DataConfig, root: Path) -> Path:
    """Prepares the user's own images, again whenever a file has changed."""
    named = config.dataset.removeprefix("folder:")
    source = expand_path("dataset", named).resolve()
    if not named or not source.is_dir():
        raise UserError(
            f"--dataset={config.dataset}: {source} is no folder; expected one with "
            "images"
        )
    files = metadata.attach(listing.find(source, config), config)
    digest_now = listing.digest(files.items)
    settings = [getattr(config, name) for name in _FOLDER_SETTINGS]
    settings += [
        (name, value) for name in _NEWER_SETTINGS if (value := getattr(config, name))
    ]
    digest = hashlib.sha256(repr((str(source), *settings)).encode()).hexdigest()[:8]
    name = re.sub(r"\W", "_", source.name) + "_" + digest
    folder = _prepared(root / builders.Folder.name / name)
    if folder is not None:
        about = open_builder(folder).info.metadata or {}
        if about.get("listing") == digest_now:
            tell(tuple(about.get("summary", [])))
            return folder
        logger.info(f"{source} has changed since it was prepared")
        shutil.rmtree(root / builders.Folder.name / name)
    if not config.file_pattern:
        listing.check_no_channels(source, files.items)
    found = survey(source, files, config)
    found.summary.extend(metadata.confounded(found.items))
    _check_classes(found, config)
    for note in files.notes:
        logger.info(note)
    for file in sorted(found.left_out)[:_SHOWN]:
        logger.info(f"left out: {file}: {found.left_out[file]}")
    tell(tuple(found.summary))
    out = _hold_out(found.items)
    about = {"source": str(source), "listing": digest_now}
    about |= found._asdict()
    del about["items"], about["dropped"]
    about["form"] = dataclasses.asdict(found.form)
    folder = _build(
        builders.Folder,
        root,
        config.dataset,
        survey=found,
        run=config,
        out=out,
        about=about,
        config=tfds.core.BuilderConfig(name=name),
    )
    _save_dropped(folder, found, config)
    if len(found.left_out) > _SHOWN:
        logger.info(
            f"left out: {len(found.left_out)} in all, see {folder}/metadata.json"
        )
    return folder


def _save_dropped(folder: Path, found: Survey, config: DataConfig) -> None:
    """Keeps some of the images that `config.drop` left out, to be looked at."""
    some: dict[str, list[np.ndarray]] = {}
    for kind, items in found.dropped.items():
        for item in items[:_DROPPED]:
            # Of a plate or of channels that no other image is of, it has no form.
            with contextlib.suppress(LookupError, ValueError):
                some.setdefault(kind, []).append(
                    convert(item, found.size, found.form, config)
                )
    if not some:
        return
    content = io.BytesIO()
    arrays: dict[str, Any] = {kind: np.stack(images) for kind, images in some.items()}
    np.savez_compressed(content, **arrays)
    write_atomically(folder / DROPPED, content.getvalue())


def _hold_out(items: list[listing.Item]) -> np.ndarray:
    """Which images are held out, bool `[N]`; says of which groups they are."""
    groups = [item.group for item in items]
    columns = metadata.columns_of(items)
    out = held_out(groups, [item.label for item in items], *columns.values())
    if len(set(groups)) < len(groups):
        chosen = sorted({g for g, is_out in zip(groups, out, strict=True) if is_out})
        logger.info(
            f"held out: {out.sum():,} of {len(out):,} images, all of {some_of(chosen)}"
        )
    return out


def _check_classes(survey: Survey, config: DataConfig) -> None:
    """Raises UserError if the table's labels cannot be on both sides of the split."""
    groups = [item.group for item in survey.items]
    labels = [item.label for item in survey.items]
    alone = one_sided(groups, labels)
    if config.label_by and alone and len(set(labels)) > 1:
        group = groups[labels.index(alone[0])]
        raise UserError(
            f"--label_by={config.label_by}: {len(alone)} of {len(set(labels))} classes "
            f"have images of one group only, such as {alone[0]} of {group}; they "
            "cannot be both trained on and held out; choose smaller groups by "
            "--group_by"
        )


# The settings that a prepared folder depends on.
_FOLDER_SETTINGS = (
    *("image_size", "file_pattern", "channels", "resize_mode", "percentiles"),
    *("max_invalid_percent", "value_range", "nan_value"),
    *("z", "t", "stack", "array_name", "metadata", "group_by", "label_by"),
)
# Likewise, where they are given: folders that were prepared before stay as they are.
_NEWER_SETTINGS = "normalise_by", "channel_names", "drop"


def _versions(folder: Path) -> list[Path]:
    """The folders of prepared versions, below a configuration or not."""
    return [
        path.parent
        for path in folder.rglob("dataset_info.json")
        if "incomplete" not in path.parent.name
    ]


def _prepared(folder: Path) -> Path | None:
    """The folder of the newest version; UserError if there are configurations."""
    versions = _versions(folder)
    kinds = sorted({str(path.parent.relative_to(folder)) for path in versions})
    if len(kinds) > 1:
        raise UserError(
            f"{folder}: has several configurations, {kinds}; name one, as in "
            f"--dataset=tfds:{folder.name}/{kinds[-1]}"
        )

    def numbers(path: Path) -> list[int]:
        return [int(part) for part in re.findall(r"\d+", path.name)]

    return max(versions, key=numbers, default=None)


def _check_format(folder: Path) -> None:
    if not any(folder.glob("*.array_record*")):
        raise UserError(
            f"{folder}: prepared in a format that only TensorFlow reads; convert it, "
            "in an environment that has TensorFlow: python -m "
            "tensorflow_datasets.scripts.convert_format --out_file_format=array_record "
            f"--dataset_dir={folder} --out_path=FOLDER"
        )


def open_builder(folder: Path) -> tfds.core.DatasetBuilder:
    """Returns tfds's view of a prepared dataset; UserError if it is damaged."""
    try:
        return tfds.builder_from_directory(folder)
    except Exception as error:  # several libraries parse it
        reason = first_line(error)
        raise UserError(f"{folder}: cannot be read ({reason}); {REMEDY}") from None
