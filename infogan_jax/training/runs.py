"""A whole run: from a config to a trained and reported state."""

import dataclasses
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from infogan_jax.build import build_classifier, build_model
from infogan_jax.config import Config
from infogan_jax.core.classifier import ClassifierState, make_classifier_step
from infogan_jax.core.model import InfoGAN
from infogan_jax.core.state import TrainState
from infogan_jax.core.train_step import make_train_step
from infogan_jax.data import Data, fingerprint, is_streamed
from infogan_jax.distributed import devices, processes
from infogan_jax.distributed.roofline import network_costs
from infogan_jax.errors import UserError
from infogan_jax.evaluation import Subject, evaluate, label_free, scalar_metrics
from infogan_jax.inference import Trained, TrainedClassifier, precompile
from infogan_jax.pixels import with_names
from infogan_jax.reporting import draw, figures
from infogan_jax.run.dataset import (
    check_measurable,
    check_model,
    load_eval_classifier,
    open_data,
)
from infogan_jax.run.directory import Lock, Run
from infogan_jax.run.records import CLASSIFIER, INFOGAN, RunInfo, version
from infogan_jax.training.loop import fit
from infogan_jax.training.task import Task

logger = logging.getLogger(__name__)


def train(
    config: Config,
    workdir: str | Path,
    restart: bool = False,
    make_model: Callable[..., InfoGAN] = build_model,
    on_log: Callable[[int, list[dict[str, float]]], None] | None = None,
) -> TrainState:
    """Trains to `config.steps`, from where the work directory left off.

    What it does is logged by the loggers under "infogan_jax", mostly at level INFO.

    Args:
        config: the run.
        workdir: its directory, made if need be; see `run/directory.py`.
        restart: move a run that is there aside and start over.
        make_model: `(config, image_shape) -> InfoGAN`, for parts of your own. What
            later opens the work directory uses the config's model.
        on_log: called with the step and each member's metrics whenever they are
            logged, for a progress bar or a tracker; by the first process only.

    Returns:
        The trained state, evaluated and drawn; of several members, the chosen one's.
        Each of several processes returns it.

    Raises:
        UserError: the config, the data or the directory cannot work.
        Stopped: by SIGINT or SIGTERM, after saving.
        Diverged: a loss or a parameter is not finite; the last good state is kept.
    """
    config.check_trainable()
    with Lock() as lock:
        path = Path(workdir).absolute()
        data, borderline = open_data(config, path, restart, INFOGAN)
        model = make_model(config, data.images.shape[1:])
        check_model(config, model)
        classifier = load_eval_classifier(config, data)
        check_measurable(config, model, data, classifier)
        run = _open_run(config, path, restart, INFOGAN, data, model.init, lock)
        run = dataclasses.replace(run, own_model=model)
        if not run.has_metrics:
            _print_networks(model)
            _warn_of_settings(config, model)
        if processes.is_primary():
            draw.draw_real_images(run, data)
            if data.dropped:
                draw.draw_dropped(run, data.dropped)
            if borderline is not None:
                draw.draw_borderline(run, borderline)
        task = _infogan_task(run, model, data, classifier)
        states = fit(task._replace(on_log=on_log or task.on_log), run)

        def finish() -> int:
            # Large packages, needed after the last step.
            from infogan_jax.reporting.html import write_page
            from infogan_jax.reporting.report import report_run

            trained = [Trained(model, state) for state in states]
            chosen = report_run(run, trained, data, classifier)
            logger.info(f"the report is {write_page(run, config.baseline)}")
            return chosen

        return states[int(processes.broadcast(processes.on_primary(finish) or 0))]


def train_classifier(
    config: Config, workdir: str | Path, restart: bool = False
) -> ClassifierState:
    """Trains a classification network, with labels, as `train` does an InfoGAN.

    Args:
        config: of it what concerns data, augmentation, D's optimiser, and the run.
        workdir: its directory, made if need be.
        restart: move a run that is there aside and start over.

    Returns:
        The trained state, measured and drawn.

    Raises:
        UserError, Stopped, Diverged: as `train` does; and without labels.
    """
    if config.num_seeds > 1:
        raise UserError(
            f"--num_seeds={config.num_seeds}: a classifier has one; set --num_seeds=1"
        )
    with Lock() as lock:
        path = Path(workdir).absolute()
        data, _ = open_data(config, path, restart, CLASSIFIER)
        image_shape = data.images.shape[1:]
        model = build_classifier(config, image_shape, len(data.class_names))
        run = _open_run(config, path, restart, CLASSIFIER, data, model.init, lock)

        from infogan_jax.evaluation import classification  # imports large packages

        def trained(state: ClassifierState) -> TrainedClassifier:
            return TrainedClassifier(model, state, data.class_names)

        def accuracy(state: ClassifierState) -> dict[str, float]:
            measured = classification.measure(trained(state), data)
            return {"eval/accuracy": measured["accuracy"]}

        task = Task(
            init=model.init,
            train_step=make_classifier_step(model),
            arrays=(data.images, np.asarray(data.labels, np.int32)),
            evaluate=accuracy,
        )
        (state,) = fit(task, run)

        def finish() -> None:
            from infogan_jax.reporting.report import report_classifier

            logger.info("\n".join(report_classifier(run, trained(state), data)))

        processes.on_primary(finish)
        return state


