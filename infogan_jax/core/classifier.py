"""The classification network: a model, its state and its step, with labels.

It plays no part in the training of an InfoGAN. It measures generated images, and lends
its features to distances between sets of images.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

from infogan_jax.core.augment import Augmentation, augment_batch
from infogan_jax.core.latents import Array
from infogan_jax.core.model import Images, as_float
from infogan_jax.core.models import ImageShape
from infogan_jax.core.models.classifier import Classifier
from infogan_jax.core.objective import Metrics
from infogan_jax.core.state import Net, apply_gradients, update_ema


@flax.struct.dataclass
class ClassifierState:
    """Everything that a classifier's run needs in order to continue."""

    step: Array
    key: Array  # constant; every draw is a function of (key, step)
    net: Net
    ema: Any  # moving average of the variables: what classifies

    def variables(self) -> dict[str, Any]:
        """The variables of the network."""
        return self.net.variables


@dataclasses.dataclass(frozen=True)
class ImageClassifier:
    """What a classifier's run is about; frozen and hashable, as `InfoGAN` is."""

    image_shape: ImageShape
    network: Classifier
    optimizer: optax.GradientTransformation
    augment: Augmentation | None = None
    ema_decay: float = 0.99

    @functools.partial(jax.jit, static_argnums=0)
    def init(self, key: Array) -> ClassifierState:
        """Returns a new state; the key is used as `InfoGAN.init` uses it."""
        images = jnp.zeros((2, *self.image_shape))
        init_key = jax.random.fold_in(key, 0)
        variables = self.network.init(init_key, images, train=False)
        return ClassifierState(
            step=jnp.zeros((), jnp.int32),
            key=jax.random.fold_in(key, 1),
            net=Net(opt_state=self.optimizer.init(variables["params"]), **variables),
            ema=jax.tree.map(jnp.copy, variables),
        )

    def classify(self, state: ClassifierState, images: Images) -> tuple[Array, Array]:
        """Logits `[B, K]` and features `[B, F]` of images `[B, H, W, C]`."""
        result: Any = self.network.apply(state.ema, as_float(images), train=False)
        return result


def make_classifier_step(
    model: ImageClassifier,
) -> Callable[..., tuple[ClassifierState, Metrics]]:
    """Returns one update on the cross-entropy of augmented images.

    Returns:
        `step(state, (images, labels)) -> (state, metrics)`, a scan body like that of
        `make_train_step`: images `[B, H, W, C]`, labels int `[B]`; the metrics are the
        loss in nats and the accuracy on the batch.
    """

    def step(
        state: ClassifierState, batch: tuple[Images, Array]
    ) -> tuple[ClassifierState, Metrics]:
        images, labels = as_float(batch[0]), batch[1]
        warp, drop = jax.random.split(jax.random.fold_in(state.key, state.step))
        if model.augment is not None:
            index = jnp.arange(len(images))
            images = augment_batch(model.augment, warp, images, index)
        gradient, (stats, metrics) = jax.grad(_loss, has_aux=True)(
            state.net.params, model, state.net.batch_stats, images, labels, drop
        )
        net = apply_gradients(state.net, model.optimizer, gradient, stats)
        ema = update_ema(net.variables, state.ema, model.ema_decay, state.step)
        return state.replace(step=state.step + 1, net=net, ema=ema), metrics  # type: ignore[attr-defined]

    return step


def _loss(
    params: Any,
    model: ImageClassifier,
    batch_stats: Any,
    images: Array,
    labels: Array,
    dropout_key: Array,
) -> tuple[Array, tuple[Any, Metrics]]:
    (logits, _), changed = model.network.apply(
        {"params": params, "batch_stats": batch_stats},
        images,
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": dropout_key},
    )
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    accuracy = (logits.argmax(-1) == labels).mean()
    metrics = {"loss/classifier": losses.mean(), "accuracy/batch": accuracy}
    return losses.mean(), (changed["batch_stats"], metrics)
