"""How well a run went, judged without a label: scores, and signs of being stuck."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from infogan_jax.augment import parse_warp, random_warp
from infogan_jax.evaluation.inference import apply
from infogan_jax.latents import (
    main_category,
    parse_spec,
    sample_latents,
    split_params,
)
from infogan_jax.losses import information, mutual_information
from infogan_jax.steps import as_float, generate, recognize

_SAMPLE = 2000  # images
_RARE, _CROWDED = 0.2, 1.6  # times the even share of a category
_CONFUSED = 0.25  # share of two categories' images that a warp moves to the other one
# Chance moves half of them. More, and the two tell copies from images.
_COPIES = 0.6


@functools.partial(jax.jit, static_argnums=0)
def _bounds(spec, params, latents):
    found = information(spec, params, latents)
    return {name: bound.mean() for name, bound in found.items()}


@functools.partial(jax.jit, static_argnums=2)
def _plain_and_warped(key, images, limits):
    plain = as_float(images)
    return plain, random_warp(key, plain, limits, jnp.arange(len(plain)))


@jax.jit
def _judged(logits):
    return mutual_information(*logits), [jax.nn.softmax(x) for x in logits]


def joint_use(plain: np.ndarray, warped: np.ndarray) -> np.ndarray:
    """How often each pair of categories is given to an image and its warped copy.

    Args:
        plain: probabilities `[N, K]`.
        warped: the same for the warped copies.

    Returns:
        Symmetric `[K, K]` with sum 1.
    """
    joint = np.einsum("ni,nj->ij", plain, warped) / len(plain)
    return (joint + joint.T) / 2


def signs_of_trouble(joint: np.ndarray) -> list[str]:
    """What looks wrong in a table of `joint_use`; empty for a healthy one."""
    share = joint.sum(0) * len(joint)
    found = []
    for category, times in enumerate(share):
        if times < _RARE:
            found.append(f"category {category} is hardly used on real images")
        elif times > _CROWDED:
            found.append(
                f"category {category} has {times:.1f} times its share of the real "
                "images: perhaps two kinds in one"
            )
    for i in range(len(joint)):
        for j in range(i):
            confused = 2 * joint[i, j] / (joint[i].sum() + joint[j].sum())
            if confused > _CONFUSED:
                found.append(
                    f"categories {j} and {i} share one kind: warps move "
                    f"{confused:.0%} of their images from one to the other"
                    + (
                        ", more than chance would: copies are told from images, which "
                        "--agreement_share=1 does not reward"
                        if confused > _COPIES
                        else ""
                    )
                )
    return found


def measure(state, config, images: np.ndarray) -> dict:
    """The scores of the main category and of the bounds, in nats where not said.

    Args:
        state: a trained state.
        config: its config.
        images: real ones, uint8 `[N, H, W, C]`; some thousands are enough.

    Returns:
        code -> `bound`, I(c; G) on generated pictures; of the main category also
        `information_real` I(c; x), whatever the objective has, `balance` H(c) in use,
        `consistency`, the share of images whose warped copy has the same category; and
        `warnings`.
    """
    spec = parse_spec(config.codes)
    key = jax.random.key(0)
    latents = np.asarray(sample_latents(key, _SAMPLE, spec))
    pictures = apply(generate, state, latents, config)
    bounds = _bounds(spec, apply(recognize, state, pictures, config), latents)
    found: dict = {name: {"bound": float(bound)} for name, bound in bounds.items()}
    found["warnings"] = []
    category, limits = main_category(spec), parse_warp(config.warp)
    if category is None or limits is None or not len(images):
        return found
    logits = [
        split_params(spec, apply(recognize, state, x, config))[category.name]
        for x in _plain_and_warped(key, images[:_SAMPLE], limits)
    ]
    (info, used), shares = _judged(logits)
    joint = joint_use(*map(np.asarray, shares))
    found[category.name] |= {
        "information_real": float(info),
        "balance": float(used),
        "consistency": float((logits[0].argmax(-1) == logits[1].argmax(-1)).mean()),
    }
    found["warnings"] = signs_of_trouble(joint)
    return found


def evaluate(state, config, data) -> dict:
    """On images of the training set, for no label is involved."""
    return measure(state, config, data.images)
