"""Training, from a config to a trained state: one flat loop."""

import functools
import math
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from infogan_jax import figures, parallel
from infogan_jax import workdir as runs
from infogan_jax.checkpoints import Checkpoints
from infogan_jax.classifier import (
    ClassifierState,
    init_classifier,
    make_classifier_step,
)
from infogan_jax.config import Config, UserError
from infogan_jax.data import Data, batch_indices, load
from infogan_jax.evaluation import unlabelled
from infogan_jax.evaluation.inference import apply
from infogan_jax.latents import parse_spec
from infogan_jax.models import build_networks
from infogan_jax.report import (
    evaluate,
    evaluation_metrics,
    evaluator_names,
    report_classifier,
)
from infogan_jax.state import TrainState, init_state
from infogan_jax.steps import generate, make_train_step
from infogan_jax.writers import MetricsFile, Progress


class Stopped(Exception):
    """A signal ended the run; all is saved."""

    def __init__(self, signum: int, step: int, workdir: Path):
        super().__init__(
            f"stopped by {signal.Signals(signum).name} after step {step:,}, all saved "
            f"in {workdir}; the same command goes on"
        )
        self.exit_code = 128 + signum


class Diverged(Exception):
    """A value is no longer finite."""


class Task(NamedTuple):
    """What `fit` has to know: the mathematics of a run, and what to do on the way.

    A state has `step`, `variables()`, and `key`, as `TrainState` does. The functions
    behind `on_` get the state of each replica.
    """

    init: Callable[[jax.Array], Any]  # key of the run -> state
    train_step: Callable  # (state, batch) -> (state, metrics), or with targets
    arrays: Any  # the training set, arrays `[N, ...]`; a batch has B rows of each
    ceilings: dict[str, float]  # metric -> its ceiling, for the progress line
    evaluate: Callable[[Any], dict[str, float]]  # state -> measures, on held-out images
    told: range = range(0)  # steps that have targets
    targets: Callable[[int, list[Any]], np.ndarray] | None = None  # -> `[R, N]`
    on_frame: Callable[[int, list[Any]], None] = lambda step, states: None
    on_checkpoint: Callable[[int, list[Any]], None] = lambda step, states: None


def train(config: Config, workdir: str | Path, restart: bool = False) -> TrainState:
    """Trains to `config.steps`, from where the work directory left off.

    Args:
        config: the run.
        workdir: its directory, made if need be; see `workdir.py` for what it holds.
        restart: move a run that is there aside and begin anew.

    Returns:
        The trained state, evaluated and drawn; of several replicas, the chosen one's.

    Raises:
        UserError: something in the config, the data or the directory cannot work.
        Stopped: by SIGINT or SIGTERM, after saving.
        Diverged: a loss or a parameter is not finite; the last good state is kept.
    """
    workdir = Path(workdir)
    config.validate()
    evaluator_names(config)
    runs.check_run(workdir, config, restart, runs.INFOGAN)
    parallel.check_batch(config, parallel.make_mesh())
    data = load(config)
    image_shape = data.images.shape[1:]
    check_images(config, data)
    init = functools.partial(init_state, config=config, image_shape=image_shape)
    parallel.check_memory(init, data.images, config.seeds, parallel.make_mesh())
    runs.open_run(workdir, restart)
    runs.save_config(workdir, config, image_shape, data.class_names, runs.INFOGAN)
    figures.save(
        figures.sheet(data.images[: figures.ROWS * figures.COLUMNS], figures.COLUMNS),
        workdir / "figures" / "real.png",
    )

    spec = parse_spec(config.codes)
    folders = runs.replica_folders(workdir, config)
    parts = list(zip(folders, config.replicas(), strict=True))

    def on_frame(step, states):
        for (folder, alone), state in zip(parts, states, strict=True):
            latents = figures.grid_latents(figures.figure_key(alone.seed), spec)
            images = apply(generate, state, latents, config)
            figures.save_frame(folder, step, images)

    def on_checkpoint(step, states):
        for (_, alone), state in zip(parts, states, strict=True):
            for text in unlabelled.measure(state, alone, data.images)["warnings"]:
                print(f"warning: seed {alone.seed}, step {step:,}: {text}")

    def targets(step, states):
        from infogan_jax import regroup  # large packages, seldom needed

        return regroup.told_categories(step, states, config, data.images, workdir)

    epoch = len(data.images) // config.batch_size if config.regroup_at else 0
    ceilings = {code.name: code.ceiling() for code in spec}
    task = Task(
        init=init,
        train_step=make_train_step(config, image_shape),
        arrays=data.images,
        ceilings={f"information/{name}": value for name, value in ceilings.items()}
        | {f"information_real/{name}": value for name, value in ceilings.items()},
        evaluate=lambda state: evaluation_metrics(evaluate(state, config, data)),
        told=range(config.regroup_at, config.regroup_at + epoch),
        targets=targets,
        on_frame=on_frame,
        on_checkpoint=on_checkpoint,
    )
    states = fit(task, config, workdir)
    # Large packages, needed after the last step
    from infogan_jax.page import write_page
    from infogan_jax.replicas import report_all

    chosen = report_all(states, config, data, workdir)
    print(f"the report is {write_page(workdir, config.baseline)}")
    return states[chosen]


