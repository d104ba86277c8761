"""One training step, and what a trained state can do: pure functions."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from infogan_jax.augment import changes, parse_warp, random_maps, resample
from infogan_jax.latents import (
    Array,
    Spec,
    categorical_codes,
    continuous_codes,
    main_category,
    param_dim,
    parse_spec,
    sample_latents,
    split_params,
)
from infogan_jax.losses import (
    ADVERSARIAL,
    PENALTIES,
    Adversarial,
    information,
    linear_information,
    real_information,
    relative,
)
from infogan_jax.models import Networks, build_networks
from infogan_jax.state import TrainState, optimizers, updated

Images = Array  # [B, H, W, C], uint8 or floating point in [0, 1]
Metrics = dict[str, Array]
TrainStep = Callable[..., tuple[TrainState, Metrics]]


def make_train_step(
    config,
    image_shape: tuple[int, int, int],
    axis_name: str | None = None,
    *,
    spec: Spec | None = None,
    adversarial: Adversarial | None = None,
) -> TrainStep:
    """The update of D and Q, then of G, on one batch of real images.

    The result is a pure function with the signature of a `lax.scan` body. It runs
    under `jit` (also over a mesh), `vmap` over states, and, given `axis_name`, under
    `pmap` and `shard_map`; each way draws the same numbers.

        L_D = adversarial_D(D(x), D(G)) - lambda I(c; G)
              - mu [I(c; x) + beta H(c)] - nu I(c' - c; w) + gamma penalty_D
        L_G = adversarial_G(D(x), D(G)) - lambda I(c; G)

    Given target categories y of the real images, Q is told them: log q(y|x) of the main
    category stands in place of I(c; x) + beta H(c), for both plain and warped images.

    Both players see one forward pass of G, and G is updated against the new D and Q.
    D's trunk belongs to D and to Q. With lambda = 0 this is a plain GAN that Q watches:
    Q still learns to read the codes, but neither D nor G hears of it.

    Args:
        config: a `Config`, or anything that has its fields.
        image_shape: (height, width, channels).
        axis_name: the mapped axis over which the batch is spread, if any.
        spec: codes of your own, in place of `config.codes`.
        adversarial: losses of your own, in place of `config.adversarial`.

    Returns:
        `train_step(state, images, targets=None) -> (state, metrics)`: targets are int
        `[B]`; the metrics are scalars, means over the whole batch, losses and bounds
        in nats.

    References:
        Chen et al. 2016, InfoGAN, arXiv:1606.03657, eq. 6, with lambda I for both.
    """
    spec = parse_spec(config.codes) if spec is None else spec
    losses = ADVERSARIAL[config.adversarial] if adversarial is None else adversarial
    networks = build_networks(config, image_shape, param_dim(spec), axis_name)
    optimizer, limits = optimizers(config), parse_warp(config.warp)
    categories, main = categorical_codes(spec), main_category(spec)

    def discriminate(params, stats, images):
        """Logits [B], Q's parameters [B, P], and the new batch statistics."""
        (logits, features), d_stats = _apply(
            networks.discriminator,
            params["discriminator"],
            stats["discriminator"],
            images,
        )
        if not config.info_weight:
            features = jax.lax.stop_gradient(features)  # Q only watches
        q_params, q_stats = _apply(
            networks.recognizer, params["recognizer"], stats["recognizer"], features
        )
        return logits, q_params, {"discriminator": d_stats, "recognizer": q_stats}

    def with_warped(key, images, index):
        """The images, and behind them every n-th one warped; and the maps."""
        if limits is None:
            return images, None
        maps = random_maps(key, limits, index[:: config.warp_every], images.shape[-1])
        warped = resample(images[:: config.warp_every], maps)
        return jnp.concatenate([images, warped]), maps

    def bound(q_params, latents):
        """I(c; G) of each code; of a category, the mean of plain and warped."""
        n = latents.shape[0]
        bounds = _means(information(spec, q_params[:n], latents))
        if limits is not None:
            warped = _means(
                information(spec, q_params[n:], latents[:: config.warp_every])
            )
            for code in categories:
                bounds[code.name] = (bounds[code.name] + warped[code.name]) / 2
        return bounds

    def read_twice(q_params, n):
        """I(c; x) and H(c) of each category."""
        plain = split_params(spec, q_params[:n][:: config.warp_every])
        warped = split_params(spec, q_params[n:])
        return {
            code.name: real_information(
                plain[code.name], warped[code.name], config.agreement_share, axis_name
            )
            for code in categories
        }

    def equivariance(q_params, n, maps):
        """I(c' - c; w) of the continuous codes that have a change to follow."""
        plain = split_params(spec, q_params[:n][:: config.warp_every])
        warped = split_params(spec, q_params[n:])
        counts, found = jnp.ones(len(maps.gain)), {}
        if limits.alone:  # a copy of one channel does not show what was done to others
            counts = (maps.gain > 0).all(-1).astype(jnp.float32)
        for code, change in zip(
            continuous_codes(spec), changes(maps, limits.followed).T, strict=False
        ):
            gained = code.infer(warped[code.name]) - code.infer(plain[code.name])
            found[code.name] = linear_information(
                gained[:, 0], change, counts, axis_name
            )
        return found

    def told(q_params, targets):
        """log q(y|x) of the main category, plain and warped."""
        seen = jnp.concatenate([targets, targets[:: config.warp_every]])
        log_q = main.log_prob(
            split_params(spec, q_params)[main.name], jax.nn.one_hot(seen, main.size)
        )
        return log_q.mean()

    def weighted(bounds):
        return sum(code.weight * bounds[code.name] for code in spec if code.n_params)

    def train_step(
        state: TrainState, images: Images, targets: Array | None = None
    ) -> tuple[TrainState, Metrics]:
        n = images.shape[0]
        index = jnp.arange(n)
        nets = {"discriminator": state.discriminator, "recognizer": state.recognizer}
        params = {name: _local(net.params, axis_name) for name, net in nets.items()}
        g_params = _local(state.generator.params, axis_name)
        if axis_name is not None:
            index += n * jax.lax.axis_index(axis_name)
        draw = jax.random.split(jax.random.fold_in(state.key, state.step), 5)

        # Pictures
        real, maps = with_warped(draw[0], as_float(images), index)
        latents = sample_latents(draw[1], n, spec, index[0])
        fake, pull_back, g_stats = jax.vjp(
            lambda p: _apply(
                networks.generator, p, state.generator.batch_stats, latents
            ),
            g_params,
            has_aux=True,
        )

        def compared(real_logits, fake_logits):
            return relative(losses, real_logits[:n], fake_logits[:n], axis_name)

        # D and Q
        mix = jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(draw[4], i)))(
            index
        )

        def d_objective(params):
            stats = {name: net.batch_stats for name, net in nets.items()}
            real_logits, q_real, stats = discriminate(params, stats, real)
            fake_logits, q_fake, stats = discriminate(
                params, stats, with_warped(draw[2], fake, index)[0]
            )
            loss = losses.discriminator(*compared(real_logits, fake_logits)).mean()
            bounds = bound(q_fake, latents)
            metrics = {"loss/discriminator": loss}
            metrics |= {f"information/{name}": value for name, value in bounds.items()}
            objective = loss - (config.info_weight or 1.0) * weighted(bounds)
            if config.real_weight:
                for name, (info, used) in read_twice(q_real, n).items():
                    metrics |= {f"information_real/{name}": info, f"used/{name}": used}
                    term = info + config.balance_weight * used
                    if targets is not None and name == main.name:
                        term = metrics[f"told/{name}"] = told(q_real, targets)
                    objective -= config.real_weight * term
            if config.equivariance_weight:
                for name, info in equivariance(q_real, n, maps).items():
                    metrics[f"equivariance/{name}"] = info
                    objective -= config.equivariance_weight * info
            if config.penalty_weight:
                penalty = PENALTIES[config.penalty](
                    lambda x: discriminate(params, stats, x)[0], real[:n], fake, mix
                ).mean()
                metrics["loss/penalty"] = penalty
                objective += config.penalty_weight * penalty
            return objective, (stats, metrics)

        gradients, (stats, metrics) = jax.grad(d_objective, has_aux=True)(params)
        gradients = _sync(gradients, axis_name)
        new = {
            name: updated(net, optimizer[name], gradients[name], stats[name])
            for name, net in nets.items()
        }

        # G, against the new D and Q; their statistics are those of their own step
        new_params = {name: _local(net.params, axis_name) for name, net in new.items()}

        def g_objective(fake):
            real_logits, _, _ = discriminate(new_params, stats, real)
            fake_logits, q_fake, _ = discriminate(
                new_params, stats, with_warped(draw[3], fake, index)[0]
            )
            loss = losses.generator(*compared(real_logits, fake_logits)).mean()
            return loss - config.info_weight * weighted(bound(q_fake, latents)), loss

        to_fake, metrics["loss/generator"] = jax.grad(g_objective, has_aux=True)(fake)
        gradient = _sync(pull_back(to_fake)[0], axis_name)
        generator = updated(state.generator, optimizer["generator"], gradient, g_stats)

        # A young average forgets faster: it must not remember the initialisation.
        decay = jnp.minimum(config.ema_decay, (1 + state.step) / (10 + state.step))
        return state.replace(  # type: ignore[attr-defined]
            step=state.step + 1,
            generator=generator,
            ema=optax.incremental_update(generator.variables, state.ema, 1 - decay),
            **new,
        ), _sync(metrics, axis_name)

    return train_step


