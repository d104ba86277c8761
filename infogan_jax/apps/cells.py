"""Cells of segmented fields of view, cut out at one scale, as a folder to train on."""

import csv
import io
import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from infogan_jax.config import Config
from infogan_jax.data import folder, listing, metadata, objects, ome
from infogan_jax.data.decode import Decoded, read_file
from infogan_jax.errors import (
    UserError,
    check_is_new,
    check_one_of,
    expand_path,
    first_line,
    some_of,
)
from infogan_jax.files import write_atomically

logger = logging.getLogger(__name__)

TABLE = "cells.csv"
_SUFFIXES = "_cp_masks", "_masks", "_mask", "_labels", "_label", "_Cells", "_Nuclei"
_PICKLED = "_seg.npy"  # cellpose's, which may execute anything when it is read
_LARGEST = 1024  # pixels, of a window


class Request(NamedTuple):
    """What to cut out, by the flags of the same names."""

    images: str
    masks: str = ""  # empty: beside the images
    mask_suffix: str = ""  # empty: any of _SUFFIXES
    window: str = ""  # side in pixels or, as in 20um, micrometres; empty: chosen here
    surroundings: str = "neighbours"


class _Field(NamedTuple):
    item: listing.Item
    mask: Path


def cut_cells(config: Config, request: Request, output: Path) -> None:
    """Writes a window around each object of segmented fields, and a table of them.

    Objects at the edge of a field are left out, so are those that are larger than the
    window; both are counted. Files are OME-TIFF, in the subfolders of their fields, and
    cells.csv has a row for each, with place and shape in its field.

    Args:
        config: says how fields are read: pattern, channels, depths, times.
        request: what to cut out.
        output: a folder that does not exist yet.

    Raises:
        UserError: something is missing or does not fit; nothing is written then.
    """
    check_one_of("surroundings", request.surroundings, objects.SURROUNDINGS)
    check_is_new("output", output)
    fields = _pair(config, request)
    window = _window(config, request, fields)
    part = output.with_name(f".{output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        _write(config, request, fields, window, part)
        part.rename(output)
    except OSError as error:
        raise UserError(f"--output={output}: cannot be written ({error})") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    logger.info(f"they are in {output}; train on --dataset=folder:{output}")


def _pair(config: Config, request: Request) -> list[_Field]:
    """Fields and their masks."""
    root = _folder("images", request.images)
    masks = _find_masks(request, root)
    files = listing.find(root, config)
    no_fields = set(masks.values())
    items = [
        item
        for item in files.items
        if item.paths[0] not in no_fields and not item.name.endswith(_PICKLED)
    ]
    files = metadata.attach(files._replace(items=items), config)
    items = files.items
    for note in files.notes:
        logger.info(note)
    if left_out := files.left_out:
        reasons = folder.describe_reasons(left_out)
        logger.warning(f"{len(left_out)} fields are left out: {reasons}")
    fields, without = [], []
    for item in items:
        mask = masks.pop(_stem(item.name), None)
        if mask is None:
            without.append(item.name)
        else:
            fields.append(_Field(item, mask))
    if without:
        raise UserError(
            f"--images={request.images}: {len(without)} of {len(items)} fields have no "
            f"mask: {some_of(without)}; expected a file of the field's name and one of "
            f"{', '.join(_SUFFIXES)}, or --mask_suffix"
        )
    if masks:
        names = [path.name for path in masks.values()]
        logger.warning(f"{len(masks)} masks have no field: {some_of(names)}")
    return fields


def _folder(flag: str, name: str) -> Path:
    root = expand_path(flag, name).resolve()
    if not name or not root.is_dir():
        raise UserError(f"--{flag}={name}: is no folder; expected one of fields")
    return root


def _stem(name: str) -> str:
    """The last part of a name, without its suffixes."""
    return re.sub(r"(\.ome)?\.\w+$", "", Path(name).name, flags=re.IGNORECASE)


def _find_masks(request: Request, images: Path) -> dict[str, Path]:
    """Masks by the names of their fields."""
    root = _folder("masks", request.masks) if request.masks else images
    suffixes = (request.mask_suffix,) if request.mask_suffix else _SUFFIXES
    masks: dict[str, Path] = {}
    pickled = 0
    for path in listing.walk(root)[0]:
        if path.name.endswith(_PICKLED):
            pickled += 1
            continue
        stem = _stem(path.name)
        is_known = path.name.lower().endswith(listing.SUFFIXES)
        suffix = next((s for s in suffixes if stem.endswith(s)), None)
        if not is_known or (suffix is None and (root == images or request.mask_suffix)):
            continue
        name = stem.removesuffix(suffix or "")
        if name in masks:
            raise UserError(
                f"--masks={request.masks}: {masks[name].name} and {path.name} are both "
                f"masks of {name}; choose by --mask_suffix, such as "
                f"--mask_suffix={suffix or '_masks'}"
            )
        masks[name] = path
    if not masks:
        only = ""
        if pickled:
            only = f"; {pickled} {_PICKLED} are read by Python's pickle only"
        raise UserError(
            f"--masks={request.masks or request.images}: has no masks{only}; save them "
            "as PNG or TIFF"
        )
    return masks


def _read_field(config: Config, field: _Field) -> Decoded:
    try:
        return folder.read(field.item, config)
    except (ValueError, OSError) as error:
        raise UserError(f"{field.item.name}: {first_line(error)}") from None


def _read_mask(config: Config, field: _Field) -> np.ndarray:
    try:
        mask = read_file(field.mask, folder.reading_of(config)).pixels
        return objects.check_mask(mask)
    except (ValueError, OSError) as error:
        raise UserError(f"{field.mask.name}: {first_line(error)}") from None


def _window(config: Config, request: Request, fields: list[_Field]) -> int:
    """The side of the window, in pixels."""
    text = request.window.strip()
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(um|µm|px)?", text) if text else None
    if text and not match:
        raise UserError(f"--window={text}: expected pixels or micrometres, as in 20um")
    if match and match[2] not in ("um", "µm"):
        side = round(float(match[1]))
    elif match:
        image = _read_field(config, fields[0])
        if not image.pixel_size:
            raise UserError(
                f"--window={text}: the files do not say how large a pixel is; give the "
                "window in pixels"
            )
        side = round(float(match[1]) / image.pixel_size)
    else:
        masks = (_read_mask(config, field) for field in fields)
        longest = [side for mask in masks for side in objects.longest_sides(mask)]
        if not longest:
            raise UserError(f"--masks={request.masks}: there are no objects in them")
        side = objects.choose_window(longest)
    if not 8 <= side <= _LARGEST:
        raise UserError(f"--window={side}: expected 8 to {_LARGEST} pixels")
    return side


def _write(
    config: Config, request: Request, fields: list[_Field], window: int, part: Path
) -> None:
    rows: list[dict[str, Any]] = []
    at_edge = too_large = 0
    for field in fields:
        image, mask = _read_field(config, field), _read_mask(config, field)
        if mask.shape != (size := image.pixels.shape[:2]):
            raise UserError(
                f"{field.mask.name}: a mask of {mask.shape[1]} x {mask.shape[0]} "
                f"pixels; its field has {size[1]} x {size[0]}"
            )
        cells = objects.measure(image.pixels, mask, image.channels)
        at_edge += cells.at_edge
        crops = objects.cut_out(image.pixels, mask, cells, window, request.surroundings)
        about = {f"Metadata_{k.title()}": v for k, v in field.item.metadata.items()}
        where = Path(field.item.name).parent
        stem = _stem(field.item.name)
        for crop, row in zip(crops, _rows(cells.table), strict=True):
            if max(row["height"], row["width"]) > window:
                too_large += 1
                continue
            name = where / f"{stem}_c{row['label']:04d}.ome.tif"
            (part / where).mkdir(parents=True, exist_ok=True)
            ome.write(part / name, crop, image.channels, image.pixel_size)
            names = {"image": name.as_posix(), "field": field.item.name}
            rows.append(names | about | row)
    if not rows:
        raise UserError(f"--images={request.images}: no object fits {window} pixels")
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(part / TABLE, text.getvalue())
    logger.info(
        f"{len(rows):,} cells of {len(fields):,} fields, windows of {window} pixels; "
        f"left out: {at_edge:,} at the edge of a field, {too_large:,} larger than that"
    )


def _rows(table: dict[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    columns = {name: column.tolist() for name, column in table.items()}
    for values in zip(*columns.values(), strict=True):
        yield {
            name: round(value, 3) if isinstance(value, float) else value
            for name, value in zip(columns, values, strict=True)
        }
