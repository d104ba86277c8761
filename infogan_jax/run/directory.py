"""A run's work directory: `Run`, the only one to know what lies where in it.

config.json       the config, the image shape, versions, devices
metrics.jsonl     one line per logged step      tensorboard/  the same, as events
checkpoints/      Orbax, one folder per step    frames/       of the animation
evaluation.json   the measures                  figures/      pictures
report.html       all of it to look at
members.json      of several seeds, the choice  seed_N/       what belongs to one
pseudo_labels.npy categories that Q learns
damaged/          checkpoints that could not be used
rollback.json     the last return to an earlier step
"""

import dataclasses
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from infogan_jax.build import build_classifier, build_model
from infogan_jax.compiling import compiler_options
from infogan_jax.config import Config, absolute_path, fixed_fields
from infogan_jax.core.classifier import ImageClassifier
from infogan_jax.core.model import InfoGAN
from infogan_jax.distributed import devices
from infogan_jax.errors import UserError
from infogan_jax.evaluation.results import Choice
from infogan_jax.files import next_free_name, remove_partial_files
from infogan_jax.inference import Trained, TrainedClassifier
from infogan_jax.run import records
from infogan_jax.run.checkpoints import Checkpoints
from infogan_jax.run.lock import LOCK_FILE, Lock
from infogan_jax.run.records import CLASSIFIER, INFOGAN, Evaluation, RunInfo

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Folder:
    """What a work directory and a member's part of it have in common."""

    path: Path

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation.json"


@dataclasses.dataclass(frozen=True)
class MemberFolder(_Folder):
    """A member's part of a work directory."""

    config: Config  # as of a run of this seed only
    class_names: list[str]

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def frames(self) -> Path:
        return self.path / "frames"

    def load_evaluation(self, step: int | None = None) -> Evaluation | None:
        """Returns the measures; None if there are none, or they are of another step.

        Raises:
            UserError: the file is damaged.
        """
        saved = Evaluation.read(self.evaluation, self.class_names)
        return saved if saved and step in (None, saved.step) else None

    def save_evaluation(self, evaluation: Evaluation) -> None:
        evaluation.write(self.evaluation)


