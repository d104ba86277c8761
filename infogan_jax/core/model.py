"""InfoGAN: codes, networks, optimisers and losses that belong together."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from infogan_jax.core.augment import Augmentation
from infogan_jax.core.latents import (
    Array,
    Categorical,
    Continuous,
    Spec,
    categorical_codes,
    check_spec,
    continuous_codes,
    latent_dim,
    main_category,
    param_dim,
    sample_latents,
    split_params,
    with_frequencies,
)
from infogan_jax.core.losses import NON_SATURATING, GanLoss, Penalty, r1_r2
from infogan_jax.core.models import ImageShape, Networks
from infogan_jax.core.objective import D_TERMS, G_TERMS, Term, Weights
from infogan_jax.core.state import Net, Optimizers, TrainState

_DEFAULT_WEIGHTS = Weights()

Images = Array  # [B, H, W, C], uint8, or floating point in [0, 1]


@dataclasses.dataclass(frozen=True)
class InfoGAN:
    """What a training run is about; frozen and hashable, so a static argument of jit.

    `infogan_jax.build_model` makes one from a `Config`, and takes codes, networks, a
    loss or an augmentation of your own in place of the config's. All that trains,
    generates, recognises or measures takes the model and a `TrainState`.

    Attributes:
        spec: the latent codes.
        image_shape: (height, width, channels).
        networks: G, D and Q; Q's output has `latents.param_dim(spec)` columns.
        optimizers: of each network.
        gan_loss: the losses of the two players.
        penalty: the gradient penalty of D, used if it has a weight.
        penalty_every: image i of a batch is penalised if i is a multiple.
        augment: label-preserving augmentation; None: none.
        augment_every: image i of a batch is also seen augmented if i is a multiple.
        weights: the factors of the terms of the objective.
        ema_decay: decay per step of the generator's moving average.
        frequency_decay: decay per step of the average that learned priors are.
        d_terms: the terms of D's and Q's loss.
        g_terms: the terms of G's loss.
        axis_name: the mapped axis over which batches are spread, if any.

    Raises:
        ValueError: two codes have one name, or a weighted term lacks what it needs.

    References:
        Chen et al. 2016, InfoGAN, arXiv:1606.03657.
    """

    spec: Spec
    image_shape: ImageShape
    networks: Networks
    optimizers: Optimizers
    gan_loss: GanLoss = NON_SATURATING
    penalty: Penalty = r1_r2
    penalty_every: int = 1
    augment: Augmentation | None = None
    augment_every: int = 2
    weights: Weights = _DEFAULT_WEIGHTS
    ema_decay: float = 0.99
    frequency_decay: float = 0.99
    d_terms: tuple[Term, ...] = D_TERMS
    g_terms: tuple[Term, ...] = G_TERMS
    axis_name: str | None = None

    def __post_init__(self) -> None:
        check_spec(self.spec)
        if not (self.d_terms and self.g_terms):
            raise ValueError("d_terms and g_terms: expected one term or more of each")
        for name in ("augment_every", "penalty_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected 1 or more")
        if self.weights.gan_on_copies and self.augment is None:
            raise ValueError(
                f"weights.gan_on_copies={self.weights.gan_on_copies}: expected an "
                "augmentation"
            )
        if self.weights.real_mi and (self.augment is None or not self.categories):
            raise ValueError(
                f"weights.real_mi={self.weights.real_mi}: expected an augmentation and "
                "a Categorical code"
            )
        if self.weights.equivariance:
            factors = self.augment.factor_names if self.augment is not None else ()
            if not factors or not self.continuous:
                raise ValueError(
                    f"weights.equivariance={self.weights.equivariance}: expected an "
                    "augmentation that has factors and a Continuous code"
                )

    @property
    def categories(self) -> tuple[Categorical, ...]:
        """The categorical codes."""
        return categorical_codes(self.spec)

    @property
    def category(self) -> Categorical | None:
        """The main categorical code, whose categories are the rows of figures."""
        return main_category(self.spec)

    @property
    def continuous(self) -> tuple[Continuous, ...]:
        """The codes that Q reads as Gaussians."""
        return continuous_codes(self.spec)

    def with_frequencies(self, frequencies: Mapping[str, Any]) -> "InfoGAN":
        """The model with other priors of categories; see `latents.with_frequencies`."""
        if not frequencies:
            return self
        return dataclasses.replace(self, spec=with_frequencies(self.spec, frequencies))

    @property
    def parts_of_batch(self) -> dict[str, int]:
        """Of which a device's number of images has to be a multiple, by name."""
        return {
            "augment_every": self.augment_every if self.augment is not None else 1,
            "penalty_every": self.penalty_every if self.weights.penalty else 1,
        }

    def on_axis(self, axis_name: str | None) -> "InfoGAN":
        """The model for batches that are spread over a mapped axis."""
        networks = self.networks.on_axis(axis_name)
        return dataclasses.replace(self, networks=networks, axis_name=axis_name)

    # Compiled as one program: operation by operation it would take seconds.
    @functools.partial(jax.jit, static_argnums=0)
    def init(self, key: Array) -> TrainState:
        """Returns a new state.

        Args:
            key: the run's key, such as `jax.random.key(seed)`. `fold_in(key, 0)`
                initialises, `fold_in(key, 1)` becomes `TrainState.key`.

        Raises:
            ValueError: a network's output has another shape than images or codes need.
        """
        nets = self.networks
        g_key, d_key, q_key = jax.random.split(jax.random.fold_in(key, 0), 3)
        images = jnp.zeros((2, *self.image_shape))
        latents = jnp.zeros((2, latent_dim(self.spec)))
        made, generator = _init(nets.generator, g_key, latents)
        (_, features), discriminator = _init(nets.discriminator, d_key, images)
        read, recognizer = _init(nets.recognizer, q_key, features)
        _check_shape("generator", made, images.shape)
        _check_shape("recognizer", read, (2, self.param_dim))
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            key=jax.random.fold_in(key, 1),
            generator=_new_net(generator, self.optimizers.generator),
            discriminator=_new_net(discriminator, self.optimizers.discriminator),
            recognizer=_new_net(recognizer, self.optimizers.recognizer),
            # A copy: a buffer that is donated must not occur twice.
            ema=jax.tree.map(jnp.copy, _variables(generator)),
            frequencies={
                code.name: jnp.asarray(code.probabilities)
                for code in self.categories
                if code.is_prior_learned
            },
        )

    def sample_latents(
        self,
        key: Array,
        n: int,
        offset: int | Array = 0,
        frequencies: Mapping[str, Array] | None = None,
    ) -> Array:
        """`n` latent vectors from the prior, `[n, L]`; see `latents.sample_latents`."""
        return sample_latents(key, n, self.spec, offset, frequencies)

    def generate(self, state: TrainState, latents: Array) -> Images:
        """Images from latents by the averaged generator.

        Args:
            state: a trained state.
            latents: `[B, L]`.

        Returns:
            `[B, H, W, C]` in [0, 1].
        """
        images: Any = self.networks.generator.apply(state.ema, latents, train=False)
        return images

    def extract_features(self, state: TrainState, images: Images) -> Array:
        """The features of D's trunk that Q reads, `[B, F]`, for any images."""
        seen: Any = self.networks.discriminator.apply(
            state.discriminator.variables, as_float(images), train=False
        )
        return seen[1]

    def recognize(self, state: TrainState, images: Images) -> Array:
        """The parameters of Q(c|x), `[B, P]`, for any images.

        `latents.split_params` gives each code its part.
        """
        return self.embed(state, self.extract_features(state, images))[0]

    def embed(self, state: TrainState, features: Array) -> tuple[Array, Array]:
        """The parameters of Q(c|x), `[B, P]`, and Q's own features of the images.

        The second are Q's last hidden layer, `[B, 128]`, which it sows as `hidden`; of
        a Q of your own that sows none, D's features.

        Args:
            state: a trained state.
            features: of `extract_features`, `[B, F]`.
        """
        q_params, kept = self.networks.recognizer.apply(
            state.recognizer.variables,
            features,
            train=False,
            mutable=["intermediates"],
        )
        sown: Any = kept.get("intermediates", {}).get("hidden", (features,))
        return q_params, sown[0].astype(jnp.float32)

    def infer_codes(self, state: TrainState, images: Images) -> dict[str, Array]:
        """The most probable value of each code under Q, for any images.

        Args:
            state: a trained state.
            images: `[B, H, W, C]`, uint8, or floating point in [0, 1].

        Returns:
            Name of the code -> `[B, dim]`: one-hot, 0 or 1, or the mean.
        """
        params = split_params(self.spec, self.recognize(state, images))
        return {
            code.name: code.infer(params[code.name])
            for code in self.spec
            if code.n_params
        }

    @property
    def param_dim(self) -> int:
        """Width of Q's output."""
        return param_dim(self.spec)

    @property
    def latent_dim(self) -> int:
        """Width of G's input."""
        return latent_dim(self.spec)


def as_float(images: Images) -> Images:
    """uint8 images as floating point in [0, 1]; floating point as it is.

    Raises:
        ValueError: they are of another type, whose white is anybody's guess.
    """
    if images.dtype == jnp.uint8:
        return images.astype(jnp.float32) / 255
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"images of {images.dtype}: expected uint8, or floating point in [0, 1]"
        )
    return images


def _init(network: Any, key: Array, inputs: Array) -> Any:
    """The network's output for the inputs, and its new variables."""
    return network.init_with_output(key, inputs, train=False)


def _check_shape(name: str, output: Array, expected: tuple[int, ...]) -> None:
    if output.shape != expected:
        raise ValueError(
            f"networks.{name}: gives {output.shape} for two inputs; expected {expected}"
        )


def _variables(variables: Any) -> dict[str, Any]:
    """Parameters and batch statistics; a network without normalisation has none."""
    return {
        "params": variables["params"],
        "batch_stats": variables.get("batch_stats", {}),
    }


def _new_net(variables: Any, optimizer: Any) -> Net:
    opt_state = optimizer.init(variables["params"])
    return Net(**_variables(variables), opt_state=opt_state)
