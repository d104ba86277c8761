"""The data of a run, after every check that can be made before work begins."""

from pathlib import Path

from infogan_jax import data as datasets
from infogan_jax.config import Config
from infogan_jax.core.augment import parse_warp
from infogan_jax.core.model import InfoGAN
from infogan_jax.data import Data
from infogan_jax.distributed import devices, processes
from infogan_jax.errors import UserError
from infogan_jax.inference import TrainedClassifier
from infogan_jax.pixels import parse_composite
from infogan_jax.run.directory import Run
from infogan_jax.run.filter import Borderline, apply_filter, named_by
from infogan_jax.run.records import CLASSIFIER


def open_data(
    config: Config, workdir: Path, restart: bool, kind: str
) -> tuple[Data, Borderline | None]:
    """Returns the data of a run that is about to start, and a filter's examples.

    Training images are not read yet, except those that a filter has to look at.

    Raises:
        UserError: the config cannot run in the directory, or on these images.
    """
    processes.on_primary(lambda: Run.check(workdir, config, restart, kind))
    processes.on_primary(lambda: datasets.prepare(config))
    max_bytes = devices.max_resident_bytes()
    with_labels = kind == CLASSIFIER

    def load() -> tuple[Data, Borderline | None]:
        return apply_filter(
            config, datasets.open_dataset(config, with_labels, max_bytes)
        )

    data, borderline = processes.on_all(load)
    check_images(config, data)
    return data, borderline


def check_images(config: Config, data: Data) -> None:
    """Raises UserError unless batch, colours and augmentation suit the images."""
    channels, augment = data.images.shape[-1], parse_warp(config.augment)
    if augment and augment.isolate_channel > channels:
        raise UserError(
            f"--augment={config.augment}: no channel {augment.isolate_channel:g}; the "
            f"images of --dataset={config.dataset} have {channels}"
        )
    try:
        parse_composite(config.composite)
    except ValueError as error:
        raise UserError(f"--composite={config.composite}: {error}") from None
    if len(data.images) < config.batch_size:
        raise UserError(
            f"--batch_size={config.batch_size}: the dataset has only "
            f"{len(data.images)} training images; choose a smaller batch"
        )


def check_model(config: Config, model: InfoGAN) -> None:
    """Raises UserError unless each device can share the model's batches."""
    mesh, parts = devices.make_mesh(), model.parts_of_batch
    devices.check_batch(config.batch_size, parts, config.num_seeds, mesh)


def load_eval_classifier(config: Config, data: Data) -> TrainedClassifier | None:
    """Returns the classification network of `config.eval_classifier`, if one is named.

    Raises:
        UserError: there is none, or it is of another dataset's classes or image shape.
    """
    named = config.eval_classifier
    if not named:
        return None
    with named_by("eval_classifier", named) as folder:
        trained = Run.open(folder, CLASSIFIER)
        classifier = trained.load_classifier()
    image_shape, classes = trained.info.image_shape, trained.info.class_names
    if classes != data.class_names or image_shape != data.images.shape[1:]:
        raise UserError(
            f"--eval_classifier={named}: is of images {image_shape} in classes "
            f"{classes}; expected {data.images.shape[1:]} in {data.class_names}"
        )
    return classifier


def check_measurable(
    config: Config, model: InfoGAN, data: Data, classifier: TrainedClassifier | None
) -> None:
    """Raises UserError before a training whose end could not be measured."""
    needs_classifier = (
        "conditional_accuracy" in config.evaluator_names()
        and model.category is not None
        and data.eval_labels is not None
    )
    if needs_classifier and classifier is None:
        raise UserError(
            "--eval_classifier: expected the work directory of a classification "
            "network; train one by --mode=train_classifier"
        )
    if "disentanglement" in config.evaluator_names():
        from infogan_jax.evaluation import disentanglement  # imports large packages

        disentanglement.factors_of(data)
    if "treatments" in config.evaluator_names() and config.comparisons():
        from infogan_jax.evaluation import treatments

        treatments.table_of(data, config.comparisons())
    if config.baseline:
        with named_by("baseline", config.baseline) as folder:
            Run.open(folder)
