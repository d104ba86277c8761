"""Latent codes: what the generator is given and the recogniser must read back.

A code is a frozen dataclass with the methods of `Code`. A specification (`Spec`) is
a tuple of codes, usually written as a string; see `core/spec.py`.

Reference: Chen et al. 2016, InfoGAN, arXiv:1606.03657, sections 3 to 5.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp

Array = jax.Array
T = TypeVar("T")  # an array of jax or NumPy

# With this standard deviation a Gaussian density never exceeds 1, so log q <= 0 and the
# bound log q(c|x) + H(c) stays at most H(c), as it does for discrete codes.
UNIT_DENSITY_SIGMA = 1 / math.sqrt(2 * math.pi)
_MIN_LEARNED_SIGMA = 0.01
_FREQUENCY_ERROR = 1e-3  # of the sum of a prior, which people write with few digits
_MAX_VALUE = 1000  # of a continuous code; pictures lose their meaning long before


@runtime_checkable
class Code(Protocol):
    """One latent variable: its prior, and the family of Q(c|x) that reads it."""

    @property
    def name(self) -> str:
        """Its own within a specification."""

    @property
    def weight(self) -> float:
        """Factor of this code's bound in the objective."""

    @property
    def dim(self) -> int:
        """Width inside the generator's input."""

    @property
    def n_params(self) -> int:
        """Width of Q's output for this code; 0 marks incompressible noise."""

    def sample(self, key: Array) -> Array:
        """One value from the prior, `[dim]`."""

    def log_prob(self, params: Array, value: Array) -> Array:
        """log q(value | params) in nats: `[..., n_params]`, `[..., dim]` -> `[...]`."""

    def entropy(self) -> float:
        """H(c) of the prior in nats."""

    def upper_bound(self) -> float:
        """The largest value of log q(c|x) + H(c) in nats; infinite if there is none."""

    def infer(self, params: Array) -> Array:
        """The most probable value under Q: `[..., n_params]` -> `[..., dim]`."""

    def traverse(self, n: int, low: float, high: float) -> Array:
        """Values to show what the code does, `[n, dim]`."""

    def check(self, number: float) -> None:
        """Raises ValueError unless `number` denotes a value of this code."""

    def encode(self, number: float) -> Array:
        """The value that `number` denotes, `[dim]`; noise has none."""


@dataclasses.dataclass(frozen=True)
class Categorical:
    """One of `size` categories, as a one-hot vector.

    Attributes:
        name: its own within a specification.
        size: how many categories.
        weight: factor of this code's bound in the objective.
        prior: the probability of each category; None: all are equal. Within a step it
            may be an array, `[size]`.
        is_prior_learned: training estimates the prior from real images, and begins
            with `prior`; see `TrainState.frequencies`.

    Raises:
        ValueError: the prior is no distribution over the categories.
    """

    name: str
    size: int
    weight: float = 1.0
    prior: Any = None
    is_prior_learned: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.prior, tuple):
            check_frequencies(self.prior, self.size)

    @property
    def dim(self) -> int:
        return self.size

    @property
    def n_params(self) -> int:
        return self.size

    @property
    def probabilities(self) -> Any:
        """The prior, `[size]`."""
        return (1 / self.size,) * self.size if self.prior is None else self.prior

    def sample(self, key: Array) -> Array:
        if self.prior is None:
            category = jax.random.randint(key, (), 0, self.size)
        else:
            category = jax.random.categorical(key, jnp.log(jnp.asarray(self.prior)))
        return jax.nn.one_hot(category, self.size)

    def log_prob(self, params: Array, value: Array) -> Array:
        return jnp.sum(value * jax.nn.log_softmax(params), -1)

    def entropy(self) -> float:
        if self.prior is None:
            return math.log(self.size)
        if isinstance(self.prior, tuple):
            return -math.fsum(p * math.log(p) for p in self.prior)
        within_a_step: Any = -jnp.sum(jax.scipy.special.xlogy(self.prior, self.prior))
        return within_a_step

    def upper_bound(self) -> float:
        return self.entropy()

    def infer(self, params: Array) -> Array:
        return jax.nn.one_hot(jnp.argmax(params, -1), self.size)

    def traverse(self, n: int, low: float, high: float) -> Array:
        """Every category in turn; a category has no `low` and `high`."""
        return jnp.eye(self.size)[jnp.arange(n) % self.size]

    def check(self, number: float) -> None:
        _check_whole(number, self.size - 1)

    def encode(self, number: float) -> Array:
        return jax.nn.one_hot(jnp.asarray(number, jnp.int32), self.size)


