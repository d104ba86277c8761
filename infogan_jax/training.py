"""Training, from a config to a trained state: one flat loop."""

import contextlib
import dataclasses
import functools
import math
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from infogan_jax import figures, parallel, processes
from infogan_jax import workdir as runs
from infogan_jax.augment import parse_warp
from infogan_jax.checkpoints import Checkpoints, named_leaves
from infogan_jax.classifier import (
    ClassifierState,
    init_classifier,
    make_classifier_step,
)
from infogan_jax.config import Config, UserError
from infogan_jax.data import (
    Data,
    StoredImages,
    Stream,
    batch_indices,
    fingerprint,
    is_streamed,
    look_up,
    prepare,
)
from infogan_jax.evaluation import evaluator_names, unlabelled
from infogan_jax.evaluation.inference import apply
from infogan_jax.evaluation.judge import check_judges
from infogan_jax.filtering import apply_filter
from infogan_jax.floor import network_costs, step_floor
from infogan_jax.latents import parse_spec
from infogan_jax.models import build_networks
from infogan_jax.report import (
    evaluate,
    evaluation_metrics,
    report_classifier,
)
from infogan_jax.state import TrainState, init_state
from infogan_jax.steps import generate, make_train_step
from infogan_jax.writers import Means, MetricsFile, Progress


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
    behind `on_` get the state of each replica; of several processes the first calls
    them, and `evaluate` and `targets`.
    """

    init: Callable[[jax.Array], Any]  # key of the run -> state
    train_step: Callable  # (state, batch) -> (state, metrics), or with targets
    arrays: Any  # the training set, `[N, ...]` each; a batch has B rows of each
    ceilings: dict[str, float]  # metric -> its ceiling, for the progress line
    evaluate: Callable[[Any], dict[str, float]]  # state -> measures, on held-out images
    told_from: float = math.inf  # the first step that has targets, as all later ones
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
        In each of several processes, whose work directory is one.

    Raises:
        UserError: something in the config, the data or the directory cannot work.
        Stopped: by SIGINT or SIGTERM, after saving.
        Diverged: a loss or a parameter is not finite; the last good state is kept.
    """
    with runs.Lock() as lock:
        return _train(config, Path(workdir).absolute(), restart, lock)


def _train(config: Config, workdir: Path, restart: bool, lock: runs.Lock) -> TrainState:
    config.validate()
    evaluator_names(config)
    data, doubtful = _load(config, workdir, restart, runs.INFOGAN)
    check_judges(config, data)
    image_shape = data.images.shape[1:]
    init = functools.partial(init_state, config=config, image_shape=image_shape)
    _open(config, workdir, restart, runs.INFOGAN, data, init, lock)
    if not any(workdir.glob("**/metrics.jsonl")):
        for name, (parameters, flops) in network_costs(config, image_shape).items():
            each = f", {flops / 1e6:,.1f} MFLOP an image" if flops else ""
            print(f"{name}: {parameters:,} parameters{each}")
    if processes.is_first():
        some = data.images[: figures.ROWS * figures.COLUMNS]
        sheet = figures.sheet(some, figures.COLUMNS, colours=config.composite)
        figures.save(sheet, workdir / "figures" / "real.png")
        if doubtful is not None:
            figures.save(doubtful, workdir / "figures" / "filter.png")

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

    ceilings = {code.name: code.ceiling() for code in spec}
    task = Task(
        init=init,
        train_step=make_train_step(config, image_shape),
        arrays=data.images,
        ceilings={f"information/{name}": value for name, value in ceilings.items()}
        | {f"information_real/{name}": value for name, value in ceilings.items()},
        evaluate=lambda state: evaluation_metrics(evaluate(state, config, data)),
        told_from=config.regroup_at or math.inf,
        targets=targets,
        on_frame=on_frame,
        on_checkpoint=on_checkpoint,
    )
    states = fit(task, config, workdir)

    def finish():
        # Large packages, needed after the last step
        from infogan_jax.page import write_page
        from infogan_jax.replicas import report_all

        chosen = report_all(states, config, data, workdir)
        print(f"the report is {write_page(workdir, config.baseline)}")
        return chosen

    return states[int(processes.from_first(processes.at_first(finish) or 0))]


