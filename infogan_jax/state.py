"""What training changes: three networks, their optimisers, and a moving average."""

import functools
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

from infogan_jax.latents import Array, latent_dim, param_dim, parse_spec
from infogan_jax.models import build_networks


@flax.struct.dataclass
class Net:
    """One network: its parameters, batch statistics and optimiser state."""

    params: Any
    batch_stats: Any  # running mean and variance of each batch normalisation
    opt_state: Any

    @property
    def variables(self) -> dict[str, Any]:
        """What `flax.linen.Module.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


@flax.struct.dataclass
class TrainState:
    """All that a run needs to go on, together with its config."""

    step: Array  # updates done, int32
    key: Array  # constant for the whole run; every draw is a function of (key, step)
    generator: Net
    discriminator: Net
    recognizer: Net
    image_shape: tuple[int, int, int] = flax.struct.field(pytree_node=False)
    ema: Any  # moving average of the generator's variables: what pictures use

    def variables(self) -> dict[str, Any]:
        """Of each network."""
        nets = {"generator": self.generator, "discriminator": self.discriminator}
        nets["recognizer"] = self.recognizer
        return {name: net.variables for name, net in nets.items()}


def adam(config, rate: float) -> optax.GradientTransformation:
    """Adam, its step size falling linearly to 0 over the run's last `decay_share`."""
    falling = round(config.steps * config.decay_share)
    schedule = optax.linear_schedule(
        rate, 0.0, max(falling, 1), transition_begin=config.steps - falling
    )
    return optax.chain(
        _scale_by_adam(config.adam_b1, config.adam_b2),
        optax.scale_by_learning_rate(schedule),
    )


def _scale_by_adam(b1: float, b2: float) -> optax.GradientTransformation:
    """`optax.scale_by_adam`, whose moments are computed once on CPUs too."""
    usual = optax.scale_by_adam(b1, b2)

    def update(gradient, state, params=None):
        _, state = usual.update(gradient, state)
        state = _stored_on_cpus(state)
        updates = jax.tree.map(
            lambda m, v: m / (jnp.sqrt(v) + 1e-8),
            optax.tree.bias_correction(state.mu, b1, state.count),
            optax.tree.bias_correction(state.nu, b2, state.count),
        )
        return updates, state

    return optax.GradientTransformation(usual.init, update)


def updated(net: Net, optimizer, gradient, batch_stats) -> Net:
    """The network after one update, with new batch statistics."""
    updates, opt_state = optimizer.update(gradient, net.opt_state, net.params)
    params = _stored_on_cpus(optax.apply_updates(net.params, updates))
    return Net(params, batch_stats, opt_state)


def _stored_on_cpus(tree):
    """The same tree, on CPUs in memory before anything else is computed from it.

    What XLA fuses for a CPU has one result, so what two of them need is computed twice,
    and a former value that the second one still reads has to be copied first.
    Accelerators compute all new values of an array in one kernel.
    """
    return jax.lax.platform_dependent(
        tree, cpu=jax.lax.optimization_barrier, default=lambda same: same
    )


def optimizers(config) -> dict[str, optax.GradientTransformation]:
    """Adam for each network (arXiv:1606.03657, appendix C: D 2e-4, G 1e-3, b1 .5)."""
    return {
        "generator": adam(config, config.g_learning_rate),
        "discriminator": adam(config, config.d_learning_rate),
        "recognizer": adam(config, config.d_learning_rate),
    }


# One program: operation by operation, each would be compiled, for seconds in all
@functools.partial(jax.jit, static_argnames=("config", "image_shape"))
def init_state(key: Array, config, image_shape: tuple[int, int, int]) -> TrainState:
    """A new state. `fold_in(key, 0)` initialises, `fold_in(key, 1)` runs the training.

    Args:
        key: the run's key, `jax.random.key(config.seed)`.
        config: a `Config`.
        image_shape: (height, width, channels).
    """
    spec = parse_spec(config.codes)
    networks = build_networks(config, image_shape, param_dim(spec))
    keys = jax.random.split(jax.random.fold_in(key, 0), 3)
    images = jnp.zeros((2, *image_shape))
    variables = {
        "generator": networks.generator.init(
            keys[0], jnp.zeros((2, latent_dim(spec))), train=False
        ),
        "discriminator": networks.discriminator.init(keys[1], images, train=False),
    }
    _, features = networks.discriminator.apply(
        variables["discriminator"], images, train=False
    )
    variables["recognizer"] = networks.recognizer.init(keys[2], features, train=False)
    # An architecture without batch normalisation has no statistics.
    variables = {
        name: {"params": v["params"], "batch_stats": v.get("batch_stats", {})}
        for name, v in variables.items()
    }
    nets = {
        name: Net(**v, opt_state=optimizers(config)[name].init(v["params"]))
        for name, v in variables.items()
    }
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=jax.random.fold_in(key, 1),
        image_shape=image_shape,
        # A copy, for a buffer that is donated must not occur twice.
        ema=jax.tree.map(jnp.copy, variables["generator"]),
        **nets,
    )
