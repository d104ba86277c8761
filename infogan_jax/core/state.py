"""What training changes: three networks, their optimisers, and a moving average."""

import functools
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
import optax

from infogan_jax.core.latents import Array


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
    """Everything that a run needs in order to continue, together with its model."""

    step: Array  # updates done, int32
    key: Array  # constant for the whole run; every draw is a function of (key, step)
    generator: Net
    discriminator: Net
    recognizer: Net
    ema: Any  # moving average of the generator's variables: what pictures use
    # Learned priors, by code: moving averages of Q's probabilities on real images
    frequencies: dict[str, Array] = flax.struct.field(default_factory=dict)

    def variables(self) -> dict[str, Any]:
        """The variables of each network."""
        return {
            "generator": self.generator.variables,
            "discriminator": self.discriminator.variables,
            "recognizer": self.recognizer.variables,
        }


class Optimizers(NamedTuple):
    """The optimiser of each network."""

    generator: optax.GradientTransformation
    discriminator: optax.GradientTransformation
    recognizer: optax.GradientTransformation


# Cached, so that equal settings give the same object and equal models compare equal.
@functools.cache
def adam(
    rate: float,
    b1: float = 0.5,
    b2: float = 0.999,
    steps: int = 0,
    decay_fraction: float = 0.0,
) -> optax.GradientTransformation:
    """Returns Adam whose step size falls linearly to 0 at the end of a run.

    Args:
        rate: the step size before it falls.
        b1: decay of the mean gradient.
        b2: decay of the squared gradient.
        steps: updates of the whole run.
        decay_fraction: fraction of the run, at its end, over which `rate` falls.
    """
    falling = round(steps * decay_fraction)
    schedule = optax.linear_schedule(
        rate, 0.0, max(falling, 1), transition_begin=steps - falling
    )
    if not falling:
        schedule = optax.constant_schedule(rate)
    return optax.chain(_scale_by_adam(b1, b2), optax.scale_by_learning_rate(schedule))


def _scale_by_adam(b1: float, b2: float) -> optax.GradientTransformation:
    """`optax.scale_by_adam`, whose moments are computed only once on CPUs too."""
    usual = optax.scale_by_adam(b1, b2)

    def update(gradient: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        _, state = usual.update(gradient, state)
        state = _materialize_on_cpu(state)
        updates = jax.tree.map(
            lambda m, v: m / (jnp.sqrt(v) + 1e-8),
            optax.tree.bias_correction(state.mu, b1, state.count),
            optax.tree.bias_correction(state.nu, b2, state.count),
        )
        return updates, state

    return optax.GradientTransformation(usual.init, update)


def apply_gradients(
    net: Net, optimizer: optax.GradientTransformation, gradient: Any, batch_stats: Any
) -> Net:
    """Returns the network after one update, with new batch statistics."""
    updates, opt_state = optimizer.update(gradient, net.opt_state, net.params)
    params = _materialize_on_cpu(optax.apply_updates(net.params, updates))
    return Net(params, batch_stats, opt_state)


def update_ema(variables: Any, ema: Any, decay: float, step: Array) -> Any:
    """Returns the moving average of variables after update number `step`, from 0.

    A young average forgets faster: it must not remember the initialisation.
    """
    young = (1 + step) / (10 + step)
    return optax.incremental_update(variables, ema, 1 - jnp.minimum(decay, young))


def _materialize_on_cpu(tree: Any) -> Any:
    """Makes XLA:CPU store a tree before anything else is computed from it.

    XLA:CPU fusions have a single output. Without a barrier the moments are recomputed
    for each consumer, after a copy of their old values. Accelerators compute all new
    values of an array in one kernel and need no barrier.
    """
    return jax.lax.platform_dependent(
        tree, cpu=jax.lax.optimization_barrier, default=lambda same: same
    )