def train_classifier(
    config: Config, workdir: str | Path, restart: bool = False
) -> ClassifierState:
    """Trains a classification network, with labels, as `train` does an InfoGAN.

    Of the config it uses what concerns data, warps, the optimiser of D, and the run.
    """
    workdir = Path(workdir)
    config.validate()
    if config.seeds > 1:
        raise UserError(f"--seeds={config.seeds}: a classifier has one; set --seeds=1")
    runs.check_run(workdir, config, restart, runs.CLASSIFIER)
    parallel.check_batch(config, parallel.make_mesh())
    data = load(config, with_labels=True)
    image_shape = data.images.shape[1:]
    check_images(config, data)
    runs.open_run(workdir, restart)
    runs.save_config(workdir, config, image_shape, data.class_names, runs.CLASSIFIER)

    from infogan_jax.evaluation import classification

    classes = len(data.class_names)
    task = Task(
        init=functools.partial(
            init_classifier, config=config, image_shape=image_shape, n_classes=classes
        ),
        train_step=make_classifier_step(config, classes),
        arrays=(data.images, np.asarray(data.labels, np.int32)),
        ceilings={},
        evaluate=lambda state: {
            "eval/accuracy": classification.measure(state, config, data)["accuracy"]
        },
    )
    (state,) = fit(task, config, workdir)
    print("\n".join(report_classifier(state, config, data, workdir)))
    return state


