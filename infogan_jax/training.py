"""Training, from a config to a trained state: one flat loop."""

import math
import signal
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from infogan_jax import figures, parallel
from infogan_jax import workdir as runs
from infogan_jax.checkpoints import Checkpoints
from infogan_jax.config import Config, UserError
from infogan_jax.data import Data, batch_indices, load
from infogan_jax.latents import parse_spec
from infogan_jax.models import build_networks
from infogan_jax.report import (
    category_order,
    evaluate,
    evaluation_metrics,
    evaluator_names,
    report,
)
from infogan_jax.state import TrainState, init_state
from infogan_jax.steps import generate
from infogan_jax.writers import Writer

_GIF_FRAMES = 32  # of the animation; all frames stay in frames/


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


def train(config: Config, workdir: str | Path, restart: bool = False) -> TrainState:
    """Trains to `config.steps`, from where the work directory left off.

    Args:
        config: the run.
        workdir: its directory, made if need be; see `workdir.py` for what it holds.
        restart: move a run that is there aside and begin anew.

    Returns:
        The trained state, evaluated and drawn.

    Raises:
        UserError: something in the config, the data or the directory cannot work.
        Stopped: by SIGINT or SIGTERM, after saving.
        Diverged: a loss or a parameter is not finite; the last good state is kept.
    """
    workdir = Path(workdir)
    config.validate()
    evaluator_names(config)
    runs.check_run(workdir, config, restart)
    mesh = parallel.make_mesh()
    parallel.check_batch(config, mesh.size)

    # Data
    data = load(config)
    image_shape = data.images.shape[1:]
    check_images(config, data)

    # Work directory
    runs.open_run(workdir, restart)
    runs.save_config(workdir, config, image_shape, data.class_names)
    images = parallel.replicate(jnp.asarray(data.images), mesh)

    # State
    key = jax.random.key(config.seed)
    state = parallel.replicate(init_state(key, config, image_shape), mesh)
    checkpoints = Checkpoints(workdir, config.keep)
    if checkpoints.latest() is not None:
        state = checkpoints.restore(state)
        print(f"going on from step {int(state.step):,}")
    elif (workdir / "metrics.jsonl").exists():
        print("no checkpoint yet, beginning at step 0")
    step = int(state.step)

    # Training
    spec = parse_spec(config.codes)
    latents = figures.grid_latents(figures.figure_key(config.seed), spec)
    draw_frame = jax.jit(lambda state: generate(state, latents, config))
    run = parallel.make_run(config, image_shape, mesh)
    writer = Writer(workdir, config, spec, step)
    stop = _SignalFlag()
    events = [config.log_every, config.checkpoint_every]
    events += [n for n in (config.frame_every, config.eval_every) if n]
    if step == 0:
        _save_data_sheet(workdir, data)
        if config.frame_every:
            _save_frame(workdir, 0, draw_frame(state))
    try:
        while step < config.steps and not stop.signum:
            # Up to the next step at which anything is due
            end = min(config.steps, *(n * (step // n + 1) for n in events))
            batches = np.stack(
                [
                    batch_indices(config.seed, s, config.batch_size, len(images))
                    for s in range(step, end)
                ]
            )
            state, metrics = run(state, images, batches)
            metrics = {name: float(value) for name, value in metrics.items()}
            _check_finite(metrics, step, end, checkpoints)
            step = end

            # Log
            if step % config.log_every == 0 or step == config.steps:
                if config.eval_every and step % config.eval_every == 0:
                    metrics |= evaluation_metrics(evaluate(state, config, data))
                writer.write(step, metrics)
                writer.progress(step, metrics)

            # Frame, checkpoint
            if config.frame_every and step % config.frame_every == 0:
                _save_frame(workdir, step, draw_frame(state))
            if step % config.checkpoint_every == 0:
                checkpoints.save(state)
        checkpoints.save(state)
        checkpoints.wait()
    finally:
        writer.close()
        checkpoints.close()
        stop.close()
    if stop.signum:
        raise Stopped(stop.signum, step, workdir)

    # Evaluation and figures
    results = report(state, config, data, workdir)
    draw_animation(
        workdir, image_shape, *category_order(config, results, data.class_names)
    )
    return state


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


def draw_animation(
    workdir: Path,
    image_shape: tuple[int, int, int],
    order: list[int],
    names: list[str],
) -> None:
    """figures/training.gif, from the frames; `order` and `names` are of their rows."""
    paths = sorted((workdir / "frames").glob("*.png"))
    if not paths:
        return
    thinned = paths[:: -(-len(paths) // _GIF_FRAMES)]
    if thinned[-1] != paths[-1]:
        thinned.append(paths[-1])
    frames = [
        (int(p.stem), np.asarray(Image.open(p)).reshape(-1, *image_shape))
        for p in thinned
    ]
    figures.animation(
        frames, workdir / "figures" / "training.gif", order, row_labels=names
    )


def _save_frame(workdir: Path, step: int, images: jax.Array) -> None:
    images = figures.to_uint8(images)
    column = figures.to_picture(images.reshape(-1, *images.shape[2:]))
    figures.save(column, workdir / "frames" / f"{step:08d}.png")


def _save_data_sheet(workdir: Path, data: Data) -> None:
    images = data.images[: figures.ROWS * figures.COLUMNS]
    figures.save(
        figures.sheet(images, figures.COLUMNS), workdir / "figures" / "real.png"
    )


def _check_finite(metrics, begin: int, end: int, checkpoints: Checkpoints) -> None:
    broken = sorted(name for name, value in metrics.items() if not math.isfinite(value))
    if broken:
        last = checkpoints.latest()
        kept = (
            f"the state of step {last:,} is kept" if last else "nothing was saved yet"
        )
        raise Diverged(
            f"{', '.join(broken)} not finite between steps {begin:,} and {end:,}; "
            f"{kept}. Likely cures: a smaller --d_learning_rate and --g_learning_rate, "
            "--dtype=float32, another --seed"
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
