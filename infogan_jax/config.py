"""Every setting of a run: one field is one flag is one help text.

`Config` is what determines a run's numbers, except for the fields marked `changeable`,
which may change when a run continues. `steps` is one of them, though step sizes that
fall over the last `lr_decay_fraction` of a run fall later if the run is made longer.

The fields stand in sections, which are types of their own: a function that needs the
data's settings only takes a `DataConfig`. A config is checked when it is made.
"""

import dataclasses
import json
import math
import operator
import os
from typing import Any, Self

from infogan_jax import former
from infogan_jax.core.augment import parse_warp
from infogan_jax.core.latents import categorical_codes, continuous_codes
from infogan_jax.core.models import ARCHITECTURES
from infogan_jax.core.spec import parse_spec
from infogan_jax.errors import UserError
from infogan_jax.fields import INT32_END
from infogan_jax.settings import (
    SECTIONS,
    DataConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimizerConfig,
    RunConfig,
)

PATH_FIELDS = (  # besides dataset, if it is a folder
    *("baseline", "data_dir", "eval_classifier", "filter_classifier", "group_csv"),
    "metadata",
)
_FOLDER = "folder:"


# A dataclass has its last base's fields first.
@dataclasses.dataclass(frozen=True)
class Config(RunConfig, OptimizerConfig, ObjectiveConfig, ModelConfig, DataConfig):
    """A run. Frozen and hashable; `dataclasses.replace` makes a changed one.

    Raises:
        UserError: a value cannot work, by itself or beside the others.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = _convert(field, getattr(self, field.name))
            _check_limits(field, value)
            object.__setattr__(self, field.name, value)
        for section in SECTIONS:
            section.check(self)
        self.check()

    def check(self) -> None:
        """Raises UserError where fields of several sections do not go together."""
        spec, augment = parse_spec(self.codes), parse_warp(self.augment)
        if self.gan_on_copies > 0 and augment is None:
            raise UserError(
                f"--gan_on_copies={self.gan_on_copies}: needs an --augment to make "
                "copies by, such as digits or cells; or set it to 0"
            )
        if self.real_mi_weight > 0 and not categorical_codes(spec):
            raise UserError(
                f"--real_mi_weight={self.real_mi_weight}: needs a categorical code in "
                f"--codes, which are {self.codes}; add cat:K or set it to 0"
            )
        if self.equivariance_weight > 0 and not (
            augment and augment.factor_names and continuous_codes(spec)
        ):
            raise UserError(
                f"--equivariance_weight={self.equivariance_weight}: needs an --augment "
                "that changes what a code can follow, and a continuous code, such as "
                "uniform:2, in --codes; or set it to 0"
            )
        every = {
            "augment_every": self.augment_every if augment is not None else 1,
            "penalty_every": self.penalty_every if self.penalty_weight else 1,
        }
        for name, n in every.items():
            if self.batch_size % n:
                raise UserError(
                    f"--batch_size={self.batch_size}: expected a multiple of "
                    f"--{name}={n}"
                )

    def check_trainable(self) -> None:
        """Raises UserError for what former runs may be but no new run."""
        architecture = ARCHITECTURES[self.architecture]
        uses_gp = self.penalty == "wgan_gp" and self.penalty_weight > 0
        if uses_gp and architecture.normalizes_d:
            good = [n for n, a in ARCHITECTURES.items() if not a.normalizes_d]
            raise UserError(
                f"--penalty=wgan_gp: D of --architecture={self.architecture} "
                "normalises over the batch, where each image needs a gradient of its "
                f"own; choose one of {sorted(good)}, or --penalty=r1_r2"
            )

    def without_effect(self) -> list[str]:
        """Returns the fields that differ from their default and change nothing."""
        idle = {
            "entropy_weight": not self.real_mi_weight,
            "consistency_fraction": not self.real_mi_weight,
            "penalty": not self.penalty_weight,
            "penalty_every": not self.penalty_weight,
            "prior_weight": not continuous_codes(parse_spec(self.codes)),
            "augment_every": parse_warp(self.augment) is None,
            "resize_mode": not self.image_size,
            "filter_threshold": not self.filter_classifier,
        }
        standard = {field.name: field.default for field in dataclasses.fields(self)}
        return [
            name
            for name, is_idle in idle.items()
            if is_idle and getattr(self, name) != standard[name]
        ]

    def with_absolute_paths(self) -> Self:
        """Returns the config with paths that do not depend on the current folder."""
        values = dataclasses.asdict(self)
        paths = {name: absolute_path(name, value) for name, value in values.items()}
        return dataclasses.replace(self, **paths)

    @property
    def seeds(self) -> list[int]:
        """The seed of each member."""
        return list(range(self.seed, self.seed + self.num_seeds))

    def members(self) -> list["Config"]:
        """Returns the config of each member, as of a run of one seed."""
        return [dataclasses.replace(self, seed=s, num_seeds=1) for s in self.seeds]

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Returns the config that a text of any version describes.

        Raises:
            UserError: the text is no such config.
        """
        try:
            values = json.loads(text)
            if not isinstance(values, dict):
                raise ValueError("not an object")
            values = former.upgrade_config(values)
            known = {field.name for field in dataclasses.fields(cls)}
            if unknown := sorted(set(values) - known):
                raise ValueError(f"unknown settings {unknown}")
            return cls(**values)
        except (ValueError, UserError) as error:
            raise UserError(f"unreadable config: {error}") from None


def absolute_path(name: str, value: Any) -> Any:
    """Returns the value of a field; if it is a path, one from the root on."""
    kind, path = "", value
    if name == "dataset" and value.startswith(_FOLDER):
        kind, path = _FOLDER, value.removeprefix(_FOLDER)
    elif name not in PATH_FIELDS:
        return value
    return kind + os.path.abspath(os.path.expanduser(path)) if path else value


def _convert(field: dataclasses.Field, value: Any) -> Any:
    """Returns a value as the field's type: NumPy's numbers and paths are taken too."""
    kind = type(field.default)
    try:
        if kind is bool or isinstance(value, bool):
            converted = value
        elif kind is int:
            converted = operator.index(value)
        elif kind is float:
            converted = float(value) if not isinstance(value, str) else value
        else:
            converted = os.fspath(value)
    except (OverflowError, TypeError, ValueError):
        converted = None
    if type(converted) is not kind:
        raise UserError(f"{field.name}={value!r}: expected a value of {kind.__name__}")
    return converted


def _check_limits(field: dataclasses.Field, value: Any) -> None:
    least, most, below = (field.metadata[k] for k in ("least", "most", "below"))
    if least is None:
        return
    if below is not None and not least <= value < below:
        expected = f"{least} or more, below {below}"
    elif most is not None and not least <= value <= most:
        expected = f"{least} to {most}"
    elif not (math.isfinite(value) and value >= least):
        finite = "" if isinstance(value, int) else "a finite number, "
        expected = f"{finite}{least} or more"
    elif isinstance(value, int) and value >= INT32_END:
        expected = f"less than {INT32_END}"
    else:
        return
    raise UserError(f"--{field.name}={value}: expected {expected}")


def fixed_fields() -> list[str]:
    """Names of the fields that may not change when a run continues."""
    return [
        field.name
        for field in dataclasses.fields(Config)
        if not field.metadata["changeable"]
    ]
