"""How well a run goes, measured without a label: scores, and signs of being stuck."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from infogan_jax.core.augment import Augmentation, augment_batch
from infogan_jax.core.latents import (
    Array,
    Spec,
    main_category,
    split_params,
    with_frequencies,
)
from infogan_jax.core.losses import information, mutual_information
from infogan_jax.core.model import as_float
from infogan_jax.data import ImageArray
from infogan_jax.evaluation import Subject
from infogan_jax.evaluation.results import Measures
from infogan_jax.inference import Trained

_SAMPLE = 2000  # images
_RARE, _CROWDED = 0.2, 1.6  # of a category's share by its prior
_UNUSED = 0.001  # of all images, whatever the prior
_CONFUSED = 0.25  # fraction of two categories' images that augmentation exchanges
# Chance exchanges half of them. If it is more, Q tells copies from images.
_TELLS_COPIES = 0.6


@functools.partial(jax.jit, static_argnums=0)
def _mi_bounds(
    spec: Spec, frequencies: dict[str, Array], params: Array, latents: Array
) -> dict[str, Array]:
    bounds = information(with_frequencies(spec, frequencies), params, latents)
    return {name: bound.mean() for name, bound in bounds.items()}


@functools.partial(jax.jit, static_argnums=2)
def _with_copies(
    key: Array, images: Array, augment: Augmentation
) -> tuple[Array, Array]:
    plain = as_float(images)
    return plain, augment_batch(augment, key, plain, jnp.arange(len(plain)))


@jax.jit
def _real_scores(logits: list[Any]) -> tuple[Any, list[Array]]:
    plain, copies = logits
    return mutual_information(plain, copies), [jax.nn.softmax(x) for x in logits]


def joint_use(plain: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """Returns how often an image and its augmented copy get each pair of categories.

    Args:
        plain: probabilities `[N, K]`.
        copies: the same for augmented copies.

    Returns:
        Symmetric `[K, K]` with sum 1.
    """
    joint = np.einsum("ni,nj->ij", plain, copies) / len(plain)
    return (joint + joint.T) / 2


def diagnose(joint: np.ndarray, prior: np.ndarray) -> list[str]:
    """Returns what looks wrong in a table of `joint_use`; empty for a healthy one.

    Args:
        joint: `[K, K]`.
        prior: the probability of each category, `[K]`.
    """
    used, problems = joint.sum(0), []
    for category, times in enumerate(used / prior):
        if times < _RARE or used[category] < _UNUSED:
            problems.append(f"category {category} is hardly used on real images")
        elif times > _CROWDED:
            problems.append(
                f"category {category} has {times:.1f} times its share of the real "
                "images: perhaps two kinds in one"
            )
    for i in range(len(joint)):
        for j in range(i):
            confused = 2 * joint[i, j] / (joint[i].sum() + joint[j].sum())
            if confused <= _CONFUSED:
                continue
            text = (
                f"categories {j} and {i} share one kind: augmentation moves "
                f"{confused:.0%} of their images from one to the other"
            )
            if confused > _TELLS_COPIES:
                text += (
                    ", more than chance would: Q tells copies from images, which "
                    "--consistency_fraction=1 does not reward"
                )
            problems.append(text)
    return problems


def measure(trained: Trained, images: ImageArray) -> Measures:
    """Returns scores of the codes, in nats unless said otherwise.

    Args:
        trained: a trained model.
        images: real ones, uint8 `[N, H, W, C]`; some thousands are enough.

    Returns:
        For each code `bound`, I(c; G) on generated images; for the main category also
        `mi_real`, I(c; x), whatever the objective has; `marginal_entropy`, H(c) in use;
        and `consistency`, the fraction of images whose copy has the same category.
    """
    model, key = trained.model, jax.random.key(0)
    latents = trained.sample_latents(key, _SAMPLE)
    q_params = trained.recognize(trained.generate(latents))
    bounds = _mi_bounds(model.spec, trained.state.frequencies, q_params, latents)
    rows = {name: {"bound": float(bound)} for name, bound in bounds.items()}
    category = main_category(trained.spec)
    if category is None or model.augment is None or not len(images):
        return Measures(rows, {"warnings": []})
    logits: list[Any] = [
        split_params(model.spec, trained.recognize(x))[category.name]
        for x in _with_copies(key, images[:_SAMPLE], model.augment)
    ]
    (info, entropy), shares = _real_scores(logits)
    rows[category.name] |= {
        "mi_real": float(info),
        "marginal_entropy": float(entropy),
        "consistency": float((logits[0].argmax(-1) == logits[1].argmax(-1)).mean()),
    }
    joint = joint_use(*map(np.asarray, shares))
    prior = np.asarray(category.probabilities)
    return Measures(rows, {"warnings": diagnose(joint, prior)})


def evaluate(subject: Subject) -> Measures:
    """Measures on images of the training set, since no label is involved."""
    return measure(subject.trained, subject.data.images)
