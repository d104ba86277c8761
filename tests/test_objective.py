"""Each term of the objective by itself, against numbers computed by hand."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infogan_jax.core.augment import Warp
from infogan_jax.core.latents import Categorical, Noise, Uniform
from infogan_jax.core.losses import RELATIVISTIC_AVERAGE
from infogan_jax.core.model import InfoGAN
from infogan_jax.core.models import Networks
from infogan_jax.core.objective import (
    D_TERMS,
    Batch,
    Reading,
    Seen,
    Weights,
    equivariance,
    evaluate_terms,
    gan_discriminator,
    gan_generator,
    mi_fake,
    mi_real,
    penalty,
    prior_matching,
)
from infogan_jax.core.state import Optimizers

LOG2 = math.log(2)
SPEC = (Categorical("cat", 2, weight=3.0), Uniform("lean", weight=0.5), Noise("z", 1))
# Rows of Q's parameters: two logits and a mean.
SURE, UNSURE = 50.0, 0.0


def model(**fields) -> InfoGAN:
    nothing = Networks(None, None, None), Optimizers(None, None, None)
    return InfoGAN(SPEC, (2, 2, 1), *nothing, **fields)


def seen(
    of: InfoGAN,
    q_real=None,
    q_fake=None,
    labels=None,
    params=None,
    real=(2.0, 0.0),
    fake=(-1.0, 0.0),
) -> Seen:
    """Two images, of categories 0 and 1, whose second code is 0."""
    latents = jnp.array([[1.0, 0.0, 0.0, 0.3], [0.0, 1.0, 0.0, -0.2]])
    batch = Batch(
        real=jnp.ones((2, 2, 2, 1)),
        fake=jnp.zeros((2, 2, 2, 1)),
        latents=latents,
        mix=jnp.array([0.0, 1.0]),
        augment_params=params,
        pseudo_labels=labels,
    )
    plain = jnp.zeros((2, 3))
    return Seen(
        of,
        batch,
        Reading(jnp.array(real), plain if q_real is None else jnp.array(q_real)),
        Reading(jnp.array(fake), plain if q_fake is None else jnp.array(q_fake)),
        critic=lambda images: 3 * images.sum((1, 2, 3)),
    )


def test_gan_terms():
    # Means of log(1 + e^-2) + log(1 + e^-1), and 2 log 2; of log(1 + e^1) and log 2.
    value, metrics = gan_discriminator(seen(model()))
    assert value == pytest.approx((0.126928 + 0.313262 + 2 * LOG2) / 2, abs=1e-5)
    assert metrics["loss/discriminator"] == value
    value, metrics = gan_generator(seen(model()))
    assert value == pytest.approx((1.313262 + LOG2) / 2, abs=1e-5)
    assert set(metrics) == {"loss/generator"}
    # The losses may have a weight; what is logged has none.
    for term, name in (
        (gan_discriminator, "discriminator"),
        (gan_generator, "generator"),
    ):
        weighted, metrics = term(seen(model(weights=Weights(gan=3.0))))
        assert weighted == pytest.approx(3 * metrics[f"loss/{name}"])


def test_gan_terms_take_relativistic_averages():
    # Real 2, 0 minus the mean -0.5; fake -1, 0 minus the mean 1.
    value, _ = gan_generator(seen(model(gan_loss=RELATIVISTIC_AVERAGE)))
    softplus = lambda x: math.log1p(math.exp(x))  # noqa: E731
    expected = softplus(2.5) + softplus(0.5) + softplus(2.0) + softplus(1.0)
    assert value == pytest.approx(expected / 2, abs=1e-5)


@pytest.mark.parametrize("fraction", [0.0, 0.25, 1.0])
def test_gan_terms_are_in_part_of_copies(fraction):
    """Images' logits are 0, of log 2 each; copies' are 3 and -1."""
    weights = Weights(gan_on_copies=fraction)
    of = model(augment=Warp(shift=0.1), augment_every=1, weights=weights)
    logits = {"real": (0.0, 0.0, 3.0, 3.0), "fake": (0.0, 0.0, -1.0, -1.0)}
    # log(1 + e^-3) + log(1 + e^-1), or log(1 + e), for copies
    value, _ = gan_discriminator(seen(of, **logits))
    assert value == pytest.approx(
        (1 - fraction) * 2 * LOG2 + fraction * (0.048587 + 0.313262), abs=1e-5
    )
    value, _ = gan_generator(seen(of, **logits))
    assert value == pytest.approx((1 - fraction) * LOG2 + fraction * 1.313262, abs=1e-5)


def test_mi_fake():
    read = [[SURE, 0.0, 0.0], [UNSURE, UNSURE, 0.0]]  # one category known, one not
    value, metrics = mi_fake(seen(model(weights=Weights(info=2.0)), q_fake=read))
    # log q + H: log 2 if Q is sure, 0 if not; log q(lean) is 0 by its sigma.
    assert metrics["mi_bound/cat"] == pytest.approx(LOG2 / 2, abs=1e-5)
    assert metrics["mi_bound/lean"] == pytest.approx(LOG2, abs=1e-5)
    assert value == pytest.approx(-2.0 * (3.0 * LOG2 / 2 + 0.5 * LOG2), abs=1e-5)


def test_mi_fake_of_a_category_is_the_mean_of_images_and_copies():
    of = model(augment=Warp(shift=0.1), augment_every=2)
    images = [[SURE, 0.0, 0.0], [0.0, SURE, 0.0]]
    copies = [[UNSURE, UNSURE, 5.0]]  # of the first image; its mean does not count
    _, metrics = mi_fake(seen(of, q_fake=images + copies))
    assert metrics["mi_bound/cat"] == pytest.approx((LOG2 + 0) / 2, abs=1e-5)
    assert metrics["mi_bound/lean"] == pytest.approx(LOG2, abs=1e-5)


def test_without_lambda_q_learns_with_weight_one():
    read = [[SURE, 0.0, 0.0], [0.0, SURE, 0.0]]
    value, _ = mi_fake(seen(model(weights=Weights(info=0.0)), q_fake=read))
    assert value == pytest.approx(-(3.0 * LOG2 + 0.5 * LOG2), abs=1e-5)


def test_mi_real_is_off_without_a_weight():
    assert mi_real(seen(model())) == (0.0, {})
    assert equivariance(seen(model())) == (0.0, {})
    assert penalty(seen(model())) == (0.0, {})


@pytest.fixture
def real():
    weights = Weights(real_mi=2.0, entropy=4.0)
    return model(augment=Warp(shift=0.1), augment_every=1, weights=weights)


def test_mi_real(real):
    # Both categories in use and both readings agree: I = H = log 2.
    images = [[SURE, 0.0, 0.0], [0.0, SURE, 0.0]]
    value, metrics = mi_real(seen(real, q_real=images + images))
    assert metrics["mi_real/cat"] == pytest.approx(LOG2, abs=1e-5)
    assert metrics["marginal_entropy/cat"] == pytest.approx(LOG2, abs=1e-5)
    assert value == pytest.approx(-2.0 * (LOG2 + 4.0 * LOG2), abs=1e-4)


def test_pseudo_labels_take_the_place_of_mi_real(real):
    # log q(y|x) is 0 for the first image, log 1/2 for the second, likewise for copies.
    images = [[SURE, 0.0, 0.0], [UNSURE, UNSURE, 0.0]]
    labels = jnp.array([0, 1])
    value, metrics = mi_real(seen(real, q_real=images + images, labels=labels))
    assert metrics["pseudo_label_ll/cat"] == pytest.approx(-LOG2 / 2, abs=1e-5)
    assert value == pytest.approx(-2.0 * -LOG2 / 2, abs=1e-5)


def test_equivariance():
    """Of two images the code gains 1 and 0 where the slant gains 0.4 and 0."""
    of = model(
        augment=Warp(shear=0.3), augment_every=1, weights=Weights(equivariance=0.5)
    )
    params = of.augment.draw(jax.random.key(0), jnp.arange(2), 1)
    lean = jnp.array([[[1.0, 0.0], [0.4, 1.0]], [[1.0, 0.0], [0.0, 1.0]]])
    params = params._replace(matrix=lean)
    read = [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    value, metrics = equivariance(seen(of, q_real=read, params=params))
    # r^2 = (0.1)^2 / (0.25 * 0.04 + 1e-6), and -1/2 log(1 - r^2)
    r2 = 0.01 / (0.01 + 1e-6)
    assert metrics["equivariance/lean"] == pytest.approx(
        -0.5 * math.log1p(-r2), rel=1e-2
    )
    assert value == pytest.approx(-0.5 * float(metrics["equivariance/lean"]))


def test_penalty():
    # The critic's gradient is 3 at each of 4 pixels: R1 and R2 are 36.
    value, metrics = penalty(seen(model(weights=Weights(penalty=0.5))))
    assert metrics["loss/penalty"] == pytest.approx(36)
    assert value == pytest.approx(18)
    in_g = seen(model(weights=Weights(penalty=0.5)))._replace(critic=None)
    assert penalty(in_g) == (0.0, {})


def test_every_second_image_is_penalised():
    of = model(weights=Weights(penalty=0.5), penalty_every=2)
    looked_at = seen(of)._replace(critic=lambda x: x.sum((1, 2, 3)) * len(x))
    value, _ = penalty(looked_at)  # a gradient of 1, not 2, at each of 4 pixels
    assert value == pytest.approx(0.5 * 4)


def test_prior_matching():
    # The quantiles of two uniform values are -1/2 and 1/2; read are 0.7 and 0.
    read = [[0.0, 0.0, 0.7], [0.0, 0.0, 0.0]]
    value, metrics = prior_matching(seen(model(weights=Weights(prior=3.0)), read))
    expected = ((0.5 + 0.0) ** 2 + (0.7 - 0.5) ** 2) / 2
    assert metrics["prior_distance/lean"] == pytest.approx(expected)
    assert value == pytest.approx(3 * expected)
    assert prior_matching(seen(model())) == (0.0, {})


def test_a_loss_is_the_sum_of_its_terms(real):
    images = [[1.0, 0.0, 0.1], [0.0, 2.0, 0.2], [0.5, 0.0, 0.3], [0.0, 1.0, 0.4]]
    of = dataclasses.replace(real, weights=Weights(real_mi=2.0, penalty=0.5))
    looked_at = seen(of, q_real=images, q_fake=images)
    total, metrics = evaluate_terms(D_TERMS, looked_at)
    values = [float(term(looked_at)[0]) for term in D_TERMS]
    assert total == pytest.approx(sum(values), rel=1e-6)
    assert set(metrics) >= {"loss/discriminator", "mi_bound/cat", "mi_real/cat"}


@pytest.mark.parametrize(
    ("spec", "fields", "message"),
    [
        ((Uniform("a"), Uniform("a")), {}, "2 codes are named 'a'"),
        ((Uniform("a"),), {"weights": Weights(real_mi=1.0)}, "weights.real_mi=1.0"),
        (SPEC, {"weights": Weights(real_mi=1.0)}, "expected an augmentation"),
        (
            (Noise("z", 2),),
            {"weights": Weights(equivariance=1.0), "augment": Warp(scale=0.1)},
            "a Continuous code",
        ),
        (SPEC, {"augment_every": 0}, "augment_every=0: expected 1 or more"),
        (SPEC, {"penalty_every": 0}, "penalty_every=0: expected 1 or more"),
    ],
)
def test_models_that_cannot_work_are_refused_when_made(spec, fields, message):
    nothing = Networks(None, None, None), Optimizers(None, None, None)
    with pytest.raises(ValueError, match=message):
        InfoGAN(spec, (2, 2, 1), *nothing, **fields)


def test_warps_without_an_elastic_part_compute_none():
    params = Warp(scale=0.1).draw(jax.random.key(0), jnp.arange(2), 1)
    assert params.elastic is None
    assert Warp(elastic=0.1).draw(
        jax.random.key(0), jnp.arange(2), 1
    ).elastic.shape == (
        *(2, 4, 4),
        2,
    )
    np.testing.assert_allclose(params.gain, 1)