def train_classifier(
    config: Config, workdir: str | Path, restart: bool = False
) -> ClassifierState:
    """Trains a classification network, with labels, as `train` does an InfoGAN.

    Of the config it uses what concerns data, warps, the optimiser of D, and the run.
    """
    with runs.Lock() as lock:
        return _train_classifier(config, Path(workdir).absolute(), restart, lock)


def _train_classifier(
    config: Config, workdir: Path, restart: bool, lock: runs.Lock
) -> ClassifierState:
    config.validate()
    if config.seeds > 1:
        raise UserError(f"--seeds={config.seeds}: a classifier has one; set --seeds=1")
    data, _ = _load(config, workdir, restart, runs.CLASSIFIER)
    classes = len(data.class_names)
    init = functools.partial(
        init_classifier,
        config=config,
        image_shape=data.images.shape[1:],
        n_classes=classes,
    )
    _open(config, workdir, restart, runs.CLASSIFIER, data, init, lock)

    from infogan_jax.evaluation import classification

    task = Task(
        init=init,
        train_step=make_classifier_step(config, classes),
        arrays=(data.images, np.asarray(data.labels, np.int32)),
        ceilings={},
        evaluate=lambda state: {
            "eval/accuracy": classification.measure(state, config, data)["accuracy"]
        },
    )
    (state,) = fit(task, config, workdir)
    processes.at_first(
        lambda: print("\n".join(report_classifier(state, config, data, workdir)))
    )
    return state


def _load(
    config: Config, workdir: Path, restart: bool, kind: str
) -> tuple[Data, Image.Image | None]:
    """The data, after all checks that need none, and the sheet of a filter.

    Training images are still to be brought into memory, if they are to be there.
    """
    if side := config.image_size:  # before memory is taken for such images
        check_networks(config, (side, side, 1))
    processes.at_first(lambda: runs.check_run(workdir, config, restart, kind))
    parallel.check_batch(config, parallel.make_mesh())
    processes.at_first(lambda: prepare(config))
    most_bytes = parallel.most_resident_bytes()
    with_labels = kind == runs.CLASSIFIER

    def look():
        return apply_filter(config, look_up(config, with_labels, most_bytes))

    return processes.everywhere(look)


def _open(
    config: Config,
    workdir: Path,
    restart: bool,
    kind: str,
    data: Data,
    init: Callable,
    lock: runs.Lock,
) -> None:
    """The work directory of the run, after all checks."""
    check_images(config, data)
    held = 0 if is_streamed(data.images) else data.images.nbytes
    parallel.check_memory(init, held, config.seeds, parallel.make_mesh())
    digest = fingerprint(data)
    alike = {"jax": runs.version("jax"), "the data": digest}
    for name, value in dataclasses.asdict(config).items():
        if name not in ("data_dir", "mirror"):  # each machine may have its own
            alike[f"--{name}"] = value
    processes.check_alike(alike)
    about = {
        "image_shape": list(data.images.shape[1:]),
        "class_names": list(data.class_names),
        "ranges": data.ranges,
        "channels": data.channels,
        "data": digest,
    }

    def write():
        if not restart:
            runs.check_data(workdir, config, digest)
        runs.open_run(workdir, restart, lock)
        runs.check_run(workdir, config, False, kind)  # what came before the lock
        runs.save_config(workdir, config, kind, about)

    processes.at_first(write)
    processes.check_shared(workdir)


def fit(task: Task, config: Config, workdir: Path) -> list[Any]:
    """The loop: from where the work directory left off to `config.steps`.

    Returns:
        The state of each replica.

    Raises:
        Stopped, Diverged: see `train`.
    """
    with contextlib.closing(_SignalFlag()) as stop:
        return _fit(task, config, workdir, stop)


