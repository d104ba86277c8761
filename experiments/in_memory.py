"""Training in memory, for experiments that need nothing else of a run."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from infogan_jax import Config, InfoGAN, Trained, build_model, make_train_step
from infogan_jax.data import batch_indices
from infogan_jax.training.pseudo_labels import find_pseudo_labels

# Of the experiments that compare objectives, which can be imported together
flags.DEFINE_list("objectives", None, "Of those in the table; default: all.")

_STRETCH = 100  # steps in one compiled call


def fit(config: Config, images: np.ndarray, model: InfoGAN | None = None) -> Trained:
    """Trains on images that are in memory, without a work directory.

    Args:
        config: seed, steps, batches and, without a model, the model.
        images: uint8 `[N, H, W, C]`.
        model: of your own.
    """
    model, n = model or build_model(config, images.shape[1:]), len(images)
    step = make_train_step(model)

    @jax.jit
    def stretch(state, images, labels, batches):
        def body(state, batch):
            own = None if labels is None else labels[batch]
            return step(state, images[batch], own)[0], None

        return jax.lax.scan(body, state, batches)[0]

    state, on_device = model.init(jax.random.key(config.seed)), jnp.asarray(images)
    labels, first = None, config.pseudo_label_step or config.steps
    stops = sorted({first, config.steps, *range(_STRETCH, config.steps, _STRETCH)})
    for start, stop in itertools.pairwise([0, *stops]):
        if start == first:
            trained = [Trained(model, state)]
            by_member = find_pseudo_labels(first, trained, [config.seed], images)
            labels = jnp.asarray(by_member[0])
        batches = [
            batch_indices(config.seed, i, config.batch_size, n)
            for i in range(start, stop)
        ]
        state = stretch(state, on_device, labels, np.stack(batches))
    return Trained(model, state)
