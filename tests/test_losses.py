import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from infogan_jax.core.latents import (
    join_latents,
    sample_latents,
    split_latents,
)
from infogan_jax.core.losses import (
    GAN_LOSSES,
    consistency,
    gradient_penalty,
    information,
    linear_information,
    mutual_information,
    r1_r2,
    real_information,
    relativistic_logits,
    wgan_gp,
)
from infogan_jax.core.spec import parse_spec

REAL, FAKE = jnp.array([0.0, 2.0]), jnp.array([0.0, -1.0])


@pytest.mark.parametrize(
    ("name", "discriminator", "generator"),
    [
        # log(1 + e^0) twice; log(1 + e^-2) + log(1 + e^-1)
        ("non_saturating", [1.386294, 0.440190], [0.693147, 1.313262]),
        ("hinge", [2.0, 0.0], [0.0, 1.0]),
        ("least_squares", [0.5, 1.0], [0.5, 2.0]),
        ("wasserstein", [0.0, -3.0], [0.0, 1.0]),
        # log(1 + e^0), log(1 + e^-3); and log(1 + e^3)
        ("relativistic", [0.693147, 0.048587], [0.693147, 3.048587]),
        # Less the means, real is .5, 2.5 and fake is -1, -2:
        # log(1 + e^-.5) + log(1 + e^-1), log(1 + e^-2.5) + log(1 + e^-2)
        ("relativistic_average", [0.787339, 0.205818], [2.287339, 4.705818]),
        # .25 + 0, 2.25 + 1; 2.25 + 4, 12.25 + 9
        ("relativistic_average_least_squares", [0.25, 3.25], [6.25, 21.25]),
    ],
)
def test_adversarial_losses_by_hand(name, discriminator, generator):
    losses = GAN_LOSSES[name]
    logits = relativistic_logits(losses, REAL, FAKE)
    np.testing.assert_allclose(losses.discriminator(*logits), discriminator, 1e-5)
    np.testing.assert_allclose(losses.generator(*logits), generator, 1e-5)


@pytest.mark.parametrize("name", sorted(GAN_LOSSES))
def test_adversarial_gradients(name):
    real, fake = jnp.array([0.3, 2.1]), jnp.array([-0.4, 0.7])
    for loss in GAN_LOSSES[name][:2]:
        check_grads(loss, (real, fake), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)


def test_information_by_hand():
    spec = parse_spec("cat:4,uniform:1:sigma=1,bernoulli:1,noise:2")
    latents = jnp.array([[0, 1, 0, 0, 0.5, 1, 0.3, -0.3]], jnp.float32)
    params = jnp.array([[0, 0, 0, 0, 0.0, 0.0]], jnp.float32)
    found = information(spec, params, latents)
    assert sorted(found) == ["bernoulli", "cat", "uniform"]
    np.testing.assert_allclose(found["cat"], [0], atol=1e-6)  # Q knows nothing
    np.testing.assert_allclose(found["bernoulli"], [0], atol=1e-6)
    # log 2 - log sqrt(2 pi) - 0.5^2 / 2
    np.testing.assert_allclose(found["uniform"], [-0.350791], rtol=1e-5)


def test_bound_stays_below_the_entropy_and_an_exact_q_reaches_it():
    spec = parse_spec("cat:5,uniform:1,gaussian:1,bernoulli:1,noise:3")
    latents = sample_latents(jax.random.key(0), 256, spec)
    values = split_latents(spec, latents)
    exact = jnp.concatenate(
        [
            1e4 * values["cat"],
            values["uniform"],
            values["gaussian"],
            1e4 * (2 * values["bernoulli"] - 1),
        ],
        -1,
    )
    noise = jax.random.normal(jax.random.key(1), exact.shape)
    for code in spec[:-1]:
        reached = information(spec, exact, latents)[code.name]
        np.testing.assert_allclose(reached, code.entropy(), rtol=1e-5)
        guessed = information(spec, exact + noise, latents)[code.name]
        assert (guessed <= code.entropy() + 1e-5).all()


def test_mutual_information_by_hand():
    sure = 50 * jnp.eye(4)
    info, used = mutual_information(sure, sure)
    np.testing.assert_allclose([info, used], math.log(4), rtol=1e-5)
    # All in one category; and readings that have nothing to do with each other
    info, used = mutual_information(sure[:1], sure[:1])
    np.testing.assert_allclose([info, used], 0, atol=1e-6)
    every = jnp.repeat(sure, 4, axis=0), jnp.tile(sure, (4, 1))
    np.testing.assert_allclose(mutual_information(*every)[0], 0, atol=1e-5)
    # One category for images and one for copies: nothing is read of an image
    told_apart = jnp.repeat(sure[:1], 4, axis=0), jnp.repeat(sure[1:2], 4, axis=0)
    np.testing.assert_allclose(mutual_information(*told_apart), 0, atol=1e-6)


