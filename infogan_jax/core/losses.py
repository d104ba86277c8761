"""Losses, penalties and information estimates: pure functions of network outputs.

They know neither networks nor weights; `objective.py` makes terms of them.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from infogan_jax.core.latents import Array, Spec, split_latents, split_params

_TINY = 1e-6  # keeps a logarithm and a quotient finite


class GanLoss(NamedTuple):
    """The two players' losses, each `(logits_real, logits_fake) -> [B]`."""

    discriminator: Callable[[Array, Array], Array]
    generator: Callable[[Array, Array], Array]
    # If True, both losses take relativistic-average logits: each logit minus the mean
    # of the other side.
    is_relative_to_mean: bool = False


# Goodfellow et al. 2014, arXiv:1406.2661, eq. 1, with the generator's loss of section
# 3 that does not saturate: -log D(G(z)). This is what InfoGAN's own code minimises.
NON_SATURATING = GanLoss(
    discriminator=lambda real, fake: jax.nn.softplus(-real) + jax.nn.softplus(fake),
    generator=lambda real, fake: jax.nn.softplus(-fake),
)

# Lim and Ye 2017, arXiv:1705.02894, eq. 3.
HINGE = GanLoss(
    discriminator=lambda real, fake: jax.nn.relu(1 - real) + jax.nn.relu(1 + fake),
    generator=lambda real, fake: -fake,
)

# Mao et al. 2017, arXiv:1611.04076, eq. 9 (targets 1 for real, 0 for fake).
LEAST_SQUARES = GanLoss(
    discriminator=lambda real, fake: 0.5 * ((real - 1) ** 2 + fake**2),
    generator=lambda real, fake: 0.5 * (fake - 1) ** 2,
)

# Arjovsky et al. 2017, arXiv:1701.07875, eq. 3; to be used with the penalty wgan_gp.
WASSERSTEIN = GanLoss(
    discriminator=lambda real, fake: fake - real,
    generator=lambda real, fake: -fake,
)

# Jolicoeur-Martineau 2018, arXiv:1807.00734: each real image against one generated, eq.
# 7 and 8 (RSGAN). With R1 and R2 it is R3GAN's (Huang et al. 2024, arXiv:2501.05441).
RELATIVISTIC = GanLoss(
    discriminator=lambda real, fake: jax.nn.softplus(fake - real),
    generator=lambda real, fake: jax.nn.softplus(real - fake),
)

# The same, each image against the mean of the other side: RaSGAN, and RaLSGAN.
RELATIVISTIC_AVERAGE = GanLoss(
    discriminator=lambda real, fake: jax.nn.softplus(-real) + jax.nn.softplus(fake),
    generator=lambda real, fake: jax.nn.softplus(real) + jax.nn.softplus(-fake),
    is_relative_to_mean=True,
)
RELATIVISTIC_AVERAGE_LEAST_SQUARES = GanLoss(
    discriminator=lambda real, fake: (real - 1) ** 2 + (fake + 1) ** 2,
    generator=lambda real, fake: (real + 1) ** 2 + (fake - 1) ** 2,
    is_relative_to_mean=True,
)

GAN_LOSSES = {
    "hinge": HINGE,
    "least_squares": LEAST_SQUARES,
    "non_saturating": NON_SATURATING,
    "relativistic": RELATIVISTIC,
    "relativistic_average": RELATIVISTIC_AVERAGE,
    "relativistic_average_least_squares": RELATIVISTIC_AVERAGE_LEAST_SQUARES,
    "wasserstein": WASSERSTEIN,
}


def relativistic_logits(
    loss: GanLoss, real: Array, fake: Array, axis_name: str | None = None
) -> tuple[Array, Array]:
    """Returns both sides' logits as `loss` takes them.

    Args:
        loss: says whether the other side's mean is subtracted.
        real: logits of real images, `[B]`.
        fake: logits of generated images, `[B]`.
        axis_name: the mapped axis that holds the rest of the batch, if any.

    References:
        Jolicoeur-Martineau 2018, arXiv:1807.00734, eq. 11 and 12.
    """
    if not loss.is_relative_to_mean:
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


