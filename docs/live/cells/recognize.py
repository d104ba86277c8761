"""Reads images by recognizer.onnx, as model.json says: codes of each, as a CSV table.

    pip install numpy onnxruntime pillow tifffile imagecodecs
    python recognize.py cells/*.tif > codes.csv
    python recognize.py --ranges=64:5417,65:2733 cells/*.tif > codes.csv

Black and white of each channel are those of model.json, in the files' own units, unless
`--ranges` has others. This file needs nothing else of infogan_jax: it stays beside
model.json and recognizer.onnx, and may be changed.
"""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

HERE = Path(__file__).parent
_GREY = np.array([0.299, 0.587, 0.114])  # ITU-R 601
_AZURE = np.array([0.190, 0.972, 0.137])  # optical density of the stain of DNA
_FULL = np.array([0.9, 1.5])  # densities that become white
_FIELD = 2  # times as long as the largest training image is no image of one object
_CELL = 40  # of 255, the brightest channel of a pixel of a cell on black


def read(path: Path) -> np.ndarray:
    """Returns an image of a file, `[h, w, C]` of its own type; pages are channels.

    Raises:
        ValueError: it cannot be taken as one image.
    """
    if path.suffix.lower() in (".tif", ".tiff"):
        return _read_tiff(path)
    with Image.open(path) as file:
        wide = any(isinstance(x[3], str) and ";16" in x[3] for x in file.tile)
        picture = ImageOps.exif_transpose(file)
    if wide and not picture.mode.startswith("I"):
        raise ValueError("16-bit colours, of which 8 would be lost; save it as TIFF")
    if picture.has_transparency_data and picture.mode[0] not in "IF":
        black = Image.new("RGBA", picture.size, "black")
        picture = Image.alpha_composite(black, picture.convert("RGBA"))
    if picture.mode not in ("L", "I", "I;16", "F", "RGB"):
        colours = np.asarray(picture.convert("RGB"))
        picture = picture.convert("RGB" if np.ptp(colours, -1).any() else "L")
    image = np.asarray(picture)
    if image.dtype == np.int32 and image.max() < 1 << 16:  # 16 bits in some files
        image = image.astype(np.uint16)
    return image if image.ndim == 3 else image[..., None]


def _read_tiff(path: Path) -> np.ndarray:
    import tifffile

    with tifffile.TiffFile(path) as file:
        if file.pages.first.photometric in (0, 3):
            raise ValueError("white is 0, or colours are in a table; save it plainly")
        series = file.series[0]
        image, axes = series.asarray(), series.axes
    for letter, size in zip(axes, image.shape, strict=True):
        if letter in "ZT" and size > 1:
            raise ValueError(f"{size} depths or times; save one, or their maximum")
    for place in reversed([i for i, a in enumerate(axes) if a in "SCQI"]):
        image = np.moveaxis(image, place, -1)
    while image.ndim > 3 and image.shape[0] == 1:
        image = image[0]
    if image.ndim not in (2, 3):
        raise ValueError(f"an array of shape {image.shape}; expected one image")
    return image if image.ndim == 3 else image[..., None]


def prepare(image: np.ndarray, about: dict[str, Any]) -> np.ndarray:
    """Returns an image as the networks see it, uint8 `[H, W, C]`.

    Args:
        image: `[h, w, C]` of any type.
        about: `image` of model.json.

    Raises:
        ValueError: it is unlike those that the networks were trained on.
    """
    how, side = about["preparation"], about["height"]
    image = _channels(image, how["channels"])
    if how["widen_bytes"] and image.dtype == np.uint8:
        image = image.astype(np.uint16) * 257
    _check(image, how)
    if image.dtype != np.uint8 or how["scale_bytes"]:
        low, high = np.array(how["ranges"], float).T
        image = (image.astype(np.float32) - low) / np.maximum(high - low, 1e-12)
        image = np.clip(255 * image, 0, 255).astype(np.float32)
    if how["bytes_before_resize"]:
        image = _to_bytes(image)
    if how["change"]:
        image = CHANGES[how["change"]](image)
    return align(_to_bytes(resize(image, side, how)), how["align"])


