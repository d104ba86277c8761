"""The JSON files of a work directory, as types; former versions' are read too."""

import contextlib
import dataclasses
import importlib.metadata
import json
import math
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import msgspec

from infogan_jax import former
from infogan_jax.config import Config
from infogan_jax.core.models import ImageShape
from infogan_jax.data.folder import Form
from infogan_jax.errors import UserError
from infogan_jax.evaluation import results as evaluator_results
from infogan_jax.evaluation.results import Choice, Measures, Skipped
from infogan_jax.files import write_atomically
from infogan_jax.settings import EVALUATORS

INFOGAN, CLASSIFIER = "an InfoGAN", "a classifier"  # kinds of runs
_PACKAGES = "jax", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy"

# Exceptions that parsing one of our own files can raise after it was corrupted.
_CORRUPTED = (
    *(ArithmeticError, AttributeError, LookupError, RecursionError),
    *(TypeError, ValueError),
)


@dataclasses.dataclass(frozen=True)
class RunInfo:
    """config.json: what a run is, and what it was last started with."""

    kind: str  # INFOGAN or CLASSIFIER
    config: Config
    image_shape: ImageShape
    class_names: list[str]
    channels: list[str] | None = None  # names, of a folder's
    form: Form = dataclasses.field(default_factory=Form)  # of a folder's images
    data: str = ""  # fingerprint of the dataset
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    devices: list[str] = dataclasses.field(default_factory=list)
    git: str | None = None

    def with_environment(self) -> "RunInfo":
        """Returns the record with this process's versions, devices and revision."""
        versions = {package: version(package) for package in _PACKAGES}
        return dataclasses.replace(
            self,
            versions=versions | {"python": platform.python_version()},
            devices=[f"{d.platform} {d.device_kind}" for d in jax.devices()],
            git=_git_revision(),
        )

    def write(self, path: Path) -> None:
        """Raises OSError if it cannot be written."""
        _write(path, dataclasses.asdict(self))

    @classmethod
    def read(cls, path: Path) -> "RunInfo":
        """Raises UserError if the file is missing, damaged or of unknown settings."""
        if not path.exists():
            raise UserError(
                f"{path.parent}: has no config.json; train there first, or name the "
                "folder of a run"
            )
        with _raise_if_corrupted(path, "restore it from a copy"):
            content = {"kind": INFOGAN} | json.loads(path.read_text())
            content = former.upgrade_run(content)
            settings = json.dumps(content["config"])
        try:
            config = Config.from_json(settings)
        except UserError as error:
            raise _unusable(path, error) from None
        with _raise_if_corrupted(path, "restore it from a copy"):
            content["config"] = config
            info = msgspec.convert(content, cls, from_attributes=True)
            form = info.form
            every = [form.ranges or [], *(form.plate_ranges or {}).values()]
            ends = [end for ranges in every for pair in ranges for end in pair]
            if not all(map(math.isfinite, ends)):
                raise ValueError("ranges that are not finite")
        return info


def _unusable(path: Path, error: UserError) -> UserError:
    return UserError(
        f"{path}: damaged, or not of this version ({error}); restore it from a copy, "
        "or start over with --restart"
    )


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """evaluation.json: the measures of a member at one step."""

    step: int
    images: int  # held-out images
    results: dict[str, Measures | Skipped] = dataclasses.field(default_factory=dict)
    classifier: str = ""  # work directory of the classification network

    def rows(self, evaluator: str) -> dict[str, Any]:
        """The rows of an evaluator; empty if it measured nothing."""
        result = self.results.get(evaluator)
        return result.rows if isinstance(result, Measures) else {}

    def overall(self, evaluator: str) -> dict[str, Any]:
        """What an evaluator measured beside its rows; empty if nothing."""
        result = self.results.get(evaluator)
        return result.overall if isinstance(result, Measures) else {}

    def reason_skipped(self, evaluator: str) -> str | None:
        """Why an evaluator measured nothing; None if it did, or was not asked to."""
        result = self.results.get(evaluator)
        return result.reason if isinstance(result, Skipped) else None

    def code_to_class(self, code: str) -> list[int | None]:
        """The class of each category of a code; empty if none were matched."""
        row = self.rows("clustering").get(code)
        return row["code_to_class"] if row else []

    def class_of_category(self, code: str, class_names: list[str]) -> list[str | None]:
        """The name of each category's class; empty if none were matched."""
        labels = self.code_to_class(code)
        return [None if label is None else class_names[label] for label in labels]

    def write(self, path: Path) -> None:
        """Raises OSError if it cannot be written."""
        content: dict[str, Any] = {"step": self.step, "images": self.images}
        if self.classifier:
            content["classifier"] = self.classifier
        results = {name: result.to_json() for name, result in self.results.items()}
        _write(path, content | results)

    @classmethod
    def read(cls, path: Path, class_names: list[str]) -> "Evaluation | None":
        """Returns the record, or None if there is no such file.

        Args:
            path: of the file.
            class_names: of the run; labels in the file must be among them.

        Raises:
            UserError: the file is damaged.
        """
        if not path.exists():
            return None
        with _raise_if_corrupted(path, "run --mode=evaluate again"):
            content = former.upgrade_evaluation(dict(json.loads(path.read_text())))
            results = {
                name: evaluator_results.from_json(name, content[name])
                for name in EVALUATORS
                if name in content
            }
            head = msgspec.convert(content, _EvaluationHead)
            evaluation = cls(head.step, head.images, results, head.classifier)
            _check_consistency(evaluation, len(class_names))
            return evaluation