@dataclasses.dataclass(frozen=True)
class Bernoulli:
    """A fair coin: 0 or 1. Q gives the logit of 1."""

    name: str
    weight: float = 1.0
    dim: int = dataclasses.field(default=1, init=False)
    n_params: int = dataclasses.field(default=1, init=False)

    def sample(self, key: Array) -> Array:
        return jax.random.bernoulli(key, 0.5, (1,)).astype(jnp.float32)

    def log_prob(self, params: Array, value: Array) -> Array:
        signed = jnp.where(value > 0.5, params, -params)
        return jnp.sum(jax.nn.log_sigmoid(signed), -1)

    def entropy(self) -> float:
        return math.log(2)

    def upper_bound(self) -> float:
        return self.entropy()

    def infer(self, params: Array) -> Array:
        return (params > 0).astype(jnp.float32)

    def traverse(self, n: int, low: float, high: float) -> Array:
        """0 and 1 in turn; a coin has no `low` and `high`."""
        return (jnp.arange(n) % 2).astype(jnp.float32)[:, None]

    def check(self, number: float) -> None:
        _check_whole(number, 1)

    def encode(self, number: float) -> Array:
        return jnp.asarray(number, jnp.float32)[None]


@dataclasses.dataclass(frozen=True)
class Continuous:
    """A scalar that Q reads as a Gaussian; the base class of continuous codes.

    A prior of one's own overrides `sample`, `entropy` and `quantile`.
    """

    name: str
    weight: float = 1.0
    sigma: float | None = UNIT_DENSITY_SIGMA  # of Q(c|x); None: learned
    dim: int = dataclasses.field(default=1, init=False)

    @property
    def n_params(self) -> int:
        return 1 if self.sigma else 2

    @property
    def trained_range(self) -> tuple[float, float]:
        """The values that training covers well: measures and sliders run over them."""
        return -1.0, 1.0

    def entropy(self) -> float:
        raise NotImplementedError

    def quantile(self, level: Array) -> Array:
        """The prior's inverse cumulative function, of levels in (0, 1)."""
        raise NotImplementedError

    def log_prob(self, params: Array, value: Array) -> Array:
        mean = params[..., 0]
        sigma = self.sigma or _MIN_LEARNED_SIGMA + jax.nn.softplus(params[..., 1])
        error = (value[..., 0] - mean) / sigma
        return -0.5 * error**2 - jnp.log(sigma * math.sqrt(2 * math.pi))

    def upper_bound(self) -> float:
        if not self.sigma:
            return math.inf  # a learned sigma makes the density as high as it likes
        return self.entropy() - math.log(self.sigma * math.sqrt(2 * math.pi))

    def infer(self, params: Array) -> Array:
        return params[..., :1]

    def traverse(self, n: int, low: float, high: float) -> Array:
        """Evenly spaced values from `low` to `high`."""
        return jnp.linspace(low, high, n)[:, None]

    def check(self, number: float) -> None:
        if not abs(number) <= _MAX_VALUE:
            raise ValueError(f"expected a number from -{_MAX_VALUE} to {_MAX_VALUE}")

    def encode(self, number: float) -> Array:
        return jnp.asarray(number, jnp.float32)[None]


@dataclasses.dataclass(frozen=True)
class Uniform(Continuous):
    """A scalar from [-1, 1), the paper's continuous code."""

    def sample(self, key: Array) -> Array:
        return jax.random.uniform(key, (1,), minval=-1.0, maxval=1.0)

    def entropy(self) -> float:
        return math.log(2)

    def quantile(self, level: Array) -> Array:
        return 2 * level - 1


@dataclasses.dataclass(frozen=True)
class Gaussian(Continuous):
    """A scalar from the standard normal distribution."""

    @property
    def trained_range(self) -> tuple[float, float]:
        return -2.0, 2.0

    def sample(self, key: Array) -> Array:
        return jax.random.normal(key, (1,))

    def entropy(self) -> float:
        return 0.5 * math.log(2 * math.pi * math.e)

    def quantile(self, level: Array) -> Array:
        return jax.scipy.special.ndtri(level)


@dataclasses.dataclass(frozen=True)
class Noise:
    """Incompressible noise, uniform in [-1, 1) as in the paper's own code."""

    name: str
    size: int
    weight: float = dataclasses.field(default=0.0, init=False)
    n_params: int = dataclasses.field(default=0, init=False)

    @property
    def dim(self) -> int:
        return self.size

    def sample(self, key: Array) -> Array:
        return jax.random.uniform(key, (self.size,), minval=-1.0, maxval=1.0)

    def log_prob(self, params: Array, value: Array) -> Array:
        return jnp.zeros(value.shape[:-1])

    def entropy(self) -> float:
        return self.size * math.log(2)

    def upper_bound(self) -> float:
        return 0.0

    def infer(self, params: Array) -> Array:
        return jnp.zeros((*params.shape[:-1], self.size))

    def traverse(self, n: int, low: float, high: float) -> Array:
        """All dimensions at once, along the diagonal from `low` to `high`."""
        return jnp.tile(jnp.linspace(low, high, n)[:, None], (1, self.size))

    def check(self, number: float) -> None:
        raise ValueError("noise cannot be set, it is drawn from the seed")

    def encode(self, number: float) -> Array:
        raise ValueError("noise cannot be set, it is drawn from the seed")


