"""The terms of the objective: pure functions of network outputs, un-reduced.

The whole objective, which `steps.py` puts together:

    L_D = adversarial_D(D(x), D(G)) - lambda I(c; G)
          - mu [I(c; x) + beta H(c)] - nu I(c' - c; w) + gamma penalty_D
    L_G = adversarial_G(D(x), D(G)) - lambda I(c; G)
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from infogan_jax.latents import Array, Spec, split_latents, split_params

_TINY = 1e-6  # keeps a logarithm and a quotient finite


class Adversarial(NamedTuple):
    """The two players' losses, each `(logits_real, logits_fake) -> [B]`."""

    discriminator: Callable[[Array, Array], Array]
    generator: Callable[[Array, Array], Array]
    # Whether both get each logit less the mean of the other side's
    is_relative_to_mean: bool = False


# Goodfellow et al. 2014, arXiv:1406.2661, eq. 1, with the generator's loss of section
# 3 that does not saturate: -log D(G(z)). This is what InfoGAN's own code minimises.
NON_SATURATING = Adversarial(
    discriminator=lambda real, fake: jax.nn.softplus(-real) + jax.nn.softplus(fake),
    generator=lambda real, fake: jax.nn.softplus(-fake),
)

# Lim and Ye 2017, arXiv:1705.02894, eq. 3.
HINGE = Adversarial(
    discriminator=lambda real, fake: jax.nn.relu(1 - real) + jax.nn.relu(1 + fake),
    generator=lambda real, fake: -fake,
)

# Mao et al. 2017, arXiv:1611.04076, eq. 9 (targets 1 for real, 0 for fake).
LEAST_SQUARES = Adversarial(
    discriminator=lambda real, fake: 0.5 * ((real - 1) ** 2 + fake**2),
    generator=lambda real, fake: 0.5 * (fake - 1) ** 2,
)

# Arjovsky et al. 2017, arXiv:1701.07875, eq. 3; to be used with the penalty wgan_gp.
WASSERSTEIN = Adversarial(
    discriminator=lambda real, fake: fake - real,
    generator=lambda real, fake: -fake,
)

# Jolicoeur-Martineau 2018, arXiv:1807.00734: each real image against one generated, eq.
# 7 and 8 (RSGAN). With R1 and R2 it is R3GAN's (Huang et al. 2024, arXiv:2501.05441).
RELATIVISTIC = Adversarial(
    discriminator=lambda real, fake: jax.nn.softplus(fake - real),
    generator=lambda real, fake: jax.nn.softplus(real - fake),
)

# The same, each image against the mean of the other side: RaSGAN, and RaLSGAN.
RELATIVISTIC_AVERAGE = Adversarial(
    discriminator=lambda real, fake: jax.nn.softplus(-real) + jax.nn.softplus(fake),
    generator=lambda real, fake: jax.nn.softplus(real) + jax.nn.softplus(-fake),
    is_relative_to_mean=True,
)
RELATIVISTIC_AVERAGE_LEAST_SQUARES = Adversarial(
    discriminator=lambda real, fake: (real - 1) ** 2 + (fake + 1) ** 2,
    generator=lambda real, fake: (real + 1) ** 2 + (fake - 1) ** 2,
    is_relative_to_mean=True,
)

ADVERSARIAL = {
    "hinge": HINGE,
    "least_squares": LEAST_SQUARES,
    "non_saturating": NON_SATURATING,
    "relativistic": RELATIVISTIC,
    "relativistic_average": RELATIVISTIC_AVERAGE,
    "relativistic_average_least_squares": RELATIVISTIC_AVERAGE_LEAST_SQUARES,
    "wasserstein": WASSERSTEIN,
}


def relative(
    losses: Adversarial, real: Array, fake: Array, axis_name: str | None = None
) -> tuple[Array, Array]:
    """The logits that the losses take: less the other side's mean, or as they are.

    Args:
        losses: whose logits.
        real: of real images, `[B]`.
        fake: of generated ones, `[B]`.
        axis_name: the mapped axis that holds the rest of the batch, if any.

    References:
        Jolicoeur-Martineau 2018, arXiv:1807.00734, eq. 11 and 12.
    """
    if not losses.is_relative_to_mean:
        return real, fake
    return real - _mean(fake, axis_name), fake - _mean(real, axis_name)


def gradient_penalty(critic: Callable[[Array], Array], images: Array) -> Array:
    """Squared norm of the critic's gradient at each image, `[B]`.

    Args:
        critic: images `[B, H, W, C]` -> logits `[B]`.
        images: `[B, H, W, C]`.
    """
    gradient = jax.grad(lambda x: jnp.sum(critic(x)))(images)
    return jnp.sum(gradient**2, axis=(1, 2, 3))


def r1_r2(critic, real: Array, fake: Array, mix: Array) -> Array:
    """(R1 + R2) / 2, R1 at real images and R2 at generated ones, `[B]`.

    Reference: Mescheder et al. 2018, arXiv:1801.04406, eq. 9 and 10.
    """
    return (gradient_penalty(critic, real) + gradient_penalty(critic, fake)) / 2


def wgan_gp(critic, real: Array, fake: Array, mix: Array) -> Array:
    """(|gradient| - 1)^2 between each real image and a generated one, `[B]`.

    D should not normalise over the batch, for each image's gradient has to be its own.

    Reference: Gulrajani et al. 2017, arXiv:1704.00028, eq. 3.
    """
    between = real + mix[:, None, None, None] * (fake - real)
    return (jnp.sqrt(gradient_penalty(critic, between) + _TINY) - 1) ** 2


# name -> (critic, real and generated images [B, H, W, C], mix [B] in [0, 1]) -> [B]
PENALTIES = {"r1_r2": r1_r2, "wgan_gp": wgan_gp}


