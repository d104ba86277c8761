"""From a config to the models that are trained: the only place that builds them."""

from typing import Any

from infogan_jax.config import Config
from infogan_jax.core.augment import Augmentation, parse_warp
from infogan_jax.core.classifier import ImageClassifier
from infogan_jax.core.latents import Spec, param_dim
from infogan_jax.core.losses import GAN_LOSSES, PENALTIES, GanLoss
from infogan_jax.core.model import InfoGAN
from infogan_jax.core.models import ARCHITECTURES, DTYPES, ImageShape, Networks
from infogan_jax.core.models.classifier import Classifier
from infogan_jax.core.objective import Weights
from infogan_jax.core.spec import parse_spec
from infogan_jax.core.state import Optimizers, adam
from infogan_jax.errors import UserError


def build_model(
    config: Config,
    image_shape: ImageShape,
    *,
    spec: Spec | None = None,
    networks: Networks | None = None,
    gan_loss: GanLoss | None = None,
    augment: Augmentation | None = None,
    **own: Any,
) -> InfoGAN:
    """Returns the model that a config describes.

    Args:
        config: a run.
        image_shape: (height, width, channels).
        spec: codes of your own, in place of `config.codes`.
        networks: of your own, in place of `config.architecture`.
        gan_loss: of your own, in place of `config.gan_loss`.
        augment: of your own, in place of `config.augment`.
        **own: further fields of `InfoGAN`, such as `optimizers` or `d_terms`.

    Raises:
        UserError: the architecture cannot make such images.
        ValueError: what is your own does not go together; see `InfoGAN`.
    """
    spec = parse_spec(config.codes) if spec is None else spec
    if networks is None:
        networks = build_networks(config, image_shape, param_dim(spec))
    fields: dict[str, Any] = {
        "optimizers": Optimizers(
            _adam(config, config.g_learning_rate),
            _adam(config, config.d_learning_rate),
            _adam(config, config.d_learning_rate),
        ),
        "gan_loss": GAN_LOSSES[config.gan_loss] if gan_loss is None else gan_loss,
        "penalty": PENALTIES[config.penalty],
        "penalty_every": config.penalty_every,
        "augment": parse_warp(config.augment) if augment is None else augment,
        "augment_every": config.augment_every,
        "weights": Weights(
            gan=config.gan_weight,
            gan_on_copies=config.gan_on_copies,
            info=config.info_weight,
            real_mi=config.real_mi_weight,
            entropy=config.entropy_weight,
            consistency_fraction=config.consistency_fraction,
            equivariance=config.equivariance_weight,
            prior=config.prior_weight,
            penalty=config.penalty_weight,
        ),
        "ema_decay": config.ema_decay,
    }
    return InfoGAN(spec, image_shape, networks, **(fields | own))


def build_networks(config: Config, image_shape: ImageShape, n_params: int) -> Networks:
    """Returns G, D and Q of `config.architecture`.

    Args:
        config: a run.
        image_shape: (height, width, channels).
        n_params: width of Q's output, `latents.param_dim` of the codes.

    Raises:
        UserError: the architecture cannot make such images.
    """
    architecture = ARCHITECTURES[config.architecture]
    try:
        return architecture.build(
            image_shape, config.base_channels, n_params, DTYPES[config.dtype]
        )
    except ValueError as error:
        raise UserError(str(error)) from None


def build_classifier(
    config: Config, image_shape: ImageShape, n_classes: int
) -> ImageClassifier:
    """Returns the classification network of a config.

    Args:
        config: its augmentation, arithmetic, and the step size of D.
        image_shape: (height, width, channels).
        n_classes: how many classes it tells apart.
    """
    return ImageClassifier(
        image_shape,
        Classifier(n_classes, dtype=DTYPES[config.dtype]),
        _adam(config, config.d_learning_rate),
        parse_warp(config.augment),
        config.ema_decay,
    )


def _adam(config: Config, rate: float) -> Any:
    return adam(
        rate, config.adam_b1, config.adam_b2, config.steps, config.lr_decay_fraction
    )