def _check(image: np.ndarray, how: dict[str, Any]) -> None:
    """Raises ValueError if an image is of another kind or scale."""
    height, width, channels = image.shape
    if channels != len(how["ranges"]):
        raise ValueError(f"{channels} channels; expected {len(how['ranges'])}")
    if not np.isfinite(image).all():
        raise ValueError("holds values that are not finite")
    if how["window"] and max(height, width) > _FIELD * how["window"]:
        raise ValueError(
            f"{width} x {height} pixels; expected {how['window']} or less: this is a "
            "field of view, no cell"
        )
    are_bytes = all(tuple(ends) == (0, 255) for ends in how["ranges"])
    lowest, highest = image.min(), image.max()
    if image.dtype == np.uint8:
        is_same = are_bytes or how["scale_bytes"]
    else:  # floating point up to 1 is on another scale than bytes
        is_small = image.dtype.kind == "f" and highest <= 1
        is_same = not are_bytes or (lowest >= 0 and highest <= 255 and not is_small)
    if not is_same:
        raise ValueError(
            f"{image.dtype} from {lowest:g} to {highest:g}; expected values between "
            f"{how['ranges']}"
        )


def _channels(image: np.ndarray, wanted: str) -> np.ndarray:
    if wanted == "rgb" and image.shape[-1] == 1:
        return np.repeat(image, 3, -1)
    if wanted == "grey" and image.shape[-1] == 3:
        return np.round(image @ _GREY)[..., None].astype(image.dtype)
    if wanted and wanted not in ("grey", "rgb"):
        places = [int(number) - 1 for number in wanted.split(",")]
        if max(places) >= image.shape[-1]:
            raise ValueError(f"{image.shape[-1]} channels, no number {wanted}")
        return image[..., places]
    return image


def _to_bytes(image: np.ndarray) -> np.ndarray:
    return np.round(image).astype(np.uint8)


def resize(image: np.ndarray, side: int, how: dict[str, Any]) -> np.ndarray:
    """Returns a square image by Lanczos' filter, uint8 or float32 `[side, side, C]`."""
    if image.shape[:2] == (side, side) and how["scale"] in (None, 1):
        return image
    lanczos, size = Image.Resampling.LANCZOS, (side, side)

    def change(picture: Image.Image) -> Image.Image:
        if how["scale"]:
            width, height = (max(1, round(n * how["scale"])) for n in picture.size)
            left, top = (width - side) // 2, (height - side) // 2
            box = (left, top, left + side, top + side)
            return picture.resize((width, height), lanczos).crop(box)
        if how["resize"] == "crop":
            return ImageOps.fit(picture, size, lanczos)
        if how["resize"] == "stretch":
            return picture.resize(size, lanczos)
        return ImageOps.pad(picture, size, lanczos)

    planes = np.ascontiguousarray(np.moveaxis(image, -1, 0))
    resized = np.stack([np.asarray(change(Image.fromarray(x))) for x in planes], -1)
    return np.clip(resized, min(image.min(), 0), image.max())  # the filter rings


def align(image: np.ndarray, how: str) -> np.ndarray:
    """Returns the image with its object in the middle; by `axis`, turned as well."""
    if how == "none":
        return image
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    background = np.median(border, axis=0)
    bare = image - background
    row, column, angle = _pose(np.abs(bare).mean(-1))
    height, width, _ = image.shape
    turn = angle if how == "axis" else 0.0
    down, right = np.indices((height, width))
    x, y = right - (width - 1) / 2, down - (height - 1) / 2
    rows = np.sin(turn) * x + np.cos(turn) * y + row
    columns = np.cos(turn) * x - np.sin(turn) * y + column
    return _to_bytes(background + _between(bare, rows, columns))


def _pose(mass: np.ndarray) -> tuple[float, float, float]:
    """Row and column of an object's middle, and the angle of its long axis."""
    mass = np.where(mass > 0.1 * mass.max(), mass, 0)
    if not mass.any():
        return (mass.shape[0] - 1) / 2, (mass.shape[1] - 1) / 2, 0.0
    down, right = np.indices(mass.shape)
    row, column = ((places * mass).sum() / mass.sum() for places in (down, right))
    down, right = down - row, right - column

    def moment(of_rows: int, of_columns: int) -> float:
        return float((mass * down**of_rows * right**of_columns).sum())

    angle = 0.5 * np.arctan2(2 * moment(1, 1), moment(0, 2) - moment(2, 0))
    x, y = np.cos(angle), np.sin(angle)
    tail = x**3 * moment(0, 3) + 3 * x**2 * y * moment(1, 2)
    tail += 3 * x * y**2 * moment(2, 1) + y**3 * moment(3, 0)
    return row, column, float(angle + np.pi * (tail < 0))