def _fit(task: Task, config: Config, workdir: Path, stop: "_SignalFlag") -> list[Any]:
    mesh, seeds = parallel.make_mesh(), [alone.seed for alone in config.replicas()]
    placement = parallel.placement(mesh, len(seeds))
    first = processes.is_first()

    # The loop, compiled while the data are read and the state is made or read
    checkpoints = Checkpoints(workdir, config.keep)
    feed = _Feed(task, config, mesh)
    run = parallel.make_run(task.train_step, mesh, feed.most, len(seeds), feed.streamed)
    begin, ahead = checkpoints.latest() or 0, None
    if begin < min(config.steps, task.told_from):
        begun = jax.eval_shape(lambda: runs.initial(task.init, config))
        inputs = parallel.shapes(begun, placement), *feed.take(begin, begin + 1)
        ahead = _aside(run.lower(*inputs).compile)
    reading = _aside(feed.read)

    # State
    def last_good():
        begun = runs.initial(task.init, config, placement)
        if checkpoints.latest() is None:
            return begun, Means()
        found = checkpoints.restore(begun)
        checkpoints.set_damaged_aside()
        return found, Means(checkpoints.notes())

    state, means = last_good()
    step = _step(state)
    if step:
        print(f"going on from step {step:,}")
    elif any(workdir.glob("**/metrics.jsonl")):
        print("no checkpoint yet, beginning at step 0")

    def on_first(callback):
        states = runs.split(state, config)
        if first:
            callback(step, states)

    def interruptible(action, *inputs):
        """What takes long: a signal does not wait for it, for all is saved before."""
        if step:
            checkpoints.save(step, state, means.notes())
        signum, made = stop.until_asked(action, *inputs)
        if signum:
            raise Stopped(signum, step, workdir)
        return made

    processes.everywhere(lambda: interruptible(reading.result))
    feed.put()

    # Training
    next_stop = functools.partial(_next_stop, config, task.told_from)
    pace = _Pace(feed.most)
    files = _metrics_files(workdir, config, step)
    progress = Progress(config, task.ceilings, step)
    stream = Stream(feed.take)
    targets, retries, compiled = None, _Retries(), {}
    harmed, why = np.zeros(len(seeds), bool), []  # replicas not finite, and what is not
    traced = next_stop(step) if config.profile and first else None
    if traced is not None:
        progress.floor = feed.floor()
    if step == 0 and config.frame_every:
        on_first(task.on_frame)
    if ahead and config.eval_every and jax.default_backend() != "cpu":
        # Its programs, too, are compiled beside the loop; two cores would not gain
        on_first(lambda step, states: task.evaluate(states[0]))
    try:
        end = min(step + 1, config.steps)
        while True:
            signum, steps = processes.largest(stop.signum, pace.steps)
            if step >= config.steps or (signum and not harmed.any()):
                break
            arrays, batches = stream.get(step, end)
            then = min(next_stop(end), end + steps)
            if end < config.steps:
                stream.ask(end, then)
            if step < task.told_from:
                targets = None
            elif targets is None:
                states = runs.split(state, config)
                find = (task.targets, step, states) if first else (feed.no_targets,)
                found = processes.everywhere(lambda find=find: interruptible(*find))
                found = processes.from_first(found)
                found = found if len(seeds) > 1 else found[0]
                targets = jax.device_put(found, placement)
            inputs = state, arrays, batches, targets
            told = targets is not None
            if told not in compiled:
                compiled[told] = interruptible(
                    ahead.result if ahead and not told else run.lower(*inputs).compile
                )
            with _trace(workdir) if step == traced else contextlib.nullcontext():
                begun = time.perf_counter()
                state, metrics, norm = compiled[told](*inputs)
                metrics, norm = parallel.gather((metrics, norm))
                metrics = {
                    name: np.asarray(rows).reshape(len(seeds), -1)[:, : end - step]
                    for name, rows in metrics.items()
                }
                norm = np.ravel(norm)
            pace.observe(end - step, time.perf_counter() - begun)
            bad = ~_is_finite(metrics, norm) & ~harmed
            if bad.any():
                states = runs.split(state, config)
                why += _not_finite(states, metrics, norm, seeds, bad, (step, end))
                harmed |= bad
            stops = config.on_nonfinite == "stop"
            # Back when something is due, so that it does not matter where calls end
            if harmed.any() and (stops or end == next_stop(step)):
                what = "; ".join(why)
                checkpoints.wait()
                last = checkpoints.latest() or 0
                retries.count(last, harmed)
                if stops or retries.number > _RETRIES:
                    more = _ROLLBACK if stops else ""
                    raise Diverged(f"{what}; {retries.told()}. {_CURES}{more}")
                progress.close()
                print(
                    f"warning: {what}; back to step {last:,} with other random "
                    f"numbers, {retries.number} of {_RETRIES}"
                )
                harmed, why = np.zeros_like(harmed), []
                (state, means), targets = last_good(), None
                step = _step(state)
                end = min(next_stop(step), step + steps)
                progress.go_back(step)
                keys = parallel.other_keys(
                    state.key, retries.harmed, retries.number, placement
                )
                state = state.replace(key=keys)
                for file in files:
                    file.close()
                files = _metrics_files(workdir, config, step)
                continue
            step, end = end, then
            means.add(metrics)

            # Log
            judged = config.eval_every and step % config.eval_every == 0
            if judged or step % config.log_every == 0 or step == config.steps:
                row = means.take() | {"norm/state": norm}
                rows = [
                    {name: float(values[r]) for name, values in row.items()}
                    for r in range(len(seeds))
                ]
                states = runs.split(state, config) if judged else []
                for row, alone in zip(rows, states if first else [], strict=False):
                    row |= task.evaluate(alone)
                for file, row in zip(files, rows, strict=False):
                    file.write(step, row)
                progress.show(step, rows, stream.rates() if feed.streamed else None)

            # Frame, checkpoint
            if config.frame_every and step % config.frame_every == 0:
                on_first(task.on_frame)
            if step % config.checkpoint_every == 0:
                checkpoints.save(step, state, means.notes())
                progress.close()
                on_first(task.on_checkpoint)
        checkpoints.save(step, state, means.notes())
        checkpoints.wait()
        (signum,) = processes.largest(stop.signum)
    finally:
        progress.close()
        for file in files:
            file.close()
        stream.close()
        checkpoints.close()
    if signum:
        raise Stopped(signum, step, workdir)
    return runs.split(state, config)


