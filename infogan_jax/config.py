"""Every setting of a run: one field is one flag is one help text.

`Config` is what determines a run's numbers, except for the fields marked `free`,
which may change when a run goes on. `steps` is one of them, though step sizes that fall
over the last `decay_share` of a run fall later if it is made longer.
"""

import dataclasses
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from infogan_jax.augment import WARPS, parse_warp
from infogan_jax.latents import Categorical, continuous_codes, parse_spec
from infogan_jax.losses import ADVERSARIAL, PENALTIES
from infogan_jax.models import ARCHITECTURES, DTYPES


class UserError(Exception):
    """A mistake that the user can mend: one line with the value and the cure."""


def _field(default: Any, help: str, free: bool = False) -> Any:
    return dataclasses.field(default=default, metadata={"help": help, "free": free})


def _any_of(table: Iterable[str]) -> str:
    *names, last = table
    return f"{', '.join(names)} or {last}"


@dataclasses.dataclass(frozen=True)
class Config:
    """A run. Frozen and hashable; `dataclasses.replace` makes a changed one."""

    # Data
    dataset: str = _field(
        "mnist_5k",
        "Dataset: mnist_5k (embedded), mnist, fashion_mnist, malaria, "
        "malaria_two_channel, malaria_four_channel, folder:PATH with your images, or "
        "tfds:NAME.",
    )
    image_size: int = _field(0, "Side of the images in pixels; 0: as they are.")
    fit: str = _field(
        "pad",
        "How images come to --image_size: pad with 0, crop to the middle, or stretch.",
    )
    align: str = _field(
        "none",
        "Bring each object to the centre, or its long axis to the horizontal as well: "
        "none, centre or axis.",
    )
    groups: str = _field(
        "",
        "CSV file with the SHA-256 (first 16 digits) of each image's pixels, and its "
        "group, such as a slide; whole groups are held out. For datasets without a "
        "split of their own; empty: the last tenth of the images.",
    )
    pattern: str = _field(
        "",
        "folder: which files, such as {id}_ch{channel}.tif; {label} and {group} too, * "
        "is anything; empty: all images, labelled by their subfolder.",
    )
    channels: str = _field(
        "",
        "folder: grey, rgb, numbers from 1 such as 1,3, or values of {channel}; empty: "
        "all as they are.",
    )
    percentiles: str = _field(
        "0.1,99.9",
        "folder: of images of more than 8 bits, what becomes black and white, in "
        "percent of a channel's pixels.",
    )
    max_bad: float = _field(
        1.0, "folder: images left out as unusable, in percent, before it is an error."
    )
    data_dir: str = _field(
        "", "Folder of prepared datasets; empty: TFDS_DATA_DIR, else tfds's own.", True
    )
    mirror: str = _field(
        "", "URL to fetch a dataset's files from; empty: the official mirrors.", True
    )
    input: str = _field(
        "auto",
        "Training images: resident on the devices, stream from disk, or auto: resident "
        "if they take at most a quarter of a device's memory.",
        True,
    )
    filter_by: str = _field(
        "",
        "Work directory of a classification network; images stay only if it finds "
        "--filter_class in them.",
    )
    filter_class: str = _field("", "The class that images have to be of, by name.")
    filter_above: float = _field(
        0.9, "The least probability of --filter_class that an image needs."
    )

    # Latent codes and networks
    codes: str = _field(
        "cat:10,uniform:2,noise:62",
        "Latent codes: kind:size[:weight=W][:spread=S], separated by commas.",
    )
    architecture: str = _field("mnist", f"Networks: {_any_of(ARCHITECTURES)}.")
    width: int = _field(
        0, "Channels at full resolution, of dcgan and resnet; 0: the standard of each."
    )
    dtype: str = _field(
        "float32",
        f"Type of the networks' arithmetic, {_any_of(DTYPES)}; parameters stay "
        "float32. On CPUs bfloat16 is faster only with AMX.",
    )

    # Objective
    adversarial: str = _field(
        "non_saturating", f"Losses of D and G: {_any_of(ADVERSARIAL)}."
    )
    info_weight: float = _field(1.0, "lambda, the factor of I(c; G).")
    real_weight: float = _field(0.0, "mu, the factor of I(c; x) on real images.")
    agreement_share: float = _field(
        0.0,
        "Share, 0 to 1, of I(c; x) that is taken as agreement of images with warped "
        "copies; the rest is mutual information.",
    )
    balance_weight: float = _field(
        0.0, "Further factor, within mu, of the entropy of the categories in use."
    )
    equivariance_weight: float = _field(
        0.0,
        "nu, the factor of I(c' - c; w): the first continuous codes follow what warps "
        "change: slant and width, or of images of any orientation size, colour, focus.",
    )
    penalty: str = _field(
        "r1_r2",
        f"Gradient penalty of D: {_any_of(PENALTIES)}, used if it has a weight.",
    )
    penalty_weight: float = _field(0.0, "gamma, the factor of the penalty.")
    regroup_at: int = _field(
        0,
        "Step from which on Q is told the categories of training images, corrected by "
        "their neighbours at that step; 0, or beyond --steps: never.",
    )
    warp: str = _field(
        "none",
        f"What a category must not mean: {_any_of(WARPS)}; parts changed as in "
        "cells:rotation=90:gain=0.",
    )
    warp_every: int = _field(2, "Every n-th image of a batch is also seen warped.")

    # Optimisation
    batch_size: int = _field(128, "Images per step, over all devices.")
    g_learning_rate: float = _field(1e-3, "Adam's step size for G.")
    d_learning_rate: float = _field(2e-4, "Adam's step size for D and Q.")
    adam_b1: float = _field(0.5, "Adam's decay of the mean gradient.")
    adam_b2: float = _field(0.999, "Adam's decay of the squared gradient.")
    decay_share: float = _field(
        0.0, "Share of the run, at its end, over which the step sizes fall to 0."
    )
    ema_decay: float = _field(0.99, "Decay per step of G's averaged weights.")
    seed: int = _field(0, "Seed of everything that is drawn.")
    seeds: int = _field(
        1, "Replicas trained at once, with seeds --seed, --seed + 1 and so on."
    )

    # The run
    steps: int = _field(23_400, "Updates of each player in the whole run.", True)
    log_every: int = _field(
        25, "Steps between log lines, which tell means over them.", True
    )
    checkpoint_every: int = _field(500, "Steps between checkpoints.", True)
    keep: int = _field(2, "Checkpoints kept, the newest ones.", True)
    frame_every: int = _field(
        100, "Steps between frames of the animation; 0: none.", True
    )
    eval_every: int = _field(0, "Steps between evaluations; 0: at the end only.", True)
    evaluators: str = _field(
        "clustering,unlabelled,factors",
        "Measures on held-out images, by commas: clustering, detection, factors, "
        "fidelity, generation, pose, unlabelled.",
        True,
    )
    classifier: str = _field(
        "", "Work directory of the classification network that judges pictures.", True
    )
    baseline: str = _field(
        "", "Work directory of a plain GAN, for the report's comparisons.", True
    )
    composite: str = _field(
        "red,blue,lime,yellow,cyan,magenta",
        "Colours of the channels in pictures, where those are not grey or RGB; "
        "black hides one.",
        True,
    )
    on_nonfinite: str = _field(
        "stop",
        "At a value that is not finite: stop, or rollback to the last good state and "
        "go on with other random numbers, at most 3 times from each state.",
        True,
    )
    tensorboard: bool = _field(
        True, "Write TensorBoard events beside metrics.jsonl.", True
    )
    profile: bool = _field(
        False,
        "Write a trace of one compiled call to WORKDIR/profile, and show "
        "which share of the step's floor is reached.",
        True,
    )

    def validate(self) -> None:
        """Raises UserError for the first field whose value cannot work."""
        try:
            spec, warp = parse_spec(self.codes), parse_warp(self.warp)
        except ValueError as error:
            raise UserError(str(error)) from None
        one_of("architecture", self.architecture, ARCHITECTURES)
        one_of("dtype", self.dtype, DTYPES)
        one_of("adversarial", self.adversarial, ADVERSARIAL)
        one_of("penalty", self.penalty, PENALTIES)
        one_of("fit", self.fit, ("pad", "crop", "stretch"))
        one_of("align", self.align, ("none", "centre", "axis"))
        self._check_percentiles()
        self._check_channels()
        self._check_mirror()
        if bool(self.filter_by) != bool(self.filter_class):
            raise UserError(
                f"--filter_by={self.filter_by} --filter_class={self.filter_class}: "
                "expected both or neither"
            )
        if not 0 < self.filter_above < 1:
            raise UserError(
                f"--filter_above={self.filter_above}: expected more than 0, below 1"
            )
        one_of("on_nonfinite", self.on_nonfinite, ("stop", "rollback"))
        one_of("input", self.input, ("auto", "resident", "stream"))
        for name in _AT_LEAST:
            value, least = getattr(self, name), _AT_LEAST[name]
            if not (math.isfinite(value) and value >= least):
                raise UserError(f"--{name}={value}: expected {least} or more")
            if type(value) is int and value >= BEYOND:
                raise UserError(f"--{name}={value}: expected less than {BEYOND}")
        if self.image_size and not 8 <= self.image_size <= _LARGEST:
            raise UserError(
                f"--image_size={self.image_size}: expected 8 to {_LARGEST} pixels, or "
                "0 for the images' own size"
            )
        for name in ("adam_b1", "adam_b2", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(
                    f"--{name}={getattr(self, name)}: expected 0 or more, below 1"
                )
        for name in ("agreement_share", "decay_share"):
            if not getattr(self, name) <= 1:
                raise UserError(f"--{name}={getattr(self, name)}: expected 0 to 1")
        if not any(code.n_params for code in spec):
            raise UserError(
                f"--codes={self.codes}: Q needs a code to read, even if it only "
                "watches; add one, such as cat:10"
            )
        if self.real_weight > 0:
            if self.info_weight == 0:
                raise UserError(
                    f"--real_weight={self.real_weight}: --info_weight=0 is a plain GAN "
                    "that Q watches; set --real_weight=0, or --info_weight above 0"
                )
            if not any(isinstance(code, Categorical) for code in spec):
                raise UserError(
                    f"--real_weight={self.real_weight}: needs a categorical code in "
                    f"--codes, which are {self.codes}; add cat:K or set it to 0"
                )
            if warp is None:
                raise UserError(
                    f"--real_weight={self.real_weight}: needs warped copies; choose "
                    f"--warp, one of {sorted(set(WARPS) - {'none'})}"
                )
        elif self.regroup_at > 0:
            raise UserError(
                f"--regroup_at={self.regroup_at}: Q is told of real images; set "
                "--real_weight above 0, or --regroup_at=0"
            )
        if self.equivariance_weight > 0 and not (
            warp and warp.followed and continuous_codes(spec)
        ):
            raise UserError(
                f"--equivariance_weight={self.equivariance_weight}: needs a --warp "
                "that changes what a code can follow, and a continuous code, such as "
                "uniform:2, in --codes; or set it to 0"
            )
        if warp is not None and self.batch_size % self.warp_every:
            raise UserError(
                f"--batch_size={self.batch_size}: expected a multiple of "
                f"--warp_every={self.warp_every}"
            )

    def _check_percentiles(self) -> None:
        try:
            low, high = (float(part) for part in self.percentiles.split(","))
            if not 0 <= low < high <= 100:
                raise ValueError
        except ValueError:
            raise UserError(
                f"--percentiles={self.percentiles}: expected two numbers from 0 to "
                "100, the smaller one first"
            ) from None

    def _check_channels(self) -> None:
        if self.channels in ("", "grey", "rgb") or "{channel}" in self.pattern:
            return
        numbers = [number.strip() for number in self.channels.split(",")]
        if len(set(numbers)) < len(numbers) or not all(
            re.fullmatch("[1-9][0-9]{0,3}", number) for number in numbers
        ):
            raise UserError(
                f"--channels={self.channels}: expected grey, rgb, or numbers from 1, "
                "each once, such as 1,3"
            )

    def _check_mirror(self) -> None:
        try:
            scheme = urlsplit(self.mirror).scheme
        except ValueError:
            scheme = ""
        if self.mirror and scheme not in ("http", "https", "file"):
            raise UserError(
                f"--mirror={self.mirror}: expected an address that begins with "
                "https://, http:// or file://"
            )

    def replicas(self) -> list["Config"]:
        """The config of each replica, as if it ran alone."""
        return [
            dataclasses.replace(self, seed=self.seed + i, seeds=1)
            for i in range(self.seeds)
        ]

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """Raises UserError if the text is no such config."""
        try:
            values = json.loads(text)
            if not isinstance(values, dict):
                raise ValueError("not an object")
            if (named := values.pop("real_information", None)) is not None:
                # What earlier runs have in its place
                values["agreement_share"] = 1.0 if named == "agreement" else 0.0
            types = {
                field.name: type(field.default) for field in dataclasses.fields(cls)
            }
            if unknown := sorted(set(values) - set(types)):
                raise ValueError(f"unknown settings {unknown}")
            for name, value in values.items():
                number = types[name] is float and type(value) is int
                if type(value) is not types[name] and not number:
                    raise ValueError(f"{name} is {value!r}, not {types[name].__name__}")
            return cls(**values)
        except ValueError as error:
            raise UserError(f"unreadable config: {error}") from None


BEYOND = 2**31  # what an int32 cannot hold
_LARGEST = 1024  # side of an image; beyond it, certainly a slip
_AT_LEAST = {
    "max_bad": 0,
    "image_size": 0,
    "width": 0,
    "info_weight": 0,
    "real_weight": 0,
    "agreement_share": 0,
    "balance_weight": 0,
    "equivariance_weight": 0,
    "penalty_weight": 0,
    "regroup_at": 0,
    "warp_every": 1,
    "batch_size": 2,
    "g_learning_rate": 0,
    "d_learning_rate": 0,
    "decay_share": 0,
    "seed": 0,
    "seeds": 1,
    "steps": 1,
    "log_every": 1,
    "checkpoint_every": 1,
    "keep": 1,
    "frame_every": 0,
    "eval_every": 0,
}


def expand(name: str, value: str) -> Path:
    """The path that a flag names, with ~ for somebody's home.

    Raises:
        UserError: there is no such home.
    """
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise UserError(f"--{name}={value}: {error}") from None


NO_MEMORY = "RESOURCE_EXHAUSTED"  # in what XLA says of a device that has none left


def first_line(error: BaseException) -> str:
    """Of what an error says; its kind where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def one_of(name: str, value: str, table: Any) -> None:
    """Raises UserError unless the table has the value."""
    if value not in table:
        raise UserError(f"--{name}={value}: expected one of {sorted(table)}")


def fixed_fields() -> list[str]:
    """Names of the fields that may not change when a run goes on."""
    return [f.name for f in dataclasses.fields(Config) if not f.metadata["free"]]
