import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infogan_jax.core.latents import (
    Categorical,
    Code,
    latent_dim,
    param_dim,
    sample_latents,
    split_latents,
    trained_range,
)
from infogan_jax.core.spec import parse_spec


def test_names_widths_and_weights():
    spec = parse_spec("cat:10, uniform:2:weight=.1:sigma=learned ,noise:62")
    assert [code.name for code in spec] == ["cat", "uniform1", "uniform2", "noise"]
    assert latent_dim(spec) == 74
    assert param_dim(spec) == 14
    assert [code.weight for code in spec] == [1, 0.1, 0.1, 0]
    assert [code.name for code in parse_spec("cat:3,cat:4")] == ["cat1", "cat2"]
    assert all(isinstance(code, Code) for code in spec)
    hash(spec)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "cat",
        "cat:",
        "cat:1",
        "cat:x",
        "cat:-3",
        "cat:10.5",
        "cat:99999999999999999999",
        "cat:10,,noise:3",
        "dog:10",
        "cat:10:sigma=1",
        "uniform:2:sigma=0",
        "uniform:2:sigma=nan",
        "uniform:2:weight=-1",
        "uniform:2:weight=1:weight=2",
        "noise:3:weight=1",
        "uniform:2:loud",
        "cat:²",
        "cat:3:prior=.5,.5",
        "cat:3:prior=.5,.3,.3",
        "cat:3:prior=.5,.5,0",
        "cat:3:prior=1.5,.5,-1",
        "cat:2:prior=.5,nan",
        "cat:2:prior=.5,x",
        "cat:2:prior=even",
        "cat:2:prior=learned:prior=.5,.5",
        "uniform:1:prior=learned",
    ],
)
def test_malformed_specifications_are_refused_in_one_line(text):
    with pytest.raises(ValueError, match=r"^codes: [^\n]+$"):
        parse_spec(text)


def test_a_split_batch_gets_the_numbers_of_the_whole():
    spec = parse_spec("cat:4,uniform:1,noise:3")
    key = jax.random.key(3)
    whole = sample_latents(key, 8, spec)
    parts = [sample_latents(key, 2, spec, offset) for offset in (0, 2, 4, 6)]
    np.testing.assert_array_equal(whole, jnp.concatenate(parts))


def test_marginals():
    spec = parse_spec("cat:4,uniform:1,gaussian:1,bernoulli:1,noise:2")
    values = split_latents(spec, sample_latents(jax.random.key(0), 20_000, spec))
    np.testing.assert_allclose(values["cat"].mean(0), 0.25, atol=0.015)
    np.testing.assert_allclose(values["bernoulli"].mean(), 0.5, atol=0.015)
    assert np.abs(values["uniform"]).max() <= 1
    np.testing.assert_allclose(values["uniform"].var(), 1 / 3, atol=0.01)
    np.testing.assert_allclose(values["gaussian"].var(), 1, atol=0.03)
    np.testing.assert_allclose(values["noise"].mean(0), 0, atol=0.02)


def test_a_prior_of_categories():
    text = "noise:2,cat:3:prior=0.6, .3,0.1:weight=2,uniform:1"
    spec = parse_spec(text)
    assert [code.name for code in spec] == ["noise", "cat", "uniform"]
    assert spec[1].prior == (0.6, 0.3, 0.1)
    assert (spec[1].weight, spec[1].is_prior_learned) == (2, False)
    values = split_latents(spec, sample_latents(jax.random.key(0), 20_000, spec))
    np.testing.assert_allclose(values["cat"].mean(0), spec[1].prior, atol=0.015)
    other = {"cat": jnp.array([0.0, 0.2, 0.8])}
    drawn = sample_latents(jax.random.key(0), 20_000, spec, 0, other)
    shares = split_latents(spec, drawn)["cat"].mean(0)
    np.testing.assert_allclose(shares, other["cat"], atol=0.015)
    with pytest.raises(ValueError, match="2 frequencies: expected 3"):
        Categorical("kind", 3, prior=(0.5, 0.5))


def test_what_is_wrong_with_a_prior_is_named():
    for prior, told in (
        (".5,.5", "2 frequencies: expected 3, one each"),
        (".5,.3,.3", "frequencies with a sum of 1.1: expected 1"),
        (".5,.5,0", "a frequency of 0: expected numbers above 0"),
    ):
        with pytest.raises(ValueError, match=r"in 'cat:3:prior=.* has ") as caught:
            parse_spec(f"uniform:1,cat:3:prior={prior},noise:2")
        assert str(caught.value).endswith(told)


@pytest.mark.parametrize(
    ("text", "entropy"),
    [
        ("cat:10", math.log(10)),
        ("cat:3:prior=.5,.25,.25", 1.5 * math.log(2)),
        ("bernoulli:1", math.log(2)),
        ("uniform:1", math.log(2)),
        ("gaussian:1", 1.4189385),
        ("noise:3", 3 * math.log(2)),
    ],
)
def test_entropies(text, entropy):
    assert parse_spec(text)[0].entropy() == pytest.approx(entropy)


def test_a_learned_sigma_has_no_upper_bound_and_a_fixed_one_has():
    assert parse_spec("uniform:1:sigma=learned")[0].upper_bound() == math.inf
    # log 2 - log sqrt(2 pi): negative, for a sigma of 1 says little
    assert parse_spec("uniform:1:sigma=1")[0].upper_bound() == pytest.approx(-0.2257914)


def test_a_learned_sigma_is_a_density():
    code = parse_spec("uniform:1:sigma=learned")[0]
    grid = jnp.linspace(-30, 30, 20_001)[:, None]
    params = jnp.tile(jnp.array([0.3, 1.0]), (len(grid), 1))
    mass = jnp.exp(code.log_prob(params, grid)).sum() * 60 / 20_000
    assert mass == pytest.approx(1, abs=1e-3)


def test_infer_and_traverse():
    cat, bernoulli, uniform = parse_spec("cat:3,bernoulli:1,uniform:1")
    np.testing.assert_array_equal(cat.infer(jnp.array([0.0, 2, 1])), [0, 1, 0])
    np.testing.assert_array_equal(bernoulli.infer(jnp.array([-0.1])), [0])
    np.testing.assert_array_equal(uniform.infer(jnp.array([0.4])), jnp.array([0.4]))
    np.testing.assert_array_equal(cat.traverse(3, -2, 2), np.eye(3))
    np.testing.assert_allclose(uniform.traverse(3, -2, 2), [[-2], [0], [2]])
    np.testing.assert_array_equal(bernoulli.traverse(3, -2, 2), [[0], [1], [0]])


def test_one_range_of_each_code_is_trained_measured_and_exported():
    uniform, gaussian = parse_spec("uniform:1,gaussian:1")
    assert (trained_range(uniform), trained_range(gaussian)) == ((-1, 1), (-2, 2))


def test_quantiles_are_those_of_the_prior():
    levels = (jnp.arange(4000) + 0.5) / 4000
    for code in parse_spec("uniform:1,gaussian:1"):
        drawn = jax.vmap(code.sample)(jax.random.split(jax.random.key(0), 4000))[:, 0]
        np.testing.assert_allclose(
            jnp.sort(drawn)[200:-200:100],
            code.quantile(levels)[200:-200:100],
            atol=0.12,
        )
    np.testing.assert_allclose(
        code.quantile(jnp.array([0.5, 0.8413447])), [0, 1], atol=1e-4
    )
