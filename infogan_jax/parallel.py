"""Where the step runs: the only file that knows devices.

One step function, many drivers. All of them draw the same numbers, because every
draw is a function of (key, step, index in the whole batch).
"""

import contextlib
import dataclasses
import functools
import math
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from infogan_jax.config import Config, UserError
from infogan_jax.steps import TrainStep, make_train_step

AXIS = "batch"


def give_replicas_cores(replicas: int) -> None:
    """Makes as many CPU devices as cores, where replicas can share them evenly.

    Replicas side by side are faster than one on all cores in turn: small convolutions
    spend much of their time waiting for each other. All devices share all cores. To be
    called before jax is used; other accelerators do not notice.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    devices = max(n for n in range(1, cores + 1) if replicas % n == 0)
    flags = os.environ.get("XLA_FLAGS", "")
    if devices > 1 and "xla_force_host_platform_device_count" not in flags:
        # Where jax is in use already, its devices stay as they are
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", devices)


@functools.cache
def compiler_options(platform: str) -> dict[str, str]:
    """How XLA is to compile steps for "cpu", "gpu" or "tpu", for `jax.jit`.

    Of the programs that YNNPACK has for a CPU, all but convolutions: for a kernel's
    gradient XLA's own takes a third of the time. Nothing where XLA_FLAGS says
    otherwise, or XLA has no such option.
    """
    name = "xla_cpu_experimental_ynn_fusion_type"
    if platform != "cpu" or name in os.environ.get("XLA_FLAGS", ""):
        return {}
    kept = "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"
    try:
        jax.jit(lambda: 0).lower().compile({name: kept})
    except jax.errors.JaxRuntimeError:
        return {}
    return {name: kept}


def make_mesh(devices: list | None = None) -> Mesh:
    """All devices in a row, the batch spread over them."""
    devices = jax.devices() if devices is None else devices
    return Mesh(np.asarray(devices), (AXIS,))


def check_batch(config: Config, mesh: Mesh) -> None:
    """Raises UserError unless each device gets an equal part of every batch."""
    if _spread(config.seeds, mesh):
        return  # whole replicas, each with its whole batch
    unit = mesh.size * (config.warp_every if config.warp != "none" else 1)
    if config.batch_size % unit:
        raise UserError(
            f"--batch_size={config.batch_size}: expected a multiple of {unit}, for "
            f"{mesh.size} devices share each batch"
            + (f" and --warp_every={config.warp_every}" if unit > mesh.size else "")
        )


def replicate(tree, mesh: Mesh):
    """A copy of the tree on each device."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def shapes(tree, sharding: NamedSharding):
    """What stands for a tree of arrays, placed so, when a program is traced."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
    )


def placement(mesh: Mesh, replicas: int = 1) -> NamedSharding:
    """Where `make_run` wants states: replicas are spread out if they share evenly."""
    spec = PartitionSpec(AXIS) if _spread(replicas, mesh) else PartitionSpec()
    return NamedSharding(mesh, spec)


def gather(tree):
    """A copy of the whole tree on one device of this process."""
    if jax.process_count() > 1:
        return jax.tree.map(lambda x: x.addressable_data(0), _replicator()(tree))
    # Without a computation: to index what is spread is one collective per array, and
    # CPU devices may wait for each other forever in them.
    return jax.device_put(tree, jax.local_devices()[0])


def other_keys(key, which: np.ndarray, number: int, sharding: NamedSharding):
    """The keys of some replicas `[R]`, or of a run alone, folded with a number."""

    def change(key):
        shape = (-1,) if key.ndim else ()
        folded = jax.vmap(jax.random.fold_in, (0, None))(key.reshape(-1), number)
        return jnp.where(which.reshape(shape), folded.reshape(shape), key)

    return jax.jit(change, out_shardings=sharding)(key)


@functools.cache
def _replicator() -> Callable:
    whole = NamedSharding(make_mesh(), PartitionSpec())
    return jax.jit(lambda tree: tree, out_shardings=whole)


def load_batches(arrays, batches: np.ndarray, mesh: Mesh, length: int, replicas: int):
    """The rows of stored arrays that batches name, each read by whoever needs it.

    Args:
        arrays: `[N, ...]` each, which give arrays when indexed by an array.
        batches: indices `[K, B]`, with replicas `[R, K, B]`.
        mesh: the devices.
        length: the K of the result, at least that of the batches; the rest is zeros.
        replicas: how many.

    Returns:
        `[length, B, ...]` each, with replicas first, spread as `make_run` wants them.
    """
    *replica, count, size = batches.shape
    spread = _spread(replicas, mesh)
    by = (AXIS,) if spread else (*[None] * (batches.ndim - 1), AXIS)
    sharding = NamedSharding(mesh, PartitionSpec(*by))

    def load(array):
        def part(index):
            rows = array[batches[index[: batches.ndim]]]
            missing = [(0, 0)] * rows.ndim
            missing[len(replica)] = (0, length - count)
            return np.pad(rows, missing)

        shape = (*replica, length, size, *array.shape[1:])
        return jax.make_array_from_callback(shape, sharding, part)

    return jax.tree.map(load, arrays)


def memory() -> int | None:
    """Bytes of a device, if it tells them; CPU devices share their machine's."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return (device.memory_stats() or {}).get("bytes_limit")


def sharing() -> int:
    """How many devices share one memory and its cores: a CPU's, of one process."""
    on_cpu = jax.local_devices()[0].platform == "cpu"
    return jax.local_device_count() if on_cpu else 1


def most_resident_bytes() -> float:
    """How many bytes of images may stay in memory, if `input` is "auto"."""
    return (memory() or math.inf) / 4 / sharing()


