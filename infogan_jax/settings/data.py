"""Settings of the data: where images come from, and how they are read."""

import dataclasses
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from infogan_jax.errors import UserError, check_one_of
from infogan_jax.fields import (
    as_number,
    axis_letters,
    field,
    numbers_in,
    plain_name,
)

_MAX_SIDE = 1024  # of an image, pixels; more is certainly a slip
# Names of files as programs write them; the first pattern that fits any file is taken.
PRESETS = {
    "opera": (
        "{plate}/Images/r{row}c{column}f{site}p{_}-ch{channel}sk{_}.tiff",
        "r{row}c{column}f{site}p{_}-ch{channel}sk{_}.tiff",
    ),
    "imagexpress": ("{plate}_{well}_s{site}_w{channel}{_}.tif",),
    "incell": ("{row} - {column}(fld {site} wv {channel} - {_}).tif",),
    "ideas": ("{id}_Ch{channel}.ome.tif",),
    "cellpose": ("{id}.tif",),
}
RESIZE_MODES = "auto", "scale", "pad", "crop", "stretch"
DROPS = "blurred", "saturated", "empty", "edge", "copy"  # kinds of bad images
PROJECTIONS = "max", "mean", "middle"  # of depths


class Comparison(NamedTuple):
    """A column of metadata, and the value that others are compared with."""

    column: str
    control: str

    @property
    def text(self) -> str:
        """As a flag has it."""
        return f"{self.column}={self.control}"

    def is_control(self, value: str) -> bool:
        """Whether it is the control's value; 0.0 is 0."""
        number = as_number(value)
        is_equal = number is not None and number == as_number(self.control)
        return is_equal or value == self.control


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Data"""

    dataset: str = field(
        "mnist_5k",
        "Dataset: mnist_5k (embedded), mnist, fashion_mnist, malaria, "
        "malaria_two_channel, malaria_four_channel; with known factors sprites and "
        "sprites_in_hues (drawn), dsprites, shapes3d; folder:PATH with your images, or "
        "tfds:NAME.",
    )
    image_size: int = field(0, "Side of the images in pixels; 0: as they are.", least=0)
    resize_mode: str = field(
        "auto",
        "How images are brought to --image_size: scale (one factor for all of a "
        "folder, so that size stays size), pad (each as large as fits), both with 0 "
        "around; crop to the middle, or stretch; auto: scale for folders, else pad.",
    )
    align: str = field(
        "none",
        "Move each object to the centre, or turn its long axis to the horizontal as "
        "well: none, centre or axis.",
    )
    group_csv: str = field(
        "",
        "CSV file with the SHA-256 (first 16 digits) of each image's pixels, and its "
        "group, such as a slide; whole groups are held out. For datasets without a "
        "split of their own; empty: the last tenth of the images.",
    )
    file_pattern: str = field(
        "",
        "folder: which files, such as {id}_ch{channel}.tif; {label}, {group}, {plate}, "
        "{well}, {site} too, * is anything, {_} what tells no images apart; or as a "
        "program writes them: opera, imagexpress, incell, ideas, cellpose; empty: all "
        "images, labelled by their subfolder.",
    )
    metadata: str = field(
        "",
        "folder: a table, CSV or Parquet, of what is known of images, joined by its "
        "column image, their names, or by plate, well and site of the pattern.",
    )
    group_by: str = field(
        "",
        "folder: a column of --metadata, or plate, well or site, of which whole values "
        "are held out; empty: wells where the pattern names them, else images.",
    )
    label_by: str = field(
        "",
        "folder: a column of --metadata that is the label, for measuring only; empty: "
        "the subfolder.",
    )
    normalise_by: str = field(
        "",
        "folder: a column, such as plate, for each value of which --percentiles are "
        "measured by itself, so that plates of several brightness become alike; "
        "plate:treatment=DMSO measures them on these images only.",
    )
    compare: str = field(
        "",
        "folder: which wells evaluator treatments compares all others with, as "
        "COLUMN=CONTROL by commas, such as treatment=DMSO,dose=0; empty: the controls "
        "of --normalise_by.",
        changeable=True,
    )
    channels: str = field(
        "",
        "folder: grey, rgb, numbers from 1 such as 1,3, or values of {channel}; empty: "
        "all as they are.",
    )
    channel_names: str = field(
        "",
        "folder: a name for each channel, such as DNA,actin,pathogen; empty: those "
        "that the files say.",
    )
    z: str = field(
        "",
        "folder: what is made of several depths: max or mean of them, middle, or the "
        "number of one from 1; empty: images of several are left out.",
    )
    t: str = field(
        "",
        "folder: the number, from 1, of the time to take of several; empty: images of "
        "several are left out.",
    )
    stack: str = field(
        "auto",
        "folder: axes of a file's array, such as NHWC: letters of N (images of their "
        "own), Z, T, C, H and W; auto: as the file says them, or as its shape shows.",
    )
    array_name: str = field(
        "", "folder: which array of .npz, HDF5 or Zarr files; empty: the only one."
    )
    percentiles: str = field(
        "0.1,99.9",
        "folder: of images of more than 8 bits, what becomes black and white, in "
        "percent of a channel's pixels.",
    )
    value_range: str = field(
        "",
        "folder: the values that become black and white, such as 0,4095, of all "
        "channels; empty: 0,255 where all values are within, else --percentiles.",
    )
    nan_value: str = field(
        "",
        "folder: a number in place of values that are not finite, such as 0; empty: "
        "images that have some are left out.",
    )
    drop: str = field(
        "",
        f"folder: which images to leave out, by commas: {', '.join(DROPS)}; each is "
        "compared with the others of the folder. figures/dropped.png shows some.",
    )
    max_invalid_percent: float = field(
        1.0,
        "folder: percentage of images that may be left out as unusable.",
        least=0,
    )
    data_dir: str = field(
        "",
        "Folder of prepared datasets; empty: TFDS_DATA_DIR, else the default of tfds.",
        changeable=True,
    )
    download_url: str = field(
        "",
        "URL to fetch a dataset's files from; empty: the official ones.",
        changeable=True,
    )
    data_placement: str = field(
        "auto",
        "Training images: resident on the devices, stream from disk, or auto: resident "
        "if they take at most a quarter of a device's memory.",
        changeable=True,
    )
    filter_classifier: str = field(
        "",
        "Work directory of a classification network; images stay only if it finds "
        "--filter_class in them.",
    )
    filter_class: str = field("", "The class that images have to be of, by name.")
    filter_threshold: float = field(
        0.9, "The least probability of --filter_class that an image needs."
    )

    @property
    def has_channel_files(self) -> bool:
        """Whether a file is one channel of an image."""
        forms = PRESETS.get(self.file_pattern, (self.file_pattern,))
        return "{channel}" in forms[0]

    def names_of_channels(self) -> list[str]:
        """Returns the names that `channel_names` gives; empty: none."""
        text = self.channel_names
        return [name.strip() for name in text.split(",")] if text else []

    def kinds_to_drop(self) -> list[str]:
        """Returns the kinds of images that `drop` leaves out."""
        return [kind.strip() for kind in self.drop.split(",") if kind.strip()]

    def comparisons(self) -> tuple[Comparison, ...]:
        """Returns what `compare` names, or the controls of `normalise_by`."""
        texts = self.compare or self.normalise_by.partition(":")[2]
        pairs = (text.partition("=") for text in texts.split(",") if text)
        return tuple(
            Comparison(plain_name(column), control.strip())
            for column, _, control in pairs
        )

    def check(self) -> None:
        """Raises UserError for the first field that cannot work."""
        if not all(column and control for column, control in self.comparisons()):
            raise UserError(
                f"--compare={self.compare}: expected COLUMN=CONTROL by commas, such as "
                "treatment=DMSO"
            )
        check_one_of("resize_mode", self.resize_mode, RESIZE_MODES)
        if self.resize_mode == "scale" and not self.dataset.startswith("folder:"):
            raise UserError(
                f"--resize_mode=scale: is for --dataset=folder:PATH, not "
                f"{self.dataset}; choose another one"
            )
        for kind in self.kinds_to_drop():
            check_one_of("drop", kind, DROPS)
        check_one_of("align", self.align, ("none", "centre", "axis"))
        places = ("auto", "resident", "stream")
        check_one_of("data_placement", self.data_placement, places)
        if self.image_size and not 8 <= self.image_size <= _MAX_SIDE:
            raise UserError(
                f"--image_size={self.image_size}: expected 8 to {_MAX_SIDE} pixels, or "
                "0 for the images' own size"
            )
        self._check_axes()
        self._check_values()
        self._check_channels()
        names = self.names_of_channels()
        if len(set(names)) < len(names) or not all(names) or "=" in self.channel_names:
            raise UserError(
                f"--channel_names={self.channel_names}: expected a name for each "
                "channel, none twice, such as DNA,actin"
            )
        self._check_download_url()
        if bool(self.filter_classifier) != bool(self.filter_class):
            raise UserError(
                f"--filter_classifier={self.filter_classifier} --filter_class="
                f"{self.filter_class}: expected both or neither"
            )
        if not 0 < self.filter_threshold < 1:
            raise UserError(
                f"--filter_threshold={self.filter_threshold}: expected more than 0, "
                "below 1"
            )

    def _check_axes(self) -> None:
        if not re.fullmatch(f"|{'|'.join(PROJECTIONS)}|[1-9][0-9]*", self.z):
            raise UserError(
                f"--z={self.z}: expected max, mean, middle, or a number from 1"
            )
        if not re.fullmatch("|[1-9][0-9]*", self.t):
            raise UserError(f"--t={self.t}: expected a number from 1")
        try:
            if self.stack != "auto":
                axis_letters(self.stack)
        except ValueError:
            raise UserError(
                f"--stack={self.stack}: expected auto, or letters of N, Z, T, C, H and "
                "W, each once, H and W among them, such as NHWC"
            ) from None

    def _check_values(self) -> None:
        for name, low, high in (("percentiles", 0, 100), ("value_range", -1e9, 1e9)):
            value = getattr(self, name)
            if name == "value_range" and not value:
                continue
            try:
                first, second = numbers_in(value)
                if not low <= first < second <= high:
                    raise ValueError
            except ValueError:
                raise UserError(
                    f"--{name}={value}: expected two numbers from {low:g} to {high:g}, "
                    "the smaller one first"
                ) from None
        if self.normalise_by and (
            self.value_range
            or not re.fullmatch("[^:=]+(:[^:=]+=[^=]+)?", self.normalise_by)
        ):
            raise UserError(
                f"--normalise_by={self.normalise_by}: expected COLUMN or "
                "COLUMN:COLUMN=CONTROL, such as plate:treatment=DMSO, and no "
                "--value_range"
            )
        try:
            if self.nan_value and len(numbers_in(self.nan_value)) != 1:
                raise ValueError
        except ValueError:
            raise UserError(
                f"--nan_value={self.nan_value}: expected a number, such as 0"
            ) from None

    def _check_channels(self) -> None:
        if self.channels in ("", "grey", "rgb") or self.has_channel_files:
            return
        numbers = [number.strip() for number in self.channels.split(",")]
        if len(set(numbers)) < len(numbers) or not all(
            re.fullmatch("[1-9][0-9]{0,3}", number) for number in numbers
        ):
            raise UserError(
                f"--channels={self.channels}: expected grey, rgb, or numbers from 1, "
                "each once, such as 1,3"
            )

    def _check_download_url(self) -> None:
        try:
            scheme = urlsplit(self.download_url).scheme
        except ValueError:
            scheme = ""
        if self.download_url and scheme not in ("http", "https", "file"):
            raise UserError(
                f"--download_url={self.download_url}: expected an address that begins "
                "with https://, http:// or file://"
            )