@dataclasses.dataclass(frozen=True)
class Run(_Folder):
    """A work directory with what its config.json says."""

    info: RunInfo
    own_model: InfoGAN | None = None  # in place of the config's

    @classmethod
    def open(cls, path: Path, kind: str = INFOGAN) -> "Run":
        """Returns the run in a directory.

        Raises:
            UserError: there is none, it is of another kind, or its file is damaged.
        """
        info = RunInfo.read(path / "config.json")
        if info.kind != kind:
            raise UserError(
                f"{path}: is the run of {info.kind}; expected one of {kind}"
            )
        return cls(path, info)

    @classmethod
    def create(cls, path: Path, info: RunInfo, restart: bool, lock: Lock) -> "Run":
        """Makes the directory, or opens the run that is there to continue it.

        Args:
            path: of the directory.
            info: what the run is; written with today's versions and devices.
            restart: move what is there aside, to `WORKDIR.1`, `WORKDIR.2` and so on.
            lock: keeps others out from now on.

        Raises:
            UserError: it cannot be written, is in use, or holds another run.
        """
        if not restart:
            cls._check_data(path, info)
        try:
            if restart and path.exists():
                lock.take(path)
                former = next_free_name(path)
                path.rename(former)
                logger.info(f"the former run is now in {former}")
            path.mkdir(parents=True, exist_ok=True)
            lock.take(path)
            remove_partial_files(path)
        except OSError as error:
            raise UserError(
                f"--workdir={path}: cannot be written ({error.strerror}); choose "
                "another folder"
            ) from None
        cls.check(path, info.config, False, info.kind)  # another run may have begun
        run = cls(path, info.with_environment())
        run.info.write(path / "config.json")
        return run

    @staticmethod
    def check(path: Path, config: Config, restart: bool, kind: str) -> None:
        """Raises UserError unless a config may run in a directory; changes nothing."""
        if (path / "config.json").exists():
            if not restart:
                _check_same(Run.open(path, kind).config, config, path)
        elif path.is_dir() and {entry.name for entry in path.iterdir()} - {LOCK_FILE}:
            raise UserError(
                f"--workdir={path}: holds files but no config.json of a run; choose "
                "another folder"
            )

    @staticmethod
    def _check_data(path: Path, info: RunInfo) -> None:
        if (path / "config.json").exists():
            Run.open(path, info.kind).check_data(info.data)

    def check_data(self, fingerprint: str) -> None:
        """Raises UserError if the run has seen other data."""
        if self.info.data not in ("", fingerprint):
            raise UserError(
                f"--dataset={self.config.dataset}: has changed since the run in "
                f"{self.path} began; restore the former data, or start over with "
                "--restart"
            )

    @property
    def config(self) -> Config:
        return self.info.config

    @functools.cached_property
    def model(self) -> InfoGAN:
        """The model of the run."""
        if self.own_model is not None:
            return self.own_model
        return build_model(self.config, self.info.image_shape)

    @functools.cached_property
    def classifier(self) -> ImageClassifier:
        """The classification network of the run."""
        n_classes = len(self.info.class_names)
        return build_classifier(self.config, self.info.image_shape, n_classes)

    @property
    def members(self) -> list[MemberFolder]:
        """Each member's part; that of a single one is the work directory itself."""
        return [
            MemberFolder(
                self.path
                if self.config.num_seeds == 1
                else self.path / f"seed_{member.seed}",
                member,
                self.info.class_names,
            )
            for member in self.config.members()
        ]

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def profile(self) -> Path:
        return self.path / "profile"

    @property
    def pseudo_labels(self) -> Path:
        former = self.path / "regrouped.npy"
        return former if former.exists() else self.path / "pseudo_labels.npy"

    @property
    def explorer(self) -> Path:
        return self.path / "explorer"

    @property
    def has_metrics(self) -> bool:
        """Whether training has begun here before."""
        return any(member.metrics.exists() for member in self.members)

    def free_path(self, name: str) -> Path:
        """Returns a path for a new file in the directory, its name with a number."""
        standard, number = self.path / name, 1
        while (path := standard.with_stem(f"{standard.stem}_{number:03d}")).exists():
            number += 1
        return path

    def load_rollback(self) -> dict[str, Any]:
        """Returns what `save_rollback` wrote; empty if there was no rollback.

        Raises:
            UserError: the file is damaged.
        """
        return records.read_rollback(self._rollback)

    def save_rollback(self, notes: dict[str, Any]) -> None:
        """Records to which step training went back, and how often."""
        records.write_rollback(self._rollback, notes)

    @property
    def _rollback(self) -> Path:
        return self.path / "rollback.json"

    # Checkpoints

    def open_checkpoints(self) -> Checkpoints:
        """Returns the checkpoints of the run, to save and to restore."""
        return Checkpoints(self.path, self.config.max_to_keep)

    def load_states(self) -> list[Any]:
        """Returns the newest checkpoint: the state of each member.

        Raises:
            UserError: there is none, or none is whole.
        """
        if not (self.path / "checkpoints").is_dir():
            raise UserError(f"{self.path}: has no checkpoint yet; train first")
        init = (self.classifier if self.info.kind == CLASSIFIER else self.model).init
        checkpoints = self.open_checkpoints()
        state = checkpoints.restore(initial_state(init, self.config))
        checkpoints.close()
        return split_members(state, self.config)

    def load_trained(self, seed: int | None = None) -> tuple[MemberFolder, Trained]:
        """Returns a member with its newest state; by default the chosen one.

        Raises:
            UserError: there is no such member or state, or none has been chosen.
        """
        place = self.find_member(seed)
        return self.members[place], Trained(self.model, self.load_states()[place])

    def load_classifier(self) -> TrainedClassifier:
        """Returns the classification network of the newest checkpoint.

        Raises:
            UserError: there is none, or none is whole.
        """
        (state,) = self.load_states()
        return TrainedClassifier(self.classifier, state, self.info.class_names)

    def find_member(self, seed: int | None) -> int:
        """Returns the place of a member; by default the chosen one's.

        Raises:
            UserError: there is none of that seed, or none has been chosen yet.
        """
        seeds = self.config.seeds
        if seed is None and len(seeds) > 1:
            choice = self.load_choice()
            if choice is None or choice.chosen not in seeds:
                raise UserError(
                    f"--workdir={self.path}: no member is chosen yet; let the run come "
                    f"to its end, or name one by --member, one of {seeds}"
                )
            seed = choice.chosen
        if seed is not None and seed not in seeds:
            raise UserError(f"--member={seed}: expected one of {seeds}")
        return 0 if seed is None else seeds.index(seed)

    def load_choice(self) -> Choice | None:
        """Returns which member was chosen, and why; None if none was.

        Raises:
            UserError: the file is damaged.
        """
        seeds = self.config.seeds
        for name in ("members.json", "replicas.json"):
            if (choice := records.read_choice(self.path / name)) is None:
                continue
            if [member.seed for member in choice.members] != seeds:
                raise UserError(
                    f"{self.path / name}: damaged (not the run's seeds {seeds}); run "
                    "--mode=evaluate again"
                )
            return choice
        return None

    def save_choice(self, choice: Choice) -> None:
        records.write_choice(self.path / "members.json", choice)


def _check_same(saved: Config, config: Config, path: Path) -> None:
    for name in fixed_fields():
        was, now = getattr(saved, name), getattr(config, name)
        if absolute_path(name, was) != absolute_path(name, now):
            raise UserError(
                f"--{name}={now}: the run in {path} has {name}={was}; choose "
                f"another --workdir, keep --{name}={was}, or start over with --restart"
            )


def initial_state(init: Callable, config: Config, sharding: Any = None) -> Any:
    """Returns the state at step 0; of several members, stacked."""
    make, keys = _init_of_members(init, config)
    # One program to compile, and to find in the cache.
    options = compiler_options(jax.default_backend())
    return jax.jit(make, out_shardings=sharding, compiler_options=options)(keys)


def state_shapes(init: Callable, config: Config) -> Any:
    """Returns what `initial_state` does, as shapes."""
    return jax.eval_shape(*_init_of_members(init, config))


def _init_of_members(init: Callable, config: Config) -> tuple[Callable, jax.Array]:
    """What makes the states of all members, and its argument."""
    keys = jnp.stack([jax.random.key(seed) for seed in config.seeds])
    return (init, keys[0]) if len(keys) == 1 else (jax.vmap(init), keys)


def split_members(state: Any, config: Config) -> list[Any]:
    """Returns each member's state, on one device; to be called in every process."""
    state = devices.gather(state)
    if config.num_seeds == 1:
        return [state]
    return [jax.tree.map(lambda x, i=i: x[i], state) for i in range(config.num_seeds)]
