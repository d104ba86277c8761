"""The classification network's state and step: pure functions, with labels.

It never meets an InfoGAN in training. It judges what others generated, and lends its
features to distances between sets of images.
"""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

from infogan_jax.augment import parse_warp, random_warp
from infogan_jax.latents import Array
from infogan_jax.models import DTYPES
from infogan_jax.models.classifier import Classifier
from infogan_jax.state import Net, adam, updated
from infogan_jax.steps import Images, as_float


@flax.struct.dataclass
class ClassifierState:
    """All that a classifier's run needs to go on, together with its config."""

    step: Array
    key: Array  # constant; every draw is a function of (key, step)
    net: Net
    image_shape: tuple[int, int, int] = flax.struct.field(pytree_node=False)
    n_classes: int = flax.struct.field(pytree_node=False)
    ema: Any  # moving average of the variables: what judges

    def variables(self) -> dict[str, Any]:
        """Of the network."""
        return self.net.variables


def init_classifier(
    key: Array, config, image_shape: tuple[int, int, int], n_classes: int
) -> ClassifierState:
    """A new state; see `state.init_state`, whose keys are used alike."""
    network = _network(config, n_classes)
    images = jnp.zeros((2, *image_shape))
    variables = network.init(jax.random.fold_in(key, 0), images, train=False)
    opt_state = adam(config, config.d_learning_rate).init(variables["params"])
    return ClassifierState(
        step=jnp.zeros((), jnp.int32),
        key=jax.random.fold_in(key, 1),
        net=Net(opt_state=opt_state, **variables),
        image_shape=image_shape,
        n_classes=n_classes,
        ema=jax.tree.map(jnp.copy, variables),
    )


def make_classifier_step(config, n_classes: int):
    """Cross-entropy on warped images.

    Returns:
        `step(state, (images, labels)) -> (state, metrics)`, a scan body like the one
        of `steps.make_train_step`: images `[B, H, W, C]`, labels int `[B]`; the metrics
        are the loss in nats and the accuracy on the batch.
    """
    network, limits = _network(config, n_classes), parse_warp(config.warp)
    optimizer = adam(config, config.d_learning_rate)

    def step(state: ClassifierState, batch: tuple[Images, Array]):
        images, labels = as_float(batch[0]), batch[1]
        warp, drop = jax.random.split(jax.random.fold_in(state.key, state.step))
        if limits is not None:
            images = random_warp(warp, images, limits, jnp.arange(len(images)))

        def objective(params):
            (logits, _), changed = network.apply(
                {"params": params, "batch_stats": state.net.batch_stats},
                images,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": drop},
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            right = (logits.argmax(-1) == labels).mean()
            metrics = {"loss/classifier": losses.mean(), "accuracy/batch": right}
            return losses.mean(), (changed["batch_stats"], metrics)

        gradient, (stats, metrics) = jax.grad(objective, has_aux=True)(state.net.params)
        net = updated(state.net, optimizer, gradient, stats)
        decay = jnp.minimum(config.ema_decay, (1 + state.step) / (10 + state.step))
        ema = optax.incremental_update(net.variables, state.ema, 1 - decay)
        return state.replace(step=state.step + 1, net=net, ema=ema), metrics  # type: ignore[attr-defined]

    return step


def classify(state: ClassifierState, images: Images, config) -> tuple[Array, Array]:
    """Logits `[B, K]` and features `[B, F]` of images `[B, H, W, C]`."""
    network = _network(config, state.n_classes)
    result: Any = network.apply(state.ema, as_float(images), train=False)
    return result


def _network(config, n_classes: int) -> Classifier:
    return Classifier(n_classes, dtype=DTYPES[config.dtype])