def r1_r2(
    critic: Callable[[Array], Array], real: Array, fake: Array, mix: Array
) -> Array:
    """(R1 + R2) / 2, with R1 at real images and R2 at generated ones, `[B]`.

    Reference: Mescheder et al. 2018, arXiv:1801.04406, eq. 9 and 10.
    """
    return (gradient_penalty(critic, real) + gradient_penalty(critic, fake)) / 2


def wgan_gp(
    critic: Callable[[Array], Array], real: Array, fake: Array, mix: Array
) -> Array:
    """(|gradient| - 1)^2 between each real image and a generated one, `[B]`.

    D must not normalise over the batch: each image needs a gradient of its own.

    Reference: Gulrajani et al. 2017, arXiv:1704.00028, eq. 3.
    """
    between = real + mix[:, None, None, None] * (fake - real)
    return (jnp.sqrt(gradient_penalty(critic, between) + _TINY) - 1) ** 2


# (critic, real and generated images [B, H, W, C], mix [B] in [0, 1]) -> [B]
Penalty = Callable[[Callable[[Array], Array], Array, Array, Array], Array]

PENALTIES: dict[str, Penalty] = {"r1_r2": r1_r2, "wgan_gp": wgan_gp}


def information(spec: Spec, q_params: Array, latents: Array) -> dict[str, Array]:
    """The variational bound on I(c; G(z, c)), one entry per code of the spec.

    log q(c|x) + H(c) for the codes that made each picture; its mean is a lower bound
    on the mutual information. It is at most `code.upper_bound()`, which is H(c) unless
    Q's density may exceed one.

    Args:
        spec: the codes; noise is left out of the result.
        q_params: Q's output for the generated pictures, `[B, param_dim(spec)]`.
        latents: the latents that they were generated from, `[B, latent_dim(spec)]`.

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
    logits: Array,
    logits_of_copies: Array,
    axis_name: str | None = None,
    prior: Array | None = None,
) -> tuple[Array, Array]:
    """I(c; x) on real images, estimated through label-preserving augmentation.

    The categories that Q gives to an image and to its augmented copy are two readings
    of one hidden variable. Their mutual information is high only if both readings agree
    and all categories are used evenly. Both results are at most log(size).

    The joint table is not made symmetric, as it is in IIC: a Q that only recognises
    which of the two is the copy would then score log 2 without reading the image.

    Args:
        logits: Q's logits for the images, `[B, size]`.
        logits_of_copies: for augmented copies of the same images, `[B, size]`.
        axis_name: the mapped axis that holds the rest of the batch, if any.
        prior: the probability of each category, `[size]`; None: all are equal.

    Returns:
        Two scalars in nats, for information is a property of a batch and not of an
        example: the mutual information, and how far the categories are used as the
        prior has them, H(prior) - KL(used || prior), averaged over images and copies.
        It is at most H(prior); of equal probabilities it is the marginal entropy. A
        larger weight of it keeps clusters from merging into one category.

    References:
        Ji et al. 2019, Invariant Information Clustering, arXiv:1807.06653, eq. 2 and
        3; the weighted entropy is theirs too (section 3.1, their code's lambda).
    """
    p, q = jax.nn.softmax(logits), jax.nn.softmax(logits_of_copies)
    joint = jnp.einsum("bi,bj->ij", p, q) / p.shape[0]
    if axis_name is not None:
        joint = jax.lax.pmean(joint, axis_name)
    used = joint.sum(0), joint.sum(1)
    entropy = (_entropy(used[0]) + _entropy(used[1])) / 2
    info = 2 * entropy - _entropy(joint)
    if prior is None:
        return info, entropy
    return info, (_usage(used[0], prior) + _usage(used[1], prior)) / 2


def consistency(
    logits: Array,
    logits_of_copies: Array,
    axis_name: str | None = None,
    prior: Array | None = None,
) -> tuple[Array, Array]:
    """A score used in place of I(c; x): both readings must be the *same* category.

    H(c) + log sum_k q_k(x) q_k(x'). It is at most log(size), like the mutual
    information, but no lower bound of it: a Q that is unsure in the same way twice
    scores higher. Its gradient is largest for an image whose copy has another category,
    where that of the mutual information vanishes once Q is sure of both.

    Takes and returns what `mutual_information` does.

    References:
        Van Gansbeke et al. 2020, SCAN, arXiv:2005.12320, eq. 2, with copies in place of
        neighbours.
    """
    p, q = jax.nn.softmax(logits), jax.nn.softmax(logits_of_copies)
    same = jax.scipy.special.logsumexp(
        jax.nn.log_softmax(logits) + jax.nn.log_softmax(logits_of_copies), -1
    )
    mean = (p + q).mean(0) / 2
    if axis_name is not None:
        mean = jax.lax.pmean(mean, axis_name)
    entropy = _entropy(mean)
    usage = entropy if prior is None else _usage(mean, prior)
    return entropy + _mean(same, axis_name), usage


def real_information(
    logits: Array,
    logits_of_copies: Array,
    consistency_fraction: float,
    axis_name: str | None = None,
    prior: Array | None = None,
) -> tuple[Array, Array]:
    """A mixture of `mutual_information` and `consistency`, (1 - f) and f of each.

    Takes and returns what they do; `consistency_fraction` is f, in [0, 1].
    """
    f = consistency_fraction
    mixed = [
        weight * jnp.stack(estimate(logits, logits_of_copies, axis_name, prior))
        for weight, estimate in ((1 - f, mutual_information), (f, consistency))
        if weight
    ]
    info, usage = jnp.stack(mixed).sum(0)
    return info, usage


def linear_information(
    code: Array, change: Array, valid: Array, axis_name: str | None = None
) -> Array:
    """I(c' - c; w): how well a code follows what augmentation changed in an image.

    -1/2 log(1 - r^2), r the correlation: the mutual information if both were Gaussian.
    It is blind to scale and sign, so the code is free in both; codes that hardly move
    score less.

    Args:
        code: difference of the code between an image and its copy, `[B]`.
        change: how much augmentation changed the factor, `[B]`.
        valid: 1 for images that count, 0 for others, `[B]`.
        axis_name: the mapped axis that holds the rest of the batch, if any.

    Returns:
        A scalar in nats, 0 or more.
    """
    count = jnp.maximum(_mean(valid, axis_name), _TINY)

    def mean(x: Array) -> Array:
        return _mean(valid * x, axis_name) / count

    a, b = code - mean(code), change - mean(change)
    squared = mean(a * b) ** 2 / (mean(a**2) * mean(b**2) + _TINY)
    return -0.5 * jnp.log1p(-jnp.minimum(squared, 1 - _TINY))


def squared_wasserstein(
    values: Array, quantile: Callable[[Array], Array], axis_name: str | None = None
) -> Array:
    """Squared Wasserstein-2 distance between a sample and a distribution of numbers.

    On a line the cheapest transport keeps the order: the i-th smallest of N values goes
    to the quantile (i - 1/2) / N.

    Args:
        values: `[B]`.
        quantile: the distribution's inverse cumulative function.
        axis_name: the mapped axis that holds the rest of the batch, if any.

    Reference: Kolouri et al. 2018, Sliced-Wasserstein Autoencoder, arXiv:1804.01947,
    eq. 2, there in many directions.
    """
    if axis_name is not None:
        values = jax.lax.all_gather(values, axis_name, tiled=True)
    levels = (jnp.arange(len(values)) + 0.5) / len(values)
    return jnp.mean((jnp.sort(values) - quantile(levels)) ** 2)


def _mean(x: Array, axis_name: str | None) -> Array:
    """The mean over the whole batch."""
    return x.mean() if axis_name is None else jax.lax.pmean(x.mean(), axis_name)


def _entropy(probabilities: Array) -> Array:
    return -jnp.sum(jax.scipy.special.xlogy(probabilities, probabilities))


def _usage(used: Array, prior: Array) -> Array:
    """H(prior) - KL(used || prior), which is H(used) if the prior is even."""
    excess = jax.scipy.special.rel_entr(used, prior).sum()
    return _entropy(prior) - excess