@pytest.mark.parametrize("estimate", [mutual_information, consistency])
def test_categories_are_to_be_used_as_the_prior_has_them(estimate):
    sure, prior = 50 * jnp.eye(3), jnp.array([0.5, 0.25, 0.25])
    asked = sure[jnp.array([0, 0, 1, 2])]
    info, used = estimate(asked, asked, prior=prior)
    np.testing.assert_allclose(used, 1.5 * math.log(2), rtol=1e-5)  # H(prior)
    np.testing.assert_allclose(info, 1.5 * math.log(2), rtol=1e-5)
    _, even = estimate(sure, sure, prior=prior)
    kl = (math.log(2 / 3) + 2 * math.log(4 / 3)) / 3
    np.testing.assert_allclose(even, 1.5 * math.log(2) - kl, rtol=1e-5)
    same = estimate(asked, asked, prior=jnp.full(3, 1 / 3))
    np.testing.assert_allclose(same, estimate(asked, asked), rtol=1e-5)


def test_mutual_information_gradient():
    a, b = jax.random.normal(jax.random.key(0), (2, 6, 3))
    check_grads(
        lambda a, b: mutual_information(a, b)[0],
        (a, b),
        1,
        ["rev"],
        atol=1e-2,
        rtol=1e-2,
    )


def test_gradient_penalty_by_hand():
    # The gradient of 3 times the sum is 3 at each of the 8 pixels.
    images = jnp.ones((2, 2, 2, 2))
    penalty = gradient_penalty(lambda x: 3 * x.sum((1, 2, 3)), images)
    np.testing.assert_allclose(penalty, [72, 72])


def test_penalties_by_hand():
    """The gradient of half the squared pixel is the pixel."""

    def critic(x):
        return (x**2).sum((1, 2, 3)) / 2

    real, fake = jnp.array([2.0, 1.0]), jnp.array([4.0, 1.0])
    mix, single = jnp.array([0.5, 0.0]), (2, 1, 1, 1)
    pictures = real.reshape(single), fake.reshape(single)
    # (2^2 + 4^2) / 2, (1 + 1) / 2; (3 - 1)^2, (1 - 1)^2
    np.testing.assert_allclose(r1_r2(critic, *pictures, mix), [10, 1], rtol=1e-5)
    np.testing.assert_allclose(wgan_gp(critic, *pictures, mix), [4, 0], atol=1e-5)


def test_join_undoes_split():
    spec = parse_spec("cat:3,gaussian:2,noise:4")
    latents = sample_latents(jax.random.key(0), 5, spec)
    assert (join_latents(spec, split_latents(spec, latents)) == latents).all()


def test_linear_information_by_hand():
    every = jnp.ones(4)
    change = jnp.array([-1.0, 0.0, 1.0, 0.0])
    # Correlation 1/sqrt(2): half of the variance is of something else.
    code = jnp.array([-1.0, 1.0, 1.0, -1.0])
    expected = 0.5 * math.log(2)
    np.testing.assert_allclose(linear_information(code, change, every), expected, 1e-4)
    # Neither scale, nor sign, nor an offset matters.
    found = linear_information(5 - 3 * code, change, every)
    np.testing.assert_allclose(found, expected, 1e-4)
    # Nothing to read, nothing read, and a perfect reading are all finite.
    assert linear_information(jnp.zeros(4), change, every) == 0
    assert linear_information(jnp.array([1.0, -1.0, 1.0, -1.0]), change, every) == 0
    perfect = jax.value_and_grad(linear_information)(change, change, every)
    assert all(jnp.isfinite(x).all() for x in perfect)
    assert perfect[0] > 5
    # What does not count is as if it were not there, whatever it is
    longer = [jnp.concatenate([x, jnp.array([7.0, -50.0])]) for x in (code, change)]
    counts = jnp.array([1.0, 1, 1, 1, 0, 0])
    np.testing.assert_allclose(linear_information(*longer, counts), expected, 1e-4)
    assert linear_information(*longer, 0 * counts) == 0


def test_consistency_by_hand():
    sure = 100 * jnp.eye(2)
    same, used = consistency(sure, sure)
    assert (same, used) == (pytest.approx(math.log(2)), pytest.approx(math.log(2)))
    # Every copy in the other category: as informative, and not consistent at all
    swapped = sure[::-1]
    assert mutual_information(sure, swapped)[0] == pytest.approx(math.log(2))
    assert consistency(sure, swapped)[0] < -50
    # q = (3/4, 1/4) and (1/2, 1/2): 3/8 + 1/8 = 1/2, and (5/8, 3/8) in use
    p, q = jnp.log(jnp.array([[3.0, 1]])), jnp.zeros((1, 2))
    in_use = -(5 / 8 * math.log(5 / 8) + 3 / 8 * math.log(3 / 8))
    found, used = consistency(p, q)
    assert used == pytest.approx(in_use, abs=1e-6)
    assert found == pytest.approx(in_use + math.log(1 / 2), abs=1e-6)


def test_real_information_is_a_mean_of_both():
    readings = jax.random.normal(jax.random.key(0), (2, 6, 3))
    mutual = np.array(mutual_information(*readings))
    agreed = np.array(consistency(*readings))
    np.testing.assert_array_equal(real_information(*readings, 0.0), mutual)
    np.testing.assert_array_equal(real_information(*readings, 1.0), agreed)
    found = real_information(*readings, 0.25)
    np.testing.assert_allclose(found, 0.75 * mutual + 0.25 * agreed, rtol=1e-5)
