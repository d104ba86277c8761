"""One training step: D and Q move, then G, on one batch of real images."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from infogan_jax.core.latents import Array, split_params
from infogan_jax.core.model import Images, InfoGAN, as_float
from infogan_jax.core.objective import Batch, Metrics, Reading, Seen, evaluate_terms
from infogan_jax.core.state import Net, TrainState, apply_gradients, update_ema

TrainStep = Callable[..., tuple[TrainState, Metrics]]


class Keys(NamedTuple):
    """The random keys of a step; their order is part of a run's numbers."""

    augment_real: Array
    latents: Array
    augment_fake_d: Array  # of generated images, when D and Q move
    augment_fake_g: Array  # of the same images, when G moves
    mix: Array  # between real and generated images, for a penalty

    @classmethod
    def of(cls, state: TrainState) -> "Keys":
        """The keys of a state's next step."""
        return cls(*jax.random.split(jax.random.fold_in(state.key, state.step), 5))


def make_train_step(model: InfoGAN, axis_name: str | None = None) -> TrainStep:
    """Returns the update of D and Q, then of G, on one batch of real images.

    The result is a pure function with the signature of a `lax.scan` body. It runs
    under `jit` (also over a mesh), `vmap` over states, and, given `axis_name`, under
    `pmap` and `shard_map`; each way draws the same numbers.

    Both players see one forward pass of G, and G is updated against the new D and Q.
    D's trunk belongs to D and to Q. With lambda = 0 this is a plain GAN that Q watches:
    Q still learns to read the codes, but neither D nor G hears of it.

    Args:
        model: what to train; `objective.py` says on which loss.
        axis_name: the mapped axis over which the batch is spread; by default the
            model's own, if any.

    Returns:
        `train_step(state, images, pseudo_labels=None) -> (state, metrics)`. Images are
        `[B, H, W, C]`, uint8 or floating point in [0, 1]. Pseudo-labels, int `[B]`, are
        categories of the real images: Q learns log q(y|x) in place of I(c; x) of the
        main category. Metrics are scalars, means over the whole batch; losses and
        bounds are in nats. Raises ValueError for a number of images that is no multiple
        of `InfoGAN.augment_every` or `InfoGAN.penalty_every`.
    """
    given = model.on_axis(axis_name or model.axis_name)

    def train_step(
        state: TrainState, images: Images, pseudo_labels: Array | None = None
    ) -> tuple[TrainState, Metrics]:
        model = given.with_frequencies(state.frequencies)
        _check_batch(model, len(images))
        keys, index = Keys.of(state), _batch_index(model, len(images))
        real, augment_params = _with_copies(
            model, keys.augment_real, as_float(images), index
        )
        latents = given.sample_latents(
            keys.latents, len(images), index[0], state.frequencies
        )
        fake, pull_back, g_stats = _generate(model, state.generator, latents)
        mix = jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(keys.mix, i)))
        batch = Batch(real, fake, latents, mix(index), augment_params, pseudo_labels)

        # D and Q
        nets = {"discriminator": state.discriminator, "recognizer": state.recognizer}
        stats = {name: net.batch_stats for name, net in nets.items()}
        fake_copies, _ = _with_copies(model, keys.augment_fake_d, fake, index)
        gradients, (stats, d_metrics, used) = jax.grad(_d_loss, has_aux=True)(
            _params(model, nets), model, stats, batch, fake_copies
        )
        gradients = _sync(model, gradients)
        nets = {
            name: apply_gradients(
                net, getattr(model.optimizers, name), gradients[name], stats[name]
            )
            for name, net in nets.items()
        }

        # G, against the new D and Q, whose statistics are those of their own step
        to_fake, g_metrics = jax.grad(_g_loss, has_aux=True)(
            fake, model, _params(model, nets), stats, batch, keys.augment_fake_g, index
        )
        generator = apply_gradients(
            state.generator,
            model.optimizers.generator,
            _sync(model, pull_back(to_fake)[0]),
            g_stats,
        )
        # Where both players report a term, D's value is logged: it was read first.
        metrics = g_metrics | d_metrics
        return state.replace(  # type: ignore[attr-defined]
            step=state.step + 1,
            generator=generator,
            ema=update_ema(generator.variables, state.ema, model.ema_decay, state.step),
            frequencies=optax.incremental_update(
                _sync(model, used), state.frequencies, 1 - model.frequency_decay
            ),
            **nets,
        ), _sync(model, metrics)

    return train_step


def _check_batch(model: InfoGAN, n: int) -> None:
    for name, every in model.parts_of_batch.items():
        if n % every:
            raise ValueError(
                f"{n} images on a device: expected a multiple of {name}={every}"
            )


