"""A run's directory: what is in it, and whether it may go on.

config.json       the config, the image shape, versions, devices
metrics.jsonl     one line per logged step      tensorboard/  the same, as events
checkpoints/      Orbax, one folder per step    frames/       of the animation
evaluation.json   the measures                  figures/      pictures
report.html       all of it to look at
replicas.json     of several seeds, the choice  seed_N/       what belongs to one
regrouped.npy     categories that Q is told
damaged/          checkpoints that could not be used
"""

import contextlib
import dataclasses
import fcntl
import functools
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from infogan_jax import parallel
from infogan_jax.checkpoints import Checkpoints
from infogan_jax.classifier import ClassifierState, init_classifier
from infogan_jax.config import Config, UserError, expand, fixed_fields
from infogan_jax.models import build_networks
from infogan_jax.state import TrainState, init_state
from infogan_jax.writers import next_name, sweep, write_atomically

INFOGAN, CLASSIFIER = "an InfoGAN", "a classifier"  # kinds of runs
_LOCK = ".lock"
_PACKAGES = "jax", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy"


def check_run(workdir: Path, config: Config, restart: bool, kind: str) -> None:
    """Raises UserError unless the config may run there; changes nothing."""
    if (workdir / "config.json").exists():
        if not restart:
            _check_same(load_config(workdir, kind)[0], config, workdir)
    elif workdir.is_dir() and {path.name for path in workdir.iterdir()} - {_LOCK}:
        raise UserError(
            f"--workdir={workdir}: holds files but no config.json of a run; choose "
            "another folder"
        )