def _next_stop(config: Config, told_from: float, step: int) -> int:
    """The next step at which anything is due."""
    due = [n * (step // n + 1) for n in _intervals(config)]
    if step < told_from:
        due.append(told_from)
    return min(config.steps, *due)


def _intervals(config: Config) -> list[int]:
    """Steps between what is due again and again."""
    always = [config.log_every, config.checkpoint_every]
    return always + [n for n in (config.frame_every, config.eval_every) if n]


_MOST_STEPS, _MOST_BYTES = 1000, 2**27  # of one call; of what is streamed to it


def _aside(action: Callable, *inputs) -> Future:
    """What the action will return; it runs in a thread of its own."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(action, *inputs)
    pool.shutdown(wait=False)
    return future


class _Feed:
    """What the compiled run takes: all data, or a stretch of batches at a time.

    All data are shapes until they are `read`, and `put` on the devices.
    """

    def __init__(self, task: Task, config: Config, mesh):
        self._task, self._config, self._mesh = task, config, mesh
        leaves = jax.tree.leaves(task.arrays)
        self._size = len(leaves[0])
        self.streamed = any(is_streamed(x) for x in leaves)
        self._resident = None
        if not self.streamed:
            whole = parallel.placement(mesh)
            self._resident = parallel.shapes(task.arrays, whole)
        # The most steps of one call: less than between any two that are due, and of
        # streamed ones what is made for so many
        self.most = min(_MOST_STEPS, config.steps, *_intervals(config))
        if self.streamed:
            rows = config.seeds * config.batch_size
            each = sum(rows * math.prod(x.shape[1:]) * x.dtype.itemsize for x in leaves)
            self.most = max(1, min(self.most, _MOST_BYTES // each))

    def read(self) -> None:
        """From disk, what is to be in memory."""
        for array in jax.tree.leaves(self._task.arrays):
            if isinstance(array, StoredImages):
                array.bring()

    def put(self) -> None:
        """On the devices, if they are to be there."""
        if not self.streamed:
            arrays = jax.tree.map(lambda x: jnp.asarray(x[:]), self._task.arrays)
            self._resident = parallel.replicate(arrays, self._mesh)

    def take(self, begin: int, end: int) -> tuple[Any, np.ndarray]:
        """Arrays and batches for the steps from begin to before end."""
        config = self._config
        batches = np.array(
            [
                [
                    batch_indices(alone.seed, step, config.batch_size, self._size)
                    for step in range(begin, end)
                ]
                for alone in config.replicas()
            ]
        )
        batches = batches if config.seeds > 1 else batches[0]
        if not self.streamed:
            return self._resident, batches
        stretch = parallel.load_batches(
            self._task.arrays, batches, self._mesh, self.most, config.seeds
        )
        return stretch, batches

    def no_targets(self) -> np.ndarray:
        """What stands for targets until the first process tells them."""
        return np.zeros((self._config.seeds, self._size), np.int32)

    def floor(self) -> float:
        """Seconds that a step of all replicas takes at least; see `floor.py`."""
        batch = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(
                (self._config.batch_size, *x.shape[1:]), x.dtype
            ),
            self._task.arrays,
        )
        alone = jax.eval_shape(self._task.init, jax.random.key(0))
        seconds = step_floor(self._task.train_step, alone, batch, self._config.dtype)
        # The rates are those of all that a device has, even if others share it
        return seconds * self._config.seeds * parallel.sharing() / self._mesh.size


def _trace(workdir: Path):
    """A trace for TensorBoard and Perfetto."""
    return jax.profiler.trace(str(workdir / "profile"), create_perfetto_trace=True)


def check_images(config: Config, data: Data) -> None:
    """Raises UserError if networks, warp, batch or colours do not suit the images."""
    channels, warp = data.images.shape[-1], parse_warp(config.warp)
    if warp and warp.alone > channels:
        raise UserError(
            f"--warp={config.warp}: no channel {warp.alone:g}; the images of "
            f"--dataset={config.dataset} have {channels}"
        )
    try:
        figures.parse_colours(config.composite)
    except ValueError as error:
        raise UserError(f"--composite={config.composite}: {error}") from None
    check_networks(config, data.images.shape[1:])
    if len(data.images) < config.batch_size:
        raise UserError(
            f"--batch_size={config.batch_size}: the dataset has but {len(data.images)} "
            "training images; choose a smaller batch"
        )


def check_networks(config: Config, image_shape: tuple[int, int, int]) -> None:
    """Raises UserError unless there are networks for such images."""
    try:
        build_networks(config, image_shape, 1)
    except ValueError as error:
        raise UserError(str(error)) from None


def _step(state) -> int:
    return int(np.ravel(parallel.gather(state.step))[0])


def _metrics_files(workdir: Path, config: Config, step: int) -> list[MetricsFile]:
    """Of each replica, from a step on; of several processes the first has them."""
    folders = runs.replica_folders(workdir, config) if processes.is_first() else []
    return [MetricsFile(folder, config.tensorboard, step) for folder in folders]


def _is_finite(metrics: dict[str, np.ndarray], norm: np.ndarray) -> np.ndarray:
    """Of each replica whether all metrics, `[R, K]`, and the norm, `[R]`, are."""
    finite = [np.isfinite(values).all(axis=1) for values in metrics.values()]
    return np.logical_and.reduce([*finite, np.isfinite(norm)])


class _Retries:
    """How often training went back to one state, and for the sake of which replicas."""

    def __init__(self):
        self.number, self.harmed = 0, np.array(False)
        self._last = -1

    def count(self, last: int, harmed: np.ndarray) -> None:
        """Once more, to the state of step `last`, because of some replicas, `[R]`."""
        if last != self._last:
            self.number, self.harmed, self._last = 0, np.array(False), last
        self.number += 1
        self.harmed = self.harmed | harmed

    def told(self) -> str:
        tries = f"{self.number} times; " if self.number > 1 else ""
        kept = f"the state of step {self._last:,} is kept"
        return tries + (kept if self._last else "nothing was saved yet")


_RETRIES = 3  # times that training goes back to one state before it gives up
_SHOWN = 3  # metrics and tensors that a message names
_CURES = (
    "Likely cures: a smaller --d_learning_rate and --g_learning_rate, "
    "--dtype=float32, another --seed"
)
_ROLLBACK = ", --on_nonfinite=rollback"


def _not_finite(states, metrics, norm, seeds, bad, steps: tuple[int, int]) -> list[str]:
    """Of each bad replica, what is not finite, and by which step it shows.

    Parameters are looked at after the last step only; before, they show by the metrics
    of the step after the one that broke them.
    """
    begin, end = steps
    told = []
    for r in np.flatnonzero(bad):
        state, seed = states[r], seeds[r]
        broken = {name: ~np.isfinite(values[r]) for name, values in metrics.items()}
        since = {n: begin + 1 + int(x.argmax()) for n, x in broken.items() if x.any()}
        if not np.isfinite(norm[r]):
            since["norm/state"] = end
        tensors = [
            name
            for name, leaf in named_leaves(state.variables()).items()
            if not np.isfinite(np.asarray(leaf, np.float32)).all()
        ]
        whose = f"seed {seed}: " if len(seeds) > 1 else ""
        where = f" (in {_some(tensors)})" if tensors else ""
        told.append(
            f"{whose}{_some(sorted(since))} not finite by step "
            f"{min(since.values()):,}{where}"
        )
    return told


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


_CALL = 1.0  # seconds of one compiled call, for which a signal waits


class _Pace:
    """How many steps one compiled call takes, by the time that the last one took."""

    def __init__(self, most: int):
        self.steps, self._most = 1, most

    def observe(self, steps: int, seconds: float) -> None:
        """So many steps took so long."""
        self.steps = max(1, min(self._most, int(_CALL * steps / seconds)))


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

    def until_asked(self, action: Callable, *inputs) -> tuple[int, Any]:
        """0 and what the action returns, or soon after a signal its number and None.

        Of several processes a signal to any is one to all. The action then goes on in
        its thread, for nothing; `main.py` does not wait for that. It must not execute
        what needs several devices: these might wait for each other.
        """
        future = _aside(action, *inputs)
        while True:
            signum, busy = processes.largest(self.signum, not future.done())
            if signum:
                wait([future], timeout=0.5)  # what is about to end may write caches
                return signum, None
            if not busy:
                return 0, future.result()
            wait([future], timeout=0.1)

    def _note(self, signum, frame):
        if self.signum and signum == signal.SIGINT:
            self.close()
            raise KeyboardInterrupt
        if self.signum:
            return  # a cluster may send SIGTERM to a group and to each of its members
        self.signum = signum
        print(f"\n{signal.Signals(signum).name}: saving", file=sys.stderr, flush=True)

    def close(self):
        for signum, handler in self._former.items():
            signal.signal(signum, handler)
