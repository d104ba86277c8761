"""A run's directory: what is in it, and whether it may go on.

config.json       the config, the image shape, versions, devices
metrics.jsonl     one line per logged step      tensorboard/  the same, as events
checkpoints/      Orbax, one folder per step    frames/       of the animation
evaluation.json   the measures                  figures/      pictures
"""

import dataclasses
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path

import jax

from infogan_jax.checkpoints import Checkpoints
from infogan_jax.config import Config, UserError, fixed_fields
from infogan_jax.state import TrainState, init_state
from infogan_jax.writers import write_atomically

_PACKAGES = "jax", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy"


def check_run(workdir: Path, config: Config, restart: bool) -> None:
    """Raises UserError unless the config may run there; changes nothing."""
    if (workdir / "config.json").exists():
        if not restart:
            _check_same(load_config(workdir)[0], config, workdir)
    elif workdir.is_dir() and any(workdir.iterdir()):
        raise UserError(
            f"--workdir={workdir}: holds files but no config.json of a run; choose "
            "another folder"
        )


def open_run(workdir: Path, restart: bool) -> None:
    """Makes the directory, or moves a run that is there aside to `WORKDIR.1`, `.2`, ..

    Raises:
        UserError: it cannot be written.
    """
    try:
        if restart and workdir.exists():
            number = 1
            while (aside := workdir.with_name(f"{workdir.name}.{number}")).exists():
                number += 1
            workdir.rename(aside)
            print(f"the former run is now in {aside}")
        workdir.mkdir(parents=True, exist_ok=True)
        write_atomically(workdir / ".writable", "")
        (workdir / ".writable").unlink()
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


def save_config(workdir: Path, config: Config, image_shape, class_names) -> None:
    """Writes config.json."""
    content = {
        "config": dataclasses.asdict(config),
        "image_shape": list(image_shape),
        "class_names": list(class_names),
        "versions": {p: importlib.metadata.version(p) for p in _PACKAGES}
        | {"python": platform.python_version()},
        "devices": [f"{d.platform} {d.device_kind}" for d in jax.devices()],
        "git": _git_revision(),
    }
    write_atomically(workdir / "config.json", json.dumps(content, indent=2) + "\n")


def load_config(workdir: Path) -> tuple[Config, tuple[int, int, int], list[str]]:
    """The config, image shape and class names of a run.

    Raises:
        UserError: there is no run, or its file is damaged.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise UserError(
            f"--workdir={workdir}: has no config.json; train there first, or name the "
            "folder of a run"
        )
    try:
        content = json.loads(path.read_text())
        config = Config.from_json(json.dumps(content["config"]))
        height, width, channels = (int(side) for side in content["image_shape"])
        return config, (height, width, channels), list(content["class_names"])
    except (ValueError, KeyError, TypeError, UserError) as error:
        raise UserError(f"{path}: damaged ({error}); restore it from a copy") from None


def load_state(workdir: Path) -> tuple[TrainState, Config]:
    """The newest checkpoint of a run, and its config."""
    config, image_shape, _ = load_config(workdir)
    if not (workdir / "checkpoints").is_dir():
        raise UserError(f"--workdir={workdir}: has no checkpoint yet; train first")
    checkpoints = Checkpoints(workdir, config.keep)
    state = init_state(jax.random.key(config.seed), config, image_shape)
    state = checkpoints.restore(state)
    checkpoints.close()
    return state, config


def load_evaluation(workdir: Path) -> dict:
    """What evaluation.json holds; empty where there is none."""
    path = workdir / "evaluation.json"
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise UserError(
            f"{path}: damaged ({error}); run --mode=evaluate anew"
        ) from None


def _git_revision() -> str | None:
    try:
        command = ["git", "describe", "--always", "--dirty"]
        folder = os.path.dirname(__file__)
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        return done.stdout.strip() or None
    except OSError:
        return None