class Lock:
    """Keeps a second run out of a work directory; it ends with the process, too."""

    def __init__(self):
        self._file = None

    def take(self, workdir: Path) -> None:
        """Locks a directory that exists, in place of one that was locked before.

        Raises:
            UserError: another process has it.
        """
        self.close()
        path = workdir / _LOCK
        # Not where a link leads to: it is written over
        how = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.fdopen(os.open(path, how, 0o666), "r+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between the two a --restart may have moved the directory aside
            if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                raise BlockingIOError
        except (BlockingIOError, FileNotFoundError):
            file.seek(0)
            who = file.read().strip() or "another process"
            file.close()
            raise UserError(
                f"--workdir={workdir}: is in use by {who}; wait for it, or choose "
                "another folder"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        self._file = file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()  # the lock goes with it
            self._file = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def open_run(workdir: Path, restart: bool, lock: Lock) -> None:
    """Makes the directory, or moves a run that is there aside to `WORKDIR.1`, `.2`, ..

    Args:
        workdir: of the run.
        restart: move what is there aside.
        lock: keeps others out from now on.

    Raises:
        UserError: it cannot be written, or is in use.
    """
    try:
        if restart and workdir.exists():
            lock.take(workdir)
            aside = next_name(workdir)
            workdir.rename(aside)
            print(f"the former run is now in {aside}")
        workdir.mkdir(parents=True, exist_ok=True)
        lock.take(workdir)
        sweep(workdir)
    except OSError as error:
        raise UserError(
            f"--workdir={workdir}: cannot be written ({error.strerror}); choose "
            "another folder"
        ) from None


def _check_same(saved: Config, config: Config, workdir: Path) -> None:
    for name in fixed_fields():
        was, now = getattr(saved, name), getattr(config, name)
        if was != now:
            raise UserError(
                f"--{name}={now}: the run in {workdir} has {name}={was}; choose "
                f"another --workdir, keep --{name}={was}, or begin anew with --restart"
            )


def save_config(workdir: Path, config: Config, kind: str, about: dict) -> None:
    """Writes config.json; `about` is what else the run has to remember of its data."""
    content = {
        "kind": kind,
        "config": dataclasses.asdict(config),
        **about,
        "versions": {package: version(package) for package in _PACKAGES}
        | {"python": platform.python_version()},
        "devices": [f"{d.platform} {d.device_kind}" for d in jax.devices()],
        "git": _git_revision(),
    }
    write_atomically(workdir / "config.json", json.dumps(content, indent=2) + "\n")


def load_config(
    workdir: Path, kind: str = INFOGAN
) -> tuple[Config, tuple[int, int, int], list[str]]:
    """The config, image shape and class names of a run.

    Raises:
        UserError: there is no run, it is of another kind, or its file is damaged.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise UserError(
            f"{workdir}: has no config.json; train there first, or name the folder of "
            "a run"
        )
    try:
        content = json.loads(path.read_text())
        found = content.get("kind", INFOGAN)
        config = Config.from_json(json.dumps(content["config"]))
        height, width, channels = (int(side) for side in content["image_shape"])
        build_networks(config, (height, width, channels), 1)
        classes = list(content["class_names"])
        if not all(isinstance(name, str) for name in classes):
            raise ValueError("class_names are no names")
    except (*UNREADABLE, UserError) as error:
        raise UserError(f"{path}: damaged ({error}); restore it from a copy") from None
    try:
        config.validate()
    except UserError as error:
        raise UserError(f"{path}: not as this version has it ({error})") from None
    if found != kind:
        raise UserError(f"{workdir}: is the run of {found}; expected one of {kind}")
    return config, (height, width, channels), classes


@contextlib.contextmanager
def named_by(flag: str, value: str):
    """The folder of a run that a flag names; an error about it says which flag."""
    folder = expand(flag, value)
    try:
        yield folder
    except UserError as error:
        raise UserError(f"--{flag}={value}: {error}") from None


def replica_folders(workdir: Path, config: Config) -> list[Path]:
    """Where each replica has its metrics and figures: a run alone, in the workdir."""
    if config.seeds == 1:
        return [workdir]
    return [workdir / f"seed_{alone.seed}" for alone in config.replicas()]


def initial(init: Callable, config: Config, sharding=None):
    """The state at step 0, of several replicas stacked."""
    keys = jnp.stack([jax.random.key(alone.seed) for alone in config.replicas()])
    make = init if config.seeds == 1 else jax.vmap(init)
    # One program to compile, and to find in the cache
    return jax.jit(make, out_shardings=sharding)(keys[0] if config.seeds == 1 else keys)


def split(state, config: Config) -> list:
    """The state of each replica, on one device; to be called in every process."""
    state = parallel.gather(state)
    if config.seeds == 1:
        return [state]
    return [jax.tree.map(lambda x, i=i: x[i], state) for i in range(config.seeds)]


def load_states(workdir: Path) -> list[TrainState]:
    """The newest checkpoint of a run, the state of each of its replicas."""
    config, image_shape, _ = load_config(workdir)
    init = functools.partial(init_state, config=config, image_shape=image_shape)
    return _restore(workdir, init, config)


def load_classifier(workdir: Path) -> tuple[ClassifierState, Config]:
    """The newest checkpoint of a classification network, and its config."""
    config, image_shape, classes = load_config(workdir, CLASSIFIER)
    init = functools.partial(
        init_classifier,
        config=config,
        image_shape=image_shape,
        n_classes=len(classes),
    )
    return _restore(workdir, init, config)[0], config


def _restore(workdir: Path, init: Callable, config: Config) -> list:
    if not (workdir / "checkpoints").is_dir():
        raise UserError(f"{workdir}: has no checkpoint yet; train first")
    checkpoints = Checkpoints(workdir, config.keep)
    state = checkpoints.restore(initial(init, config))
    checkpoints.close()
    return split(state, config)


def find_replica(workdir: Path, config: Config, seed: int | None) -> int:
    """The place of a replica among those of a run; by default the chosen one's.

    Raises:
        UserError: there is none of that seed, or none has been chosen yet.
    """
    seeds = [alone.seed for alone in config.replicas()]
    if seed is None and len(seeds) > 1:
        seed = load_choice(workdir).get("chosen")
        if seed not in seeds:
            raise UserError(
                f"--workdir={workdir}: no replica is chosen yet; let the run come to "
                f"its end, or name one by --replica, one of {seeds}"
            )
    if seed is not None and seed not in seeds:
        raise UserError(f"--replica={seed}: expected one of {seeds}")
    return 0 if seed is None else seeds.index(seed)


def load_choice(workdir: Path) -> dict:
    """What replicas.json holds; empty where there is none."""
    return _load_json(workdir / "replicas.json")


def check_data(workdir: Path, config: Config, digest: str) -> None:
    """Raises UserError if the run there has seen other data; changes nothing."""
    if _load_json(workdir / "config.json").get("data", digest) != digest:
        raise UserError(
            f"--dataset={config.dataset}: has changed since the run in {workdir} "
            "began; bring the former data back, or begin anew with --restart"
        )


def load_ranges(workdir: Path) -> list[tuple[float, float]] | None:
    """Of each channel, the values of the user's files that became 0 and 1."""
    with reading(workdir):
        ranges = _load_json(workdir / "config.json").get("ranges")
        if ranges is None:
            return None
        found = [(float(low), float(high)) for low, high in ranges]
        if not np.isfinite(found).all():
            raise ValueError("ranges that are not finite")
        return found


def load_channels(workdir: Path) -> list[str]:
    """The values of {channel} that a run's folder had."""
    with reading(workdir):
        names = _load_json(workdir / "config.json").get("channels")
        return [str(name) for name in names or []]


def load_about(workdir: Path) -> dict:
    """Versions, devices and revision that a run was last started with."""
    return _load_json(workdir / "config.json")


def load_evaluation(folder: Path, step: int | None = None) -> dict:
    """What evaluation.json holds; empty where there is none, or of another step."""
    results = _load_json(folder / "evaluation.json")
    return results if step in (None, results.get("step")) else {}


def classes_of(results: dict, code: str, classes: list[str]) -> list[str | None]:
    """The class that an evaluation found for each category of a code, None for none.

    Empty where it found none at all. To be called within `reading`.
    """
    values = results.get("clustering", {}).get(code)
    labels = values["code_to_class"] if isinstance(values, dict) else []
    return [None if label is None else classes[label] for label in labels]


def _load_json(path: Path) -> dict:
    with reading(path):
        content = json.loads(path.read_text()) if path.exists() else {}
        if not isinstance(content, dict):
            raise ValueError("not an object")
        return content


# What comes of reading files that a program wrote and something else changed
UNREADABLE = (
    *(ArithmeticError, AttributeError, LookupError, RecursionError),
    *(TypeError, ValueError),
)


@contextlib.contextmanager
def reading(place: Path | str):
    """Raises UserError for what a damaged file of a run leads to."""
    try:
        yield
    except UNREADABLE as error:
        raise UserError(
            f"{place}: damaged ({error}); restore it from a copy, or run "
            "--mode=evaluate anew"
        ) from None


def version(package: str) -> str:
    """Of an installed package."""
    return importlib.metadata.version(package)


def _git_revision() -> str | None:
    try:
        command = ["git", "describe", "--always", "--dirty"]
        folder = os.path.dirname(__file__)
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        return done.stdout.strip() or None
    except OSError:
        return None