def check_frequencies(frequencies: tuple[float, ...], size: int) -> None:
    """Raises ValueError unless they are probabilities above 0 of `size` categories."""
    if len(frequencies) != size:
        raise ValueError(f"{len(frequencies)} frequencies: expected {size}, one each")
    if not all(f > 0 for f in frequencies):
        raise ValueError(
            f"a frequency of {min(frequencies):g}: expected numbers above 0"
        )
    if not abs(math.fsum(frequencies) - 1) <= _FREQUENCY_ERROR:
        raise ValueError(
            f"frequencies with a sum of {math.fsum(frequencies):g}: expected 1"
        )


def _check_whole(number: float, largest: int) -> None:
    if number not in range(largest + 1):
        raise ValueError(f"expected a whole number from 0 to {largest}")


Spec = tuple[Code, ...]


def check_spec(spec: Spec) -> None:
    """Raises ValueError if two codes of a specification have one name."""
    names = [code.name for code in spec]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"codes: {names.count(name)} codes are named {name!r}; expected a name "
                "of its own for each, for results are kept by name"
            )


def categorical_codes(spec: Spec) -> tuple[Categorical, ...]:
    """The categorical codes, which augmentation must not change."""
    return tuple(code for code in spec if isinstance(code, Categorical))


def continuous_codes(spec: Spec) -> tuple[Continuous, ...]:
    """The codes that Q reads as Gaussians."""
    return tuple(code for code in spec if isinstance(code, Continuous))


def with_frequencies(spec: Spec, frequencies: Mapping[str, Any]) -> Spec:
    """The codes with other priors of categories: name -> probabilities, `[size]`."""
    return tuple(
        dataclasses.replace(code, prior=frequencies[code.name])  # type: ignore
        if code.name in frequencies
        else code
        for code in spec
    )


def main_category(spec: Spec) -> Categorical | None:
    """The first categorical code, whose categories are the rows of figures."""
    return next(iter(categorical_codes(spec)), None)


def trained_range(code: Code) -> tuple[float, float]:
    """The values that training covers well; -1 to 1 unless the code says otherwise."""
    return code.trained_range if isinstance(code, Continuous) else (-1.0, 1.0)


def latent_dim(spec: Spec) -> int:
    """Width of the generator's input."""
    return sum(code.dim for code in spec)


def param_dim(spec: Spec) -> int:
    """Width of the recogniser's output."""
    return sum(code.n_params for code in spec)


# Compiled as one program: on accelerators each separate operation would take its own
# slow compilation.
@functools.partial(jax.jit, static_argnums=(1, 2), inline=True)
def sample_latents(
    key: Array,
    n: int,
    spec: Spec,
    offset: int | Array = 0,
    frequencies: Mapping[str, Array] | None = None,
) -> Array:
    """`n` latent vectors from the prior, `[n, latent_dim(spec)]`.

    Example i uses `fold_in(key, offset + i)`, so a batch that is split over devices has
    the same numbers as a whole one if each part gives its own offset.

    Args:
        key: a PRNG key.
        n: how many.
        spec: the codes.
        offset: of the first example in the whole batch.
        frequencies: priors of categorical codes in place of their own, by name.
    """
    spec = with_frequencies(spec, frequencies or {})

    def one(i: Array) -> Array:
        keys = jax.random.split(jax.random.fold_in(key, i), len(spec))
        return jnp.concatenate(
            [code.sample(k) for code, k in zip(spec, keys, strict=True)]
        )

    return jax.vmap(one)(offset + jnp.arange(n))


def split_latents(spec: Spec, latents: T) -> dict[str, T]:
    """Splits `[..., latent_dim(spec)]` into the codes' values, by name."""
    return _split(spec, latents, [code.dim for code in spec])


def split_params(spec: Spec, q_params: T) -> dict[str, T]:
    """Splits `[..., param_dim(spec)]` into the codes' parameters under Q, by name."""
    return _split(spec, q_params, [code.n_params for code in spec])


def join_latents(spec: Spec, values: Mapping[str, Any]) -> Array:
    """The inverse of `split_latents`."""
    return jnp.concatenate([values[code.name] for code in spec], -1)


def _split(spec: Spec, array: Any, widths: list[int]) -> dict[str, Any]:
    parts, start = {}, 0
    for code, width in zip(spec, widths, strict=True):
        parts[code.name] = array[..., start : start + width]
        start += width
    return parts
