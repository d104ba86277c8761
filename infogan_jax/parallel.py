"""Where the step runs: the only file that knows devices.

One step function, many drivers. All of them draw the same numbers, because every
draw is a function of (key, step, index in the whole batch).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from infogan_jax.config import Config, UserError
from infogan_jax.state import TrainState
from infogan_jax.steps import Metrics, TrainStep, make_train_step

AXIS = "batch"


def make_mesh(devices: list | None = None) -> Mesh:
    """All devices in a row, the batch spread over them."""
    devices = jax.devices() if devices is None else devices
    return Mesh(np.asarray(devices), (AXIS,))


def check_batch(config: Config, n_devices: int) -> None:
    """Raises UserError unless each device gets an equal part of every batch."""
    unit = n_devices * (config.warp_every if config.warp != "none" else 1)
    if config.batch_size % unit:
        raise UserError(
            f"--batch_size={config.batch_size}: expected a multiple of {unit}, for "
            f"{n_devices} devices share each batch"
            + (f" and --warp_every={config.warp_every}" if unit > n_devices else "")
        )


def replicate(tree, mesh: Mesh):
    """A copy of the tree on each device."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def make_run(
    config: Config, image_shape: tuple[int, int, int], mesh: Mesh
) -> Callable[[TrainState, jax.Array, np.ndarray], tuple[TrainState, Metrics]]:
    """Many steps as one compiled call, over all devices of the mesh.

    Returns:
        `run(state, images, batches) -> (state, metrics)`. The state is donated. The
        images are the whole dataset on the device, uint8 `[N, H, W, C]`; the batches
        are indices `[K, batch_size]`, K at most `config.log_every`. The metrics are
        means over the K steps; `norm/state`, finite only if all parameters are, is
        taken at their end.
    """
    train_step = make_train_step(config, image_shape)
    by_batch = NamedSharding(mesh, PartitionSpec(AXIS))
    everywhere = NamedSharding(mesh, PartitionSpec())

    def run(state, images, batches, count):
        def body(i, carry):
            state, total = carry
            # Data are a function of the state's step, drawn by the host.
            real = jax.lax.with_sharding_constraint(images[batches[i]], by_batch)
            state, metrics = train_step(state, real)
            return state, jax.tree.map(jnp.add, total, metrics)

        shapes = jax.eval_shape(train_step, state, images[batches[0]])[1]
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        # The count is an argument, so a last short stretch compiles nothing anew.
        state, total = jax.lax.fori_loop(0, count, body, (state, zeros))
        metrics = {name: value / count for name, value in total.items()}
        nets = (state.generator, state.discriminator, state.recognizer)
        squares = [
            jnp.sum(x**2) for net in nets for x in jax.tree.leaves(net.variables)
        ]
        return state, metrics | {"norm/state": jnp.sqrt(sum(squares))}

    compiled = jax.jit(run, donate_argnums=0, out_shardings=(everywhere, everywhere))

    def padded(state, images, batches):
        count = len(batches)
        missing = config.log_every - count
        batches = np.pad(np.asarray(batches, np.int32), ((0, missing), (0, 0)))
        return compiled(state, images, batches, np.int32(count))

    return padded


def pmap_step(config: Config, image_shape: tuple[int, int, int]) -> TrainStep:
    """The step under `pmap`: images `[devices, B / devices, H, W, C]`."""
    return jax.pmap(
        make_train_step(config, image_shape, AXIS),
        AXIS,
        in_axes=(None, 0),
        out_axes=(None, None),
        donate_argnums=0,
    )


def shard_map_step(
    config: Config, image_shape: tuple[int, int, int], mesh: Mesh
) -> TrainStep:
    """The step under `shard_map`: images `[B, H, W, C]`, split over the mesh."""
    return jax.jit(
        jax.shard_map(
            make_train_step(config, image_shape, AXIS),
            mesh=mesh,
            in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
            out_specs=PartitionSpec(),
        ),
        donate_argnums=0,
    )