def generate(state: TrainState, latents: Array, config) -> Images:
    """Pictures from latents by the averaged generator.

    Args:
        state: a trained state.
        latents: `[B, latent_dim]`.
        config: the config of the state.

    Returns:
        `[B, H, W, C]` in [0, 1].
    """
    generator = _networks(state, config).generator
    images: Any = generator.apply(state.ema, latents, train=False)
    return images


def infer_codes(state: TrainState, images: Images, config) -> dict[str, Array]:
    """The most probable value of each code under Q, for images real or not.

    Args:
        state: a trained state.
        images: `[B, H, W, C]`, uint8 or in [0, 1].
        config: the config of the state.

    Returns:
        name of the code -> `[B, dim]`: one-hot, 0 or 1, or the mean.
    """
    spec = parse_spec(config.codes)
    params = split_params(spec, recognize(state, images, config))
    return {code.name: code.infer(params[code.name]) for code in spec if code.n_params}


def recognize(state: TrainState, images: Images, config) -> Array:
    """The parameters of Q(c|x), for images real or not.

    Args:
        state: a trained state.
        images: `[B, H, W, C]`, uint8 or in [0, 1].
        config: the config of the state.

    Returns:
        `[B, param_dim]`; `latents.split_params` gives each code its part.
    """
    networks = _networks(state, config)
    features = extract_features(state, images, config)
    q_params: Any = networks.recognizer.apply(
        state.recognizer.variables, features, train=False
    )
    return q_params


