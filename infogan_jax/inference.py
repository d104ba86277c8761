"""A trained model applied to any number of inputs, compiled for one shape."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from infogan_jax.compiling import compiler_options
from infogan_jax.core.classifier import ClassifierState, ImageClassifier
from infogan_jax.core.latents import (
    Array,
    Bernoulli,
    Categorical,
    Spec,
    sample_latents,
    split_params,
    with_frequencies,
)
from infogan_jax.core.model import InfoGAN
from infogan_jax.core.state import TrainState

_BATCH = 250  # on CPUs a tenth faster than 500
_LEAST_FREQUENCY = 1e-6  # of a category whose learned one vanished


def in_batches(
    method: Callable, model: Any, state: Any, inputs: Any, size: int = _BATCH
) -> Any:
    """Returns `method(model, state, inputs)` as numpy arrays, computed batch by batch.

    Args:
        method: such as `InfoGAN.generate`; row i of all that it returns belongs to row
            i of its inputs. bfloat16 is returned as float32.
        model: hashable; equal models share what is compiled.
        state: what the method takes.
        inputs: an array, or what is indexed like one, `[N, ...]`, N at least 1.
        size: of a batch.
    """
    compiled, n = _compiled(method), len(inputs)

    def call(start: int) -> Any:
        batch = np.asarray(inputs[start : start + size])
        missing = [(0, size - len(batch))] + [(0, 0)] * (batch.ndim - 1)
        return compiled(model, state, np.pad(batch, missing))

    outputs, following = None, call(0)
    for start in range(0, n, size):
        out = following
        if start + size < n:  # is read and computed while this one is copied
            following = call(start + size)
        out = jax.tree.map(_to_numpy, out)
        if outputs is None:
            outputs = jax.tree.map(lambda x: np.empty((n, *x.shape[1:]), x.dtype), out)
        for whole, rows in zip(*map(jax.tree.leaves, (outputs, out)), strict=True):
            whole[start : start + size] = rows[: n - start]
    return outputs


@functools.cache
def _compiled(method: Callable) -> Any:
    options = compiler_options(jax.default_backend())
    return jax.jit(method, static_argnums=0, compiler_options=options)


def _to_numpy(x: jax.Array) -> np.ndarray:
    # numpy would sum bfloat16 in bfloat16.
    is_float = jnp.issubdtype(x.dtype, jnp.floating)
    return np.asarray(x, np.float32 if is_float else None)


@dataclasses.dataclass(frozen=True)
class Trained:
    """An InfoGAN and its trained state: arrays in, arrays out, any number at once."""

    model: InfoGAN
    state: TrainState

    @property
    def step(self) -> int:
        """Updates done."""
        return int(self.state.step)

    @functools.cached_property
    def spec(self) -> Spec:
        """The codes, with the priors that were learned."""
        learned = {}
        for name, frequencies in self.state.frequencies.items():
            known = np.maximum(np.asarray(frequencies, float), _LEAST_FREQUENCY)
            learned[name] = tuple((known / known.sum()).tolist())
        return with_frequencies(self.model.spec, learned)

    def sample_latents(self, key: Array, n: int) -> np.ndarray:
        """`n` latent vectors from the prior, `[n, L]`."""
        frequencies = self.state.frequencies  # an argument, so compiled once
        return np.asarray(sample_latents(key, n, self.model.spec, 0, frequencies))

    def generate(self, latents: Any) -> np.ndarray:
        """Images from latents `[N, L]`: `[N, H, W, C]` in [0, 1]."""
        return in_batches(InfoGAN.generate, self.model, self.state, latents)

    def recognize(self, images: Any) -> np.ndarray:
        """Parameters of Q(c|x), `[N, P]`."""
        return in_batches(InfoGAN.recognize, self.model, self.state, images)

    def infer_codes(self, images: Any) -> dict[str, np.ndarray]:
        """The most probable value of each code: name -> `[N, dim]`."""
        return in_batches(InfoGAN.infer_codes, self.model, self.state, images)

    def infer_categories(self, images: Any) -> dict[str, np.ndarray]:
        """The most probable category, by categorical code: int `[N]` each."""
        codes = self.infer_codes(images)
        return {c.name: codes[c.name].argmax(-1) for c in self.model.categories}

    def read_codes(self, images: Any) -> dict[str, np.ndarray]:
        """What Q says of images, a number each: `[N]` each.

        The probability of each category, by names such as `cat 3`, and of a Bernoulli
        code's 1; the mean of other codes.
        """
        return in_batches(_read_codes, self.model, self.state, images)

    def embed(self, images: Any) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """What `read_codes` says, and the features it comes from, `[N, F]`."""
        return in_batches(_embed, self.model, self.state, images)

    def category_probabilities(self, images: Any) -> np.ndarray:
        """Probability of each category of the main code, `[N, size]`.

        Raises:
            ValueError: there is no categorical code.
        """
        if self.model.category is None:
            raise ValueError("category_probabilities: there is no categorical code")
        return in_batches(_category_probabilities, self.model, self.state, images)


def most_probable(code: Categorical, readings: dict[str, np.ndarray]) -> np.ndarray:
    """The most probable category of a code by what `Trained.read_codes` says, `[N]`."""
    names = (f"{code.name} {k}" for k in range(code.size))
    return np.stack([readings[name] for name in names]).argmax(0)


def precompile(trained: Trained) -> None:
    """Compiles the methods that evaluators use, for a later start from the cache."""
    model, state = trained.model, trained.state
    latents = jax.ShapeDtypeStruct((_BATCH, model.latent_dim), jnp.float32)
    images = jax.ShapeDtypeStruct((_BATCH, *model.image_shape), jnp.uint8)
    generated = jax.ShapeDtypeStruct(images.shape, jnp.float32)
    for method, inputs in (
        (InfoGAN.generate, latents),
        (InfoGAN.infer_codes, images),
        (InfoGAN.recognize, generated),
    ):
        _compiled(method).lower(model, state, inputs).compile()


def _read_codes(model: InfoGAN, state: TrainState, images: Array) -> dict[str, Array]:
    return _readings(model, model.recognize(state, images))


def _embed(
    model: InfoGAN, state: TrainState, images: Array
) -> tuple[dict[str, Array], Array]:
    q_params, features = model.embed(state, model.extract_features(state, images))
    return _readings(model, q_params), features


def _readings(model: InfoGAN, q_params: Array) -> dict[str, Array]:
    params = split_params(model.spec, q_params)
    read = {}
    for code in model.spec:
        if isinstance(code, Categorical):
            probabilities = jax.nn.softmax(params[code.name])
            for k, of_category in enumerate(probabilities.T):
                read[f"{code.name} {k}"] = of_category
        elif isinstance(code, Bernoulli):
            read[code.name] = jax.nn.sigmoid(params[code.name])[:, 0]
        elif code.n_params:
            read[code.name] = code.infer(params[code.name])[:, 0]
    return read


def _category_probabilities(model: InfoGAN, state: TrainState, images: Array) -> Array:
    params = split_params(model.spec, model.recognize(state, images))
    assert model.category is not None
    return jax.nn.softmax(params[model.category.name])


@dataclasses.dataclass(frozen=True)
class TrainedClassifier:
    """A classification network and its trained state."""

    model: ImageClassifier
    state: ClassifierState
    class_names: list[str]

    def logits(self, images: Any) -> np.ndarray:
        """`[N, K]` of images `[N, H, W, C]`."""
        return in_batches(ImageClassifier.classify, self.model, self.state, images)[0]

    def classify(self, images: Any) -> np.ndarray:
        """The class of each image, int `[N]`."""
        return self.logits(images).argmax(-1)

    def features(self, images: Any) -> np.ndarray:
        """Features before the last layer, `[N, F]`."""
        return in_batches(ImageClassifier.classify, self.model, self.state, images)[1]


def weight_digest(weights: Any) -> str:
    """Twelve hexadecimal digits of SHA-256 over all weights."""
    total = hashlib.sha256()
    for leaf in jax.tree.leaves(weights):
        total.update(np.asarray(leaf).tobytes())
    return total.hexdigest()[:12]