def _between(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The image at places between its pixels, linearly; 0 beyond them."""
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    height, width, _ = image.shape
    top, left = np.floor(rows), np.floor(columns)
    down, right = (rows - top)[..., None], (columns - left)[..., None]

    def at(row: np.ndarray, column: np.ndarray) -> np.ndarray:
        i, j = (np.clip(x, -1, n) for x, n in ((row, height), (column, width)))
        return padded[i.astype(int) + 1, j.astype(int) + 1]

    above = (1 - right) * at(top, left) + right * at(top, left + 1)
    below = (1 - right) * at(top + 1, left) + right * at(top + 1, left + 1)
    return (1 - down) * above + down * below


def separate_stains(image: np.ndarray) -> np.ndarray:
    """A stained cell on black as absorbance and DNA stain, uint8 `[H, W, 2]`."""
    is_bright = image.max(-1) > _CELL
    around = np.pad(is_bright, 1, constant_values=True)
    cell = is_bright & around[:-2, 1:-1] & around[2:, 1:-1]
    cell &= around[1:-1, :-2] & around[1:-1, 2:]
    if not cell.any():
        return np.zeros((*image.shape[:2], 2), np.uint8)
    density = -np.log(np.maximum(image, 1) / 255)
    own = np.median(density[cell], axis=0) + 1e-3
    own /= np.linalg.norm(own)
    stains = np.stack([own, _AZURE, np.cross(own, _AZURE)])
    amounts = np.maximum(density @ np.linalg.inv(stains), 0)
    both = np.stack([density.mean(-1), amounts[..., 1]], axis=-1) * cell[..., None]
    return _to_bytes(255 * np.clip(both / _FULL, 0, 1))


def with_dna_stain(image: np.ndarray) -> np.ndarray:
    """Red, green, blue and the DNA stain of a cell on black, uint8 `[H, W, 4]`."""
    return np.concatenate([image, separate_stains(image)[..., 1:]], axis=-1)


def stretch_bits(image: np.ndarray) -> np.ndarray:
    """An image of 0 and another value as one of 0 and 255, uint8 `[H, W, C]`."""
    return np.where(image > 0, np.uint8(255), np.uint8(0))


CHANGES = {f.__name__: f for f in (separate_stains, with_dna_stain, stretch_bits)}


def codes(parameters: np.ndarray, model: dict[str, Any]) -> dict[str, float]:
    """Returns what Q says of an image, by names as in the table of infogan_jax.

    Args:
        parameters: of Q(c|x), `[P]`.
        model: the content of model.json.
    """
    said = {}
    for code in model["codes"]:
        some = parameters[code["q_offset"] :][: code["n_params"]]
        if code["kind"] == "categorical":
            odds = np.exp(some - some.max())
            for k, probability in enumerate(odds / odds.sum()):
                said[f"{code['name']}_{k}"] = float(probability)
        elif code["kind"] == "bernoulli":
            said[code["name"]] = float(1 / (1 + np.exp(-some[0])))
        elif code["n_params"]:
            said[code["name"]] = float(some[0])
    return said


def main(arguments: list[str]) -> int:
    """Writes the table; returns 1 if a file was left out."""
    import onnxruntime

    try:
        model = json.loads((HERE / "model.json").read_text())
        how = model["image"]["preparation"]
        session = onnxruntime.InferenceSession(HERE / "recognizer.onnx")
    except Exception as error:  # onnxruntime raises types of its own
        sys.exit(f"{HERE}: expected model.json and recognizer.onnx ({error})")
    paths = [a for a in arguments if not a.startswith("--")]
    for option in (a for a in arguments if a.startswith("--")):
        how |= {"ranges": _ranges(option, len(how["ranges"])), "scale_bytes": True}
        how["ranges_of_plates"] = False
    if not paths:
        sys.exit("expected files of images; python recognize.py cells/*.tif")
    if how["ranges_of_plates"]:
        note = "note: training took black and white from each plate's control images; "
        print(f"{note}--ranges has those of yours", file=sys.stderr)
    table, failed, is_first = csv.writer(sys.stdout), 0, True
    for path in paths:
        try:
            image = prepare(read(Path(path)), model["image"]) / np.float32(255)
        except Exception as error:  # decoders raise anything for a damaged file
            print(f"left out: {path}: {error}", file=sys.stderr)
            failed += 1
            continue
        (parameters,) = session.run(None, {session.get_inputs()[0].name: image[None]})
        said = codes(parameters[0], model)
        if is_first:
            table.writerow(["image", *said])
        is_first = False
        table.writerow([path, *said.values()])
    return int(failed > 0)


def _ranges(option: str, channels: int) -> list[tuple[float, ...]]:
    """What `--ranges=BLACK:WHITE,..` says."""
    name, _, text = option.partition("=")
    try:
        ranges = [tuple(map(float, pair.split(":"))) for pair in text.split(",")]
    except ValueError:
        ranges = []
    is_whole = len(ranges) == channels and all(len(ends) == 2 for ends in ranges)
    if name != "--ranges" or not is_whole:
        sys.exit(
            f"{option}: expected --ranges=BLACK:WHITE for each of {channels} channels"
        )
    return ranges


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