def _infogan_task(
    run: Run, model: InfoGAN, data: Data, classifier: TrainedClassifier | None
) -> Task:
    config = run.config

    def measure(state: TrainState) -> dict[str, float]:
        subject = Subject(
            Trained(model, state), data, config.seed, config.composite, classifier
        )
        return scalar_metrics(evaluate(subject, config.evaluator_names()))

    def save_frames(step: int, states: list[TrainState]) -> None:
        for member, state in zip(run.members, states, strict=True):
            key = figures.figure_key(member.config.seed)
            latents = figures.grid_latents(key, model.spec)
            images = Trained(model, state).generate(latents)
            figures.save_frame(member.frames, step, images)

    def warn(step: int, states: list[TrainState]) -> None:
        for member, state in zip(run.members, states, strict=True):
            measured = label_free.measure(Trained(model, state), data.images)
            for text in measured.overall["warnings"]:
                logger.warning(f"seed {member.config.seed}, step {step:,}: {text}")

    def pseudo_labels(step: int, states: list[TrainState]) -> np.ndarray:
        # Large packages, rarely needed.
        from infogan_jax.training.pseudo_labels import pseudo_labels

        return pseudo_labels(
            step,
            [Trained(model, state) for state in states],
            config.seeds,
            data.images,
            run.pseudo_labels,
            config.pseudo_label_step,
        )

    bounds = {code.name: code.upper_bound() for code in model.spec}
    return Task(
        init=model.init,
        train_step=make_train_step(model),
        arrays=data.images,
        upper_bounds={f"mi_bound/{name}": value for name, value in bounds.items()}
        | {f"mi_real/{name}": value for name, value in bounds.items()},
        pseudo_label_step=config.pseudo_label_step or math.inf,
        evaluate=measure,
        precompile=lambda state: precompile(Trained(model, state)),
        pseudo_labels=pseudo_labels,
        on_sample=save_frames,
        on_checkpoint=warn,
    )


def _open_run(
    config: Config,
    path: Path,
    restart: bool,
    kind: str,
    data: Data,
    init: Callable[[jax.Array], Any],
    lock: Lock,
) -> Run:
    """Makes or opens the work directory, after all checks."""
    data_bytes = 0 if is_streamed(data.images) else data.images.nbytes
    devices.check_memory(init, data_bytes, config.num_seeds, devices.make_mesh())
    digest = fingerprint(data)
    shared = {"jax": version("jax"), "the data": digest}
    for name, value in vars(config).items():
        if name not in ("data_dir", "download_url"):  # may differ by machine
            shared[f"--{name}"] = value
    processes.check_equal(shared)
    # Three files for an image are no red, green and blue, whatever the colours
    names = config.names_of_channels() or data.channels
    composite = with_names(config.composite, names)
    info = RunInfo(
        kind,
        dataclasses.replace(config, composite=composite).with_absolute_paths(),
        data.images.shape[1:],
        list(data.class_names),
        data.channels,
        data.form,
        digest,
    )
    run = processes.on_primary(lambda: Run.create(path, info, restart, lock))
    processes.check_shared(path)
    return run or Run(path, info)


def _warn_of_settings(config: Config, model: InfoGAN) -> None:
    """Warns of settings that work but seldom well together."""
    category, step = model.category, config.pseudo_label_step
    is_learned = category is not None and category.is_prior_learned
    if is_learned and config.real_mi_weight and not 0 < step < config.steps:
        logger.warning(
            f"--codes={config.codes} --pseudo_label_step={step}: frequencies that are "
            "learned without pseudo-labels part the most frequent kind in two; "
            "--pseudo_label_step=1 finds the kinds by neighbours"
        )


def _print_networks(model: InfoGAN) -> None:
    for name, (parameters, flops) in network_costs(model).items():
        each = f", {flops / 1e6:,.1f} MFLOP an image" if flops else ""
        logger.info(f"{name}: {parameters:,} parameters{each}")
