"""The objective, term by term.

    L_D = alpha gan_D(D(x), D(G)) - lambda I(c; G)
          - mu [I(c; x) + beta H(c)] - nu I(c' - c; w)
          + eta W(Q(x), p(c))^2 + gamma penalty_D
    L_G = alpha gan_G(D(x), D(G)) - lambda I(c; G)

x are real images, G generated ones, c the codes; w is what augmentation changed and c'
the codes of the augmented copy. A player's loss is the sum of its terms: `D_TERMS` and
`G_TERMS`. The weights are those of `Weights`; alpha = 1 and mu = nu = eta = gamma = 0
without augmentation is the paper's objective.

References:
    Chen et al. 2016, InfoGAN, arXiv:1606.03657, eq. 6, with lambda I for both players.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from infogan_jax.core.latents import Array, Categorical, split_params
from infogan_jax.core.losses import (
    information,
    linear_information,
    real_information,
    relativistic_logits,
    squared_wasserstein,
)

if TYPE_CHECKING:
    from infogan_jax.core.model import InfoGAN

Metrics = dict[str, Array]


class Weights(NamedTuple):
    """The factors of the terms."""

    gan: float = 1.0  # alpha, of the adversarial losses, beside all else
    gan_on_copies: float = 0.0  # of these, the part that is read from augmented copies
    info: float = 1.0  # lambda, of I(c; G); 0: a plain GAN that Q only watches
    real_mi: float = 0.0  # mu, of I(c; x)
    entropy: float = 0.0  # beta, of H(c), within mu
    consistency_fraction: float = 0.0  # of I(c; x), the part that is consistency
    equivariance: float = 0.0  # nu, of I(c' - c; w)
    prior: float = 0.0  # eta, of W(Q(x), p(c))^2
    penalty: float = 0.0  # gamma, of D's gradient penalty


class Reading(NamedTuple):
    """What D and Q say of B images and of C augmented copies.

    Image i is seen augmented if i is a multiple of `InfoGAN.augment_every`.
    """

    logits: Array  # D's, of the images and behind them of the copies, [B + C]
    q_params: Array  # Q's, likewise, [B + C, P]


class Batch(NamedTuple):
    """What a step draws before any player moves."""

    real: Array  # images and behind them their copies, [B + C, H, W, C]
    fake: Array  # generated images, [B, H, W, C]
    latents: Array  # that they were generated from, [B, L]
    mix: Array  # where between two images a penalty looks, in [0, 1], [B]
    augment_params: Any  # of the copies of real images
    pseudo_labels: Array | None  # of the real images' main category, int [B]


class Seen(NamedTuple):
    """What a term may look at."""

    model: "InfoGAN"
    batch: Batch
    real: Reading
    fake: Reading
    critic: Callable[[Array], Array] | None  # images -> D's logits; None in G's loss


# A term returns what it adds to the loss, and its metrics: scalars, over the batch.
Term = Callable[[Seen], tuple[Array | float, Metrics]]


def gan_discriminator(seen: Seen) -> tuple[Array, Metrics]:
    """alpha gan_D(D(x), D(G))."""
    loss = _gan(seen, seen.model.gan_loss.discriminator)
    return seen.model.weights.gan * loss, {"loss/discriminator": loss}


def gan_generator(seen: Seen) -> tuple[Array, Metrics]:
    """alpha gan_G(D(x), D(G))."""
    loss = _gan(seen, seen.model.gan_loss.generator)
    return seen.model.weights.gan * loss, {"loss/generator": loss}


def mi_fake(seen: Seen) -> tuple[Array, Metrics]:
    """-lambda I(c; G), read from plain images and, for categories, from copies too."""
    model, latents = seen.model, seen.batch.latents
    plain, copies = _split_copies(seen, seen.fake)
    bounds = _means(information(model.spec, plain, latents))
    if len(copies):
        of_copies = _means(
            information(model.spec, copies, latents[:: model.augment_every])
        )
        for code in model.categories:
            bounds[code.name] = (bounds[code.name] + of_copies[code.name]) / 2
    total: Any = sum(
        code.weight * bounds[code.name] for code in model.spec if code.n_params
    )
    # With lambda = 0 Q still learns, from features that D gets no gradient through.
    weight = model.weights.info or 1.0
    return -weight * total, _named("mi_bound", bounds)


def mi_real(seen: Seen) -> tuple[Array | float, Metrics]:
    """-mu [I(c; x) + beta H(c)] of each category, or -mu log q(y|x) of labels."""
    model, weights = seen.model, seen.model.weights
    value: Array | float = 0.0
    metrics: Metrics = {}
    if not weights.real_mi:
        return 0.0, metrics
    plain, copies = _paired(seen)
    for code in model.categories:
        info, usage = real_information(
            plain[code.name],
            copies[code.name],
            weights.consistency_fraction,
            model.axis_name,
            None if code.prior is None else jnp.asarray(code.prior),
        )
        metrics[f"mi_real/{code.name}"] = info
        metrics[f"marginal_entropy/{code.name}"] = usage
        term = info + weights.entropy * usage
        if seen.batch.pseudo_labels is not None and code is model.category:
            term = _pseudo_label_ll(seen, code, seen.batch.pseudo_labels)
            metrics[f"pseudo_label_ll/{code.name}"] = term
        value -= weights.real_mi * term
    return value, metrics


def equivariance(seen: Seen) -> tuple[Array | float, Metrics]:
    """-nu I(c' - c; w): each continuous code follows one factor of augmentation."""
    model, metrics = seen.model, Metrics()
    value: Array | float = 0.0
    if not model.weights.equivariance or model.augment is None:
        return 0.0, metrics
    plain, copies = _paired(seen)
    changes, valid = model.augment.factors(seen.batch.augment_params)
    for code, change in zip(model.continuous, changes.T, strict=False):
        moved = code.infer(copies[code.name]) - code.infer(plain[code.name])
        info = linear_information(moved[:, 0], change, valid, model.axis_name)
        metrics[f"equivariance/{code.name}"] = info
        value -= model.weights.equivariance * info
    return value, metrics


def prior_matching(seen: Seen) -> tuple[Array | float, Metrics]:
    """eta W(Q(x), p(c))^2: what Q reads in real images is spread as the prior is.

    A value of a continuous code is then a quantile of the real images.
    """
    model, metrics = seen.model, Metrics()
    value: Array | float = 0.0
    if not model.weights.prior:
        return 0.0, metrics
    plain, _ = _split_copies(seen, seen.real)
    params = split_params(model.spec, plain)
    for code in model.continuous:
        readings = code.infer(params[code.name])[:, 0]
        distance = squared_wasserstein(readings, code.quantile, model.axis_name)
        metrics[f"prior_distance/{code.name}"] = distance
        value += model.weights.prior * distance
    return value, metrics


def penalty(seen: Seen) -> tuple[Array | float, Metrics]:
    """gamma times the gradient penalty of D, at every n-th image."""
    model, batch = seen.model, seen.batch
    if not model.weights.penalty or seen.critic is None:
        return 0.0, {}
    real, every = batch.real[: len(batch.latents)], model.penalty_every
    real, fake, mix = (x[::every] for x in (real, batch.fake, batch.mix))
    mean = model.penalty(seen.critic, real, fake, mix).mean()
    return model.weights.penalty * mean, {"loss/penalty": mean}


D_TERMS: tuple[Term, ...] = (
    gan_discriminator,
    mi_fake,
    mi_real,
    equivariance,
    prior_matching,
    penalty,
)
G_TERMS: tuple[Term, ...] = (gan_generator, mi_fake)


def evaluate_terms(terms: tuple[Term, ...], seen: Seen) -> tuple[Array, Metrics]:
    """The sum of the terms, and the metrics of all."""
    values, metrics = zip(*(term(seen) for term in terms), strict=True)
    together: Metrics = {}
    for some in metrics:
        together |= some
    return jnp.asarray(sum(values)), together


def _gan(seen: Seen, loss: Callable[[Array, Array], Array]) -> Array:
    """The mean of an adversarial loss over images, or in part over their copies.

    D that sees real and generated images change alike cannot learn real ones by heart,
    and G learns no change (Zhao et al. 2020, DiffAugment, arXiv:2006.10738, eq. 4).
    """
    model, n = seen.model, len(seen.batch.latents)
    of_copies = model.weights.gan_on_copies

    def mean(part: slice) -> Array:
        logits = seen.real.logits[part], seen.fake.logits[part]
        return loss(
            *relativistic_logits(model.gan_loss, *logits, model.axis_name)
        ).mean()

    value: Any = 0.0
    if of_copies < 1:
        value = (1 - of_copies) * mean(slice(n))
    if of_copies:
        value += of_copies * mean(slice(n, None))
    return value


def _split_copies(seen: Seen, reading: Reading) -> tuple[Array, Array]:
    """Q's parameters of the images, `[B, P]`, and of their copies, `[C, P]`."""
    n = len(seen.batch.latents)
    return reading.q_params[:n], reading.q_params[n:]


def _paired(seen: Seen) -> tuple[dict[str, Array], dict[str, Array]]:
    """Q's parameters of real images that have a copy, and of the copies, by code."""
    spec = seen.model.spec
    plain, copies = _split_copies(seen, seen.real)
    plain = plain[:: seen.model.augment_every]
    return split_params(spec, plain), split_params(spec, copies)


def _pseudo_label_ll(seen: Seen, category: Categorical, labels: Array) -> Array:
    """Mean of log q(y|x) over real images and their copies, in nats."""
    model = seen.model
    labels = jnp.concatenate([labels, labels[:: model.augment_every]])
    params = split_params(model.spec, seen.real.q_params)[category.name]
    return category.log_prob(params, jax.nn.one_hot(labels, category.size)).mean()


def _means(values: Metrics) -> Metrics:
    return {name: value.mean() for name, value in values.items()}


def _named(prefix: str, values: Metrics) -> Metrics:
    return {f"{prefix}/{name}": value for name, value in values.items()}