@dataclasses.dataclass
class _EvaluationHead:
    step: int
    images: int
    classifier: str = ""


def _check_consistency(evaluation: Evaluation, n_classes: int) -> None:
    """Raises ValueError unless labels, tables and fidelity rows suit the run."""
    for name in ("fidelity", "two_sample"):
        rows = evaluation.rows(name)
        if rows and not {"generated", "real_reference"} <= set(rows):
            raise ValueError(f"{name} without generated images or its reference")
    for row in evaluation.rows("clustering").values():
        labels = [label for label in row["code_to_class"] if label is not None]
        if not all(0 <= label < n_classes for label in labels):
            raise ValueError(f"a class beyond the {n_classes} of the run")
        widths = {len(counts) for counts in row["table"]}
        if len(row["table"]) != len(row["code_to_class"]) or widths != {n_classes}:
            raise ValueError("a table of another shape than categories and classes")


def write_choice(path: Path, choice: Choice) -> None:
    """Writes members.json; raises OSError if it cannot be written."""
    members = [
        {k: v for k, v in dataclasses.asdict(m).items() if v is not None}
        for m in choice.members
    ]
    _write(path, dataclasses.asdict(choice) | {"members": members})


def read_choice(path: Path) -> Choice | None:
    """Returns what members.json holds, or None if there is no such file.

    Raises:
        UserError: the file is damaged.
    """
    if not path.exists():
        return None
    with _raise_if_corrupted(path, "run --mode=evaluate again"):
        content = former.upgrade_choice(dict(json.loads(path.read_text())))
        return msgspec.convert(content, Choice)


@dataclasses.dataclass
class _Rollback:
    step: int
    retries: int
    retried: list[bool]


def write_rollback(path: Path, notes: dict[str, Any]) -> None:
    """Writes rollback.json; raises OSError if it cannot be written."""
    _write(path, notes)


def read_rollback(path: Path) -> dict[str, Any]:
    """Returns what rollback.json holds; empty if there is no such file.

    Raises:
        UserError: the file is damaged.
    """
    if not path.exists():
        return {}
    with _raise_if_corrupted(path, "delete it"):
        content = msgspec.convert(json.loads(path.read_text()), _Rollback)
        return dataclasses.asdict(content)


def write_classification(path: Path, step: int, images: int, results: dict) -> None:
    """Writes evaluation.json of a classifier; OSError if it cannot be written."""
    _write(path, {"step": step, "images": images} | results)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Returns the rows of metrics.jsonl.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    with _raise_if_corrupted(path, "restore it from a copy"):
        lines = content.decode().splitlines()
        rows = (former.upgrade_metrics(json.loads(line)) for line in lines)
        return [msgspec.convert(row, dict[str, float]) for row in rows]


@contextlib.contextmanager
def _raise_if_corrupted(path: Path, cure: str) -> Iterator[None]:
    """Turns what parsing a corrupted file raises into a UserError.

    Only parsing belongs inside: an error of our own is to stay a traceback.
    """
    try:
        yield
    except _CORRUPTED as error:
        raise UserError(f"{path}: damaged ({error}); {cure}") from None


def _write(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(content, indent=2) + "\n")


def version(package: str) -> str:
    """Returns the version of an installed package."""
    return importlib.metadata.version(package)


def _git_revision() -> str | None:
    try:
        command = ["git", "describe", "--always", "--dirty"]
        folder = os.path.dirname(__file__)
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        return done.stdout.strip() or None
    except OSError:
        return None