def check_memory(init: Callable, held: int, replicas: int, mesh: Mesh) -> None:
    """Raises UserError if so many states cannot be held, with what they would need.

    Counted are the states three times, for they are copied to be saved and worked on in
    a compiled loop, and once per device the data that it holds, in bytes; what a step
    needs comes on top.
    """
    state = jax.eval_shape(init, jax.random.key(0))
    sizes = [math.prod(x.shape) * 4 for x in jax.tree.leaves(state)]
    share = replicas // mesh.size if _spread(replicas, mesh) else replicas
    needed = (3 * share * sum(sizes) + held) * sharing()
    limit = memory()
    if limit and needed > limit:
        raise UserError(
            f"--seeds={replicas}: need about {needed / 2**30:.1f} GiB, "
            f"{limit / 2**30:.1f} GiB are there; train fewer, or smaller networks"
        )


def _spread(replicas: int, mesh: Mesh) -> bool:
    return replicas > 1 and replicas % mesh.size == 0


@dataclasses.dataclass(frozen=True)
class Run:
    """Many steps as one call, which compiles what is not compiled; see `make_run`."""

    program: Any  # jitted, lowered or compiled
    length: int
    streamed: bool
    platform: str

    def __call__(self, state, arrays, batches, targets=None):
        return self.program(*self._inputs(state, arrays, batches, targets))

    def lower(self, state, arrays, batches, targets=None) -> "Run":
        """Traced for inputs of such shapes, to be compiled."""
        inputs = self._inputs(state, arrays, batches, targets)
        return dataclasses.replace(self, program=self.program.lower(*inputs))

    def compile(self, options: dict[str, Any] | None = None) -> "Run":
        """What was traced, compiled, by more XLA options; nothing is executed."""
        options = compiler_options(self.platform) | (options or {})
        program = self.program.compile(compiler_options=options)
        return dataclasses.replace(self, program=program)

    def _inputs(self, state, arrays, batches, targets):
        batches = np.asarray(batches, np.int32)
        count = batches.shape[-2]
        missing = [(0, 0)] * (batches.ndim - 2) + [(0, self.length - count), (0, 0)]
        resident, stack = (None, arrays) if self.streamed else (arrays, None)
        return state, resident, (np.pad(batches, missing), targets, stack), count


def make_run(
    train_step: Callable,
    mesh: Mesh,
    length: int,
    replicas: int = 1,
    streamed: bool = False,
) -> Run:
    """Many steps as one compiled call, over all devices of the mesh.

    Several replicas are one program. Where they share the devices evenly, each device
    has whole replicas, and none waits for another; otherwise the devices share every
    batch. An accelerator takes the replicas of a device at once, by `vmap`; a CPU takes
    one after the other, for its convolutions do not gain by it.

    Args:
        train_step: `(state, batch) -> (state, metrics)`; the state has `variables()`.
        mesh: the devices.
        length: the most steps of one call.
        replicas: how many states are trained at once.
        streamed: the arrays of each call are its batches, as `load_batches` gives them.

    Returns:
        `run(state, arrays, batches, targets=None) -> (state, metrics, norm)`. The
        state, which is donated, has `placement`. The arrays are the whole dataset on
        the devices, each `[N, ...]`; the batches are indices `[K, B]`, K at most
        `length`; targets, `[N]`, are a third argument of the step. The metrics are
        those of each step, `[length]`, zeros after the K; the norm is that of all
        parameters after the last step, finite only if they are. With replicas, all but
        the arrays have them first.
    """
    # Traced once for the shapes and for the loop
    train_step = jax.jit(train_step, inline=True)
    spread = _spread(replicas, mesh)
    by_batch = NamedSharding(mesh, PartitionSpec(AXIS))
    platform = mesh.devices.flat[0].platform

    def alone(state, arrays, own, count):
        batches, targets, stack = own

        def batch(i):
            data = (arrays,) if targets is None else (arrays, targets)
            taken = jax.tree.map(lambda x: x[batches[i]], data)
            if streamed:
                taken = jax.tree.map(lambda x: x[i], stack), *taken[1:]
            return (
                taken if spread else jax.lax.with_sharding_constraint(taken, by_batch)
            )

        def body(i, carry):
            state, rows = carry
            # Data are a function of the state's step, drawn by the host.
            state, row = train_step(state, *batch(i))
            return state, jax.tree.map(lambda x, y: x.at[i].set(y), rows, row)

        shapes = jax.eval_shape(train_step, state, *batch(0))[1]
        zeros = jax.tree.map(lambda x: jnp.zeros((length, *x.shape), x.dtype), shapes)
        # The count is an argument, so a stretch of other length compiles nothing anew.
        state, metrics = jax.lax.fori_loop(0, count, body, (state, zeros))
        squares = [jnp.sum(x**2) for x in jax.tree.leaves(state.variables())]
        return state, metrics, jnp.sqrt(sum(squares))

    def together(state, arrays, own, count):
        here = len(own[0])
        return jax.lax.map(
            lambda one: alone(one[0], arrays, one[1], count),
            (state, own),
            batch_size=None if platform == "cpu" else here,
        )

    split, whole = PartitionSpec(AXIS), PartitionSpec()
    run = alone if replicas == 1 else together
    if spread:
        run = jax.shard_map(
            run,
            mesh=mesh,
            in_specs=(split, whole, split, whole),
            out_specs=split,
            check_vma=False,  # the devices have nothing to say to each other
        )
    out = NamedSharding(mesh, split if spread else whole)
    program = jax.jit(run, donate_argnums=0, out_shardings=out)
    return Run(program, length, streamed, platform)


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