def _d_loss(
    params: dict[str, Any],
    model: InfoGAN,
    stats: dict[str, Any],
    batch: Batch,
    fake_copies: Array,
) -> tuple[Array, tuple[dict[str, Any], Metrics, Metrics]]:
    """The loss of D and Q; new batch statistics, metrics, and `_used_categories`."""
    real, stats = _discriminate(model, params, stats, batch.real)
    fake, stats = _discriminate(model, params, stats, fake_copies)

    def critic(images: Array) -> Array:
        return _discriminate(model, params, stats, images)[0].logits

    seen = Seen(model, batch, real, fake, critic)
    loss, metrics = evaluate_terms(model.d_terms, seen)
    return loss, (stats, metrics, _used_categories(model, real))


def _used_categories(model: InfoGAN, real: Reading) -> dict[str, Array]:
    """Q's mean probabilities of real images, `[size]`, by code with a learned prior."""
    params = split_params(model.spec, real.q_params)
    return {
        code.name: jax.nn.softmax(params[code.name]).mean(0)
        for code in model.categories
        if code.is_prior_learned
    }


def _g_loss(
    fake: Array,
    model: InfoGAN,
    params: dict[str, Any],
    stats: dict[str, Any],
    batch: Batch,
    key: Array,
    index: Array,
) -> tuple[Array, Metrics]:
    """The loss of G, as a function of the images that it made; and metrics."""
    real, _ = _discriminate(model, params, stats, batch.real)
    copies, _ = _with_copies(model, key, fake, index)
    read, _ = _discriminate(model, params, stats, copies)
    batch = batch._replace(fake=fake)  # a term of one's own may look at the images
    return evaluate_terms(model.g_terms, Seen(model, batch, real, read, None))


def _generate(
    model: InfoGAN, generator: Net, latents: Array
) -> tuple[Array, Callable, Any]:
    """Images, their pull-back to G's parameters, and the new batch statistics."""

    def forward(params: Any) -> tuple[Array, Any]:
        net = model.networks.generator
        return _apply(net, params, generator.batch_stats, latents)

    return jax.vjp(forward, _varying(model, generator.params), has_aux=True)


def _discriminate(
    model: InfoGAN, params: dict[str, Any], stats: dict[str, Any], images: Array
) -> tuple[Reading, dict[str, Any]]:
    """What D and Q say of images, and new batch statistics."""
    nets = model.networks
    (logits, features), d_stats = _apply(
        nets.discriminator, params["discriminator"], stats["discriminator"], images
    )
    if not model.weights.info:
        features = jax.lax.stop_gradient(features)  # Q only watches
    q_params, q_stats = _apply(
        nets.recognizer, params["recognizer"], stats["recognizer"], features
    )
    stats = {"discriminator": d_stats, "recognizer": q_stats}
    return Reading(logits, q_params), stats


def _with_copies(
    model: InfoGAN, key: Array, images: Array, index: Array
) -> tuple[Array, Any]:
    """The images and behind them augmented copies of some; and the copies' parameters.

    Args:
        model: says how, and how many.
        key: a PRNG key.
        images: `[B, H, W, C]`, floating point.
        index: each image's place in the whole batch, int `[B]`.
    """
    if model.augment is None:
        return images, None
    every = model.augment_every
    params = model.augment.draw(key, index[::every], images.shape[-1])
    copies = model.augment.apply(images[::every], params)
    return jnp.concatenate([images, copies]), params


def _batch_index(model: InfoGAN, n: int) -> Array:
    """The places of this device's `n` images in the whole batch, int `[n]`."""
    index = jnp.arange(n)
    if model.axis_name is not None:
        index += n * jax.lax.axis_index(model.axis_name)
    return index


def _apply(network: Any, params: Any, batch_stats: Any, inputs: Any) -> tuple[Any, Any]:
    """The network's output in training, and its new batch statistics."""
    output, changed = network.apply(
        {"params": params, "batch_stats": batch_stats},
        inputs,
        train=True,
        mutable=["batch_stats"],
    )
    return output, changed.get("batch_stats", {})


def _params(model: InfoGAN, nets: dict[str, Net]) -> dict[str, Any]:
    return {name: _varying(model, net.params) for name, net in nets.items()}


def _varying(model: InfoGAN, tree: Any) -> Any:
    """Marks replicated values as each device's own.

    Under `shard_map` the gradient of a replicated value comes back summed over devices.
    """
    if model.axis_name is None:
        return tree
    return jax.lax.pcast(tree, model.axis_name, to="varying")


def _sync(model: InfoGAN, tree: Any) -> Any:
    """The mean over all devices."""
    return tree if model.axis_name is None else jax.lax.pmean(tree, model.axis_name)