def extract_features(state: TrainState, images: Images, config) -> Array:
    """What D's trunk tells Q about images, real or not.

    Args:
        state: a trained state.
        images: `[B, H, W, C]`, uint8 or in [0, 1].
        config: the config of the state.

    Returns:
        `[B, F]`.
    """
    seen: Any = _networks(state, config).discriminator.apply(
        state.discriminator.variables, as_float(images), train=False
    )
    return seen[1]


def _networks(state: TrainState, config) -> Networks:
    n_params = param_dim(parse_spec(config.codes))
    return build_networks(config, state.image_shape, n_params)


def as_float(images: Images) -> Images:
    """uint8 images as floating point in [0, 1]; others as they are."""
    if images.dtype == jnp.uint8:
        return images.astype(jnp.float32) / 255
    return images


def _apply(network, params, batch_stats, inputs) -> tuple[Any, Any]:
    """The network's output in training, and its new batch statistics."""
    output, changed = network.apply(
        {"params": params, "batch_stats": batch_stats},
        inputs,
        train=True,
        mutable=["batch_stats"],
    )
    return output, changed.get("batch_stats", {})


def _local(tree, axis_name):
    """Each device's own copy of what all hold, so that gradients are its own too.

    The gradient of a value that all devices hold would come back summed over them.
    """
    return tree if axis_name is None else jax.lax.pcast(tree, axis_name, to="varying")


def _sync(tree, axis_name):
    """The mean over all devices."""
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def _means(values: Metrics) -> Metrics:
    return {name: value.mean() for name, value in values.items()}