def fit(task: Task, config: Config, workdir: Path) -> list[Any]:
    """The loop: from where the work directory left off to `config.steps`.

    Returns:
        The state of each replica.

    Raises:
        UserError: the replicas do not fit in memory.
        Stopped, Diverged: see `train`.
    """
    mesh, seeds = parallel.make_mesh(), [alone.seed for alone in config.replicas()]
    arrays = parallel.replicate(jax.tree.map(jnp.asarray, task.arrays), mesh)
    n, many = len(jax.tree.leaves(arrays)[0]), len(seeds) > 1

    # State
    checkpoints = Checkpoints(workdir, config.keep)
    state = parallel.place(runs.initial(task.init, config), mesh, len(seeds))
    if checkpoints.latest() is not None:
        state = checkpoints.restore(state)
        print(f"going on from step {_step(state):,}")
    elif any(workdir.glob("**/metrics.jsonl")):
        print("no checkpoint yet, beginning at step 0")
    step = _step(state)

    # Training
    run = parallel.make_run(task.train_step, mesh, config.log_every, len(seeds))
    folders = runs.replica_folders(workdir, config)
    files = [MetricsFile(folder, config.tensorboard, step) for folder in folders]
    progress = Progress(config, task.ceilings, step)
    stop = _SignalFlag()
    targets = None
    events = [config.log_every, config.checkpoint_every]
    events += [n for n in (config.frame_every, config.eval_every) if n]
    if step == 0 and config.frame_every:
        task.on_frame(0, runs.split(state, config))
    try:
        while step < config.steps and not stop.signum:
            # Up to the next step at which anything is due
            due = [n * (step // n + 1) for n in events]
            due += [turn for turn in (task.told.start, task.told.stop) if turn > step]
            end = min(config.steps, *due)
            batches = np.array(
                [
                    [
                        batch_indices(s, i, config.batch_size, n)
                        for i in range(step, end)
                    ]
                    for s in seeds
                ]
            )
            if step not in task.told:
                targets = None
            elif targets is None and task.targets:
                found = task.targets(step, runs.split(state, config))
                targets = parallel.place(found if many else found[0], mesh, len(seeds))
            own = (batches, targets) if many else (batches[0], targets)
            state, metrics = run(state, arrays, *own)
            values = {name: np.ravel(value) for name, value in metrics.items()}
            rows = [
                {name: float(value[r]) for name, value in values.items()}
                for r in range(len(seeds))
            ]
            _check_finite(rows, seeds, step, end, checkpoints)
            step = end

            # Log
            judged = config.eval_every and step % config.eval_every == 0
            if judged or step % config.log_every == 0 or step == config.steps:
                if judged:
                    for row, alone in zip(rows, runs.split(state, config), strict=True):
                        row |= task.evaluate(alone)
                for file, row in zip(files, rows, strict=True):
                    file.write(step, row)
                progress.show(step, rows)

            # Frame, checkpoint
            if config.frame_every and step % config.frame_every == 0:
                task.on_frame(step, runs.split(state, config))
            if step % config.checkpoint_every == 0:
                checkpoints.save(step, state)
                task.on_checkpoint(step, runs.split(state, config))
        checkpoints.save(step, state)
        checkpoints.wait()
    finally:
        progress.close()
        for file in files:
            file.close()
        checkpoints.close()
        stop.close()
    if stop.signum:
        raise Stopped(stop.signum, step, workdir)
    return runs.split(state, config)


def check_images(config: Config, data: Data) -> None:
    """Raises UserError if the networks or the batch do not suit the images."""
    try:
        build_networks(config, data.images.shape[1:], 1)
    except ValueError as error:
        raise UserError(str(error)) from None
    if len(data.images) < config.batch_size:
        raise UserError(
            f"--batch_size={config.batch_size}: the dataset has but {len(data.images)} "
            "training images; choose a smaller batch"
        )


def _step(state) -> int:
    return int(np.ravel(state.step)[0])


def _check_finite(rows, seeds, begin: int, end: int, checkpoints: Checkpoints) -> None:
    for row, seed in zip(rows, seeds, strict=True):
        broken = sorted(name for name, value in row.items() if not math.isfinite(value))
        if broken:
            last = checkpoints.latest()
            kept = (
                f"the state of step {last:,} is kept"
                if last
                else "nothing was saved yet"
            )
            whose = f"seed {seed}: " if len(seeds) > 1 else ""
            raise Diverged(
                f"{whose}{', '.join(broken)} not finite between steps {begin:,} and "
                f"{end:,}; {kept}. Likely cures: a smaller --d_learning_rate and "
                "--g_learning_rate, --dtype=float32, another --seed"
            )


class _SignalFlag:
    """Remembers the first SIGINT or SIGTERM; a second SIGINT ends at once."""

    def __init__(self):
        self.signum = 0
        self._former = {}
        try:
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._former[signum] = signal.signal(signum, self._note)
        except ValueError:
            pass  # not in the main thread: signals are somebody else's

    def _note(self, signum, frame):
        if self.signum:
            self.close()
            raise KeyboardInterrupt
        self.signum = signum
        print(f"\n{signal.Signals(signum).name}: saving", file=sys.stderr, flush=True)

    def close(self):
        for signum, handler in self._former.items():
            signal.signal(signum, handler)