def information(spec: Spec, q_params: Array, latents: Array) -> dict[str, Array]:
    """The variational bound on I(c; G(z, c)), one entry per code of the spec.

    log q(c|x) + H(c) for the codes that made each picture; its mean is a lower bound
    on the mutual information. It is at most `code.ceiling()`, which is H(c) unless Q's
    density may exceed one.

    Args:
        spec: the codes; noise is left out of the result.
        q_params: Q's output for the generated pictures, `[B, param_dim(spec)]`.
        latents: what they were generated from, `[B, latent_dim(spec)]`.

    Returns:
        name of the code -> nats, `[B]`.

    References:
        Chen et al. 2016, arXiv:1606.03657, eq. 4 and 5.
    """
    params = split_params(spec, q_params)
    values = split_latents(spec, latents)
    return {
        code.name: code.log_prob(params[code.name], values[code.name]) + code.entropy()
        for code in spec
        if code.n_params
    }


def mutual_information(
    logits: Array, logits_of_warped: Array, axis_name: str | None = None
) -> tuple[Array, Array]:
    """I(c; x) on real images, estimated through a label-preserving warp.

    The categories that Q gives to an image and to its warped copy are two readings of
    one hidden variable. Their mutual information is high only if both readings agree
    and all categories are used evenly. Both results have the ceiling log(size).

    The table of both readings stays as it is: made symmetric, as IIC has it, it would
    call "is a copy" a category, worth log 2 where nothing is read of the images.

    Args:
        logits: Q's logits for the images, `[B, size]`.
        logits_of_warped: for warped copies of the same images, `[B, size]`.
        axis_name: the mapped axis that holds the rest of the batch, if any.

    Returns:
        Two scalars in nats, for information is a property of a batch and not of an
        example: the mutual information, and the entropy of the categories in use, the
        mean of that of images and that of copies. Weighing the entropy more keeps
        clusters from settling on one category together; it supposes that categories
        are about equally frequent.

    References:
        Ji et al. 2019, Invariant Information Clustering, arXiv:1807.06653, eq. 2 and
        3; the weighted entropy is theirs too (section 3.1, their code's lambda).
    """
    p, q = jax.nn.softmax(logits), jax.nn.softmax(logits_of_warped)
    joint = jnp.einsum("bi,bj->ij", p, q) / p.shape[0]
    if axis_name is not None:
        joint = jax.lax.pmean(joint, axis_name)
    used = (_entropy(joint.sum(0)) + _entropy(joint.sum(1))) / 2
    return 2 * used - _entropy(joint), used


def agreement(
    logits: Array, logits_of_warped: Array, axis_name: str | None = None
) -> tuple[Array, Array]:
    """A score in place of I(c; x): both readings must be the *same* category.

    H(c) + log sum_k q_k(x) q_k(x'), with the ceiling of `mutual_information`, and no
    bound on it: where Q is unsure in the same way twice, this is higher. To an image
    whose copy has gone to another category its gradient is largest, and that of mutual
    information vanishes as Q grows sure of both.

    Args and returns as `mutual_information` has them.

    References:
        Van Gansbeke et al. 2020, SCAN, arXiv:2005.12320, eq. 2, with copies in place of
        neighbours.
    """
    p, q = jax.nn.softmax(logits), jax.nn.softmax(logits_of_warped)
    same = jax.scipy.special.logsumexp(
        jax.nn.log_softmax(logits) + jax.nn.log_softmax(logits_of_warped), -1
    )
    mean = (p + q).mean(0) / 2
    if axis_name is not None:
        mean = jax.lax.pmean(mean, axis_name)
    used = _entropy(mean)
    return used + _mean(same, axis_name), used


def real_information(
    logits: Array,
    logits_of_warped: Array,
    agreement_share: float,
    axis_name: str | None = None,
) -> tuple[Array, Array]:
    """What stands for I(c; x): mutual information and agreement, (1 - s) and s of them.

    Args and returns as `mutual_information` has them, and
        agreement_share: s, in [0, 1].
    """
    parts = (1 - agreement_share, mutual_information), (agreement_share, agreement)
    found = [
        share * jnp.stack(part(logits, logits_of_warped, axis_name))
        for share, part in parts
        if share
    ]
    info, used = jnp.stack(found).sum(0)
    return info, used


def linear_information(
    code: Array, change: Array, counts: Array, axis_name: str | None = None
) -> Array:
    """I(c' - c; w): how far a warp's change of an image is read off a code.

    -1/2 log(1 - r^2), r the correlation: the mutual information, if both were Gaussian.
    It knows neither scale nor sign, so the code is free in both, but for codes that
    hardly move, which count for less.

    Args:
        code: what the code gains from an image to its warped copy, `[B]`.
        change: what the warp changed, `[B]`.
        counts: 1 for each image that counts, 0 for others, `[B]`.
        axis_name: the mapped axis that holds the rest of the batch, if any.

    Returns:
        A scalar in nats, 0 or more.
    """
    share = jnp.maximum(_mean(counts, axis_name), _TINY)

    def mean(x):
        return _mean(counts * x, axis_name) / share

    a, b = code - mean(code), change - mean(change)
    squared = mean(a * b) ** 2 / (mean(a**2) * mean(b**2) + _TINY)
    return -0.5 * jnp.log1p(-jnp.minimum(squared, 1 - _TINY))


def _mean(x: Array, axis_name: str | None) -> Array:
    """Over the whole batch."""
    return x.mean() if axis_name is None else jax.lax.pmean(x.mean(), axis_name)


def _entropy(probabilities: Array) -> Array:
    return -jnp.sum(jax.scipy.special.xlogy(probabilities, probabilities))
