"""Where the step runs: the only module that knows devices.

One step function, many drivers. All of them draw the same numbers, because every draw
is a function of (key, step, index in the whole batch). A *member* is one of several
seeds that are trained together.
"""

import contextlib
import dataclasses
import functools
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from infogan_jax.compiling import compiler_options
from infogan_jax.core.model import InfoGAN
from infogan_jax.core.train_step import TrainStep, make_train_step
from infogan_jax.cores import core_count
from infogan_jax.errors import UserError

AXIS = "batch"


def give_members_cores(members: int) -> None:
    """Makes a CPU device of each core, as far as members can share them evenly.

    Members side by side are faster than one on all cores in turn: small convolutions
    spend much of their time waiting for each other. All devices share all cores. Call
    it before jax is used; accelerators are not affected.
    """
    devices = max(n for n in range(1, core_count() + 1) if members % n == 0)
    flags = os.environ.get("XLA_FLAGS", "")
    if devices > 1 and "xla_force_host_platform_device_count" not in flags:
        # If jax is in use already, its devices stay as they are.
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", devices)


def make_mesh(devices: list | None = None) -> Mesh:
    """Returns a mesh of all devices in a row, for batches spread over them."""
    devices = jax.devices() if devices is None else devices
    return Mesh(np.asarray(devices), (AXIS,))


def check_batch(
    batch_size: int, parts: Mapping[str, int], members: int, mesh: Mesh
) -> None:
    """Raises UserError unless each device gets an equal part of every batch.

    Args:
        batch_size: images per step.
        parts: of which each device's number of images has to be a multiple, by flag.
        members: trained at once.
        mesh: the devices.
    """
    if _is_spread(members, mesh):
        return  # each device has whole members with whole batches
    unit = mesh.size * math.lcm(*parts.values())
    if batch_size % unit:
        shared = "".join(f" and --{name}={n}" for name, n in parts.items() if n > 1)
        raise UserError(
            f"--batch_size={batch_size}: expected a multiple of {unit}, for "
            f"{mesh.size} devices share each batch{shared}"
        )


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Returns a copy of the tree on each device."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def shapes(tree: Any, sharding: NamedSharding) -> Any:
    """ShapeDtypeStructs of a tree under a sharding, for ahead-of-time lowering."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
    )


def placement(mesh: Mesh, members: int = 1) -> NamedSharding:
    """Returns the sharding of states for `make_multi_step`.

    Members are spread over the devices if each gets equally many.
    """
    spec = PartitionSpec(AXIS) if _is_spread(members, mesh) else PartitionSpec()
    return NamedSharding(mesh, spec)


def gather(tree: Any) -> Any:
    """Returns a copy of the whole tree on one device of this process."""
    if jax.process_count() > 1:
        return jax.tree.map(lambda x: x.addressable_data(0), _replicator()(tree))
    # Not by indexing: that is one collective per array, in which CPU devices may wait
    # for each other forever.
    return jax.device_put(tree, jax.local_devices()[0])


def refold_keys(
    key: jax.Array, members: np.ndarray, number: int, sharding: NamedSharding
) -> jax.Array:
    """Returns keys, those of some members folded with a number.

    Args:
        key: of all members, `[M]`, or of a single run, `[]`.
        members: whose keys change, bool `[M]`.
        number: what is folded in.
        sharding: of the result.
    """

    def change(key: jax.Array) -> jax.Array:
        shape = (-1,) if key.ndim else ()
        folded = jax.vmap(jax.random.fold_in, (0, None))(key.reshape(-1), number)
        return jnp.where(members.reshape(shape), folded.reshape(shape), key)

    return jax.jit(change, out_shardings=sharding)(key)


@functools.cache
def _replicator() -> Callable:
    whole = NamedSharding(make_mesh(), PartitionSpec())
    return jax.jit(lambda tree: tree, out_shardings=whole)


def load_batches(
    arrays: Any, batches: np.ndarray, mesh: Mesh, length: int, members: int
) -> Any:
    """Returns the rows of stored arrays that batches name; a process reads its own.

    Args:
        arrays: `[N, ...]` each, which give arrays when indexed by an array.
        batches: indices `[K, B]`, of several members `[M, K, B]`.
        mesh: the devices.
        length: the K of the result, at least that of the batches; the rest is zeros.
        members: how many.

    Returns:
        `[length, B, ...]` each, members first, sharded as `make_multi_step` takes them.
    """
    *member, count, size = batches.shape
    is_spread = _is_spread(members, mesh)
    by = (AXIS,) if is_spread else (*[None] * (batches.ndim - 1), AXIS)
    sharding = NamedSharding(mesh, PartitionSpec(*by))

    def load(array: Any) -> jax.Array:
        def part(index: Any) -> np.ndarray:
            rows = array[batches[index[: batches.ndim]]]
            missing = [(0, 0)] * rows.ndim
            missing[len(member)] = (0, length - count)
            return np.pad(rows, missing)

        shape = (*member, length, size, *array.shape[1:])
        return jax.make_array_from_callback(shape, sharding, part)

    return jax.tree.map(load, arrays)


def device_memory() -> int | None:
    """Returns the bytes of a device, if known; CPU devices share their machine's."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return (device.memory_stats() or {}).get("bytes_limit")


def devices_per_memory() -> int:
    """Returns how many devices share one memory: CPU devices of one process do."""
    on_cpu = jax.local_devices()[0].platform == "cpu"
    return jax.local_device_count() if on_cpu else 1


def max_resident_bytes() -> float:
    """Returns how many bytes of images stay in memory if `data_placement` is "auto"."""
    return (device_memory() or math.inf) / 4 / devices_per_memory()


def check_memory(init: Callable, data_bytes: int, members: int, mesh: Mesh) -> None:
    """Raises UserError if the states of so many members cannot be held.

    Counts the states three times, since they are copied to be saved and worked on in a
    compiled loop, and the data once per device; what a step needs comes on top.
    """
    state = jax.eval_shape(init, jax.random.key(0))
    sizes = [math.prod(x.shape) * 4 for x in jax.tree.leaves(state)]
    own = members // mesh.size if _is_spread(members, mesh) else members
    needed = (3 * own * sum(sizes) + data_bytes) * devices_per_memory()
    limit = device_memory()
    if limit and needed > limit:
        raise UserError(
            f"--num_seeds={members}: need about {needed / 2**30:.1f} GiB, "
            f"{limit / 2**30:.1f} GiB are available; train fewer, or smaller networks"
        )


def _is_spread(members: int, mesh: Mesh) -> bool:
    return members > 1 and members % mesh.size == 0


@dataclasses.dataclass(frozen=True)
class MultiStep:
    """Many steps as one call, traced, lowered or compiled; see `make_multi_step`."""

    program: Any  # jitted, lowered or compiled
    length: int
    streamed: bool
    platform: str

    def __call__(
        self, state: Any, arrays: Any, batches: np.ndarray, pseudo_labels: Any = None
    ) -> tuple[Any, Any, Any]:
        return self.program(*self._inputs(state, arrays, batches, pseudo_labels))

    def lower(
        self, state: Any, arrays: Any, batches: np.ndarray, pseudo_labels: Any = None
    ) -> "MultiStep":
        """Returns it lowered for inputs of such shapes."""
        inputs = self._inputs(state, arrays, batches, pseudo_labels)
        return dataclasses.replace(self, program=self.program.lower(*inputs))

    def compile(self, options: dict[str, Any] | None = None) -> "MultiStep":
        """Returns what was lowered compiled, with further XLA options."""
        options = compiler_options(self.platform) | (options or {})
        program = self.program.compile(compiler_options=options)
        return dataclasses.replace(self, program=program)

    def _inputs(
        self, state: Any, arrays: Any, batches: np.ndarray, pseudo_labels: Any
    ) -> tuple:
        batches = np.asarray(batches, np.int32)
        count = batches.shape[-2]
        missing = [(0, 0)] * (batches.ndim - 2) + [(0, self.length - count), (0, 0)]
        resident, stack = (None, arrays) if self.streamed else (arrays, None)
        own = np.pad(batches, missing), pseudo_labels, stack
        return state, resident, own, count


def make_multi_step(
    train_step: Callable,
    mesh: Mesh,
    length: int,
    members: int = 1,
    streamed: bool = False,
) -> MultiStep:
    """Returns many steps as one call, over all devices of the mesh.

    Several members are one program. If they share the devices evenly, each device has
    whole members, and none waits for another; otherwise the devices share every batch.
    An accelerator takes the members of a device at once, by `vmap`; a CPU takes one
    after the other, since its convolutions do not gain by it.

    Args:
        train_step: `(state, batch) -> (state, metrics)`; the state has `variables()`.
        mesh: the devices.
        length: the largest number of steps of one call.
        members: how many states are trained at once.
        streamed: the arrays of each call are its batches, as `load_batches` gives them.

    Returns:
        `steps(state, arrays, batches, pseudo_labels=None) -> (state, metrics, norm)`.
        The state, which is donated, has `placement`. The arrays are the whole dataset
        on the devices, `[N, ...]` each; the batches are indices `[K, B]`, K at most
        `length`; pseudo-labels, `[N]`, are a third argument of the step. The metrics
        are those of each step, `[length]`, zeros after the K; the norm is that of all
        parameters after the last step, finite only if they are. With several members,
        all but the arrays have a leading axis for them.
    """
    train_step = jax.jit(train_step, inline=True)  # traced once for both uses
    is_spread = _is_spread(members, mesh)
    by_batch = NamedSharding(mesh, PartitionSpec(AXIS))
    platform = mesh.devices.flat[0].platform

    def one_member(state: Any, arrays: Any, own: Any, count: Any) -> tuple:
        batches, pseudo_labels, stack = own

        def batch(i: Any) -> Any:
            data = (arrays,) if pseudo_labels is None else (arrays, pseudo_labels)
            taken = jax.tree.map(lambda x: x[batches[i]], data)
            if streamed:
                taken = jax.tree.map(lambda x: x[i], stack), *taken[1:]
            if is_spread:
                return taken
            return jax.lax.with_sharding_constraint(taken, by_batch)

        def body(i: Any, carry: tuple) -> tuple:
            state, rows = carry
            # The host drew the batches, as a function of the state's step.
            state, row = train_step(state, *batch(i))
            return state, jax.tree.map(lambda x, y: x.at[i].set(y), rows, row)

        shapes = jax.eval_shape(train_step, state, *batch(0))[1]
        zeros = jax.tree.map(lambda x: jnp.zeros((length, *x.shape), x.dtype), shapes)
        # The count is an argument: calls of any length share one program.
        state, metrics = jax.lax.fori_loop(0, count, body, (state, zeros))
        squares = [jnp.sum(x**2) for x in jax.tree.leaves(state.variables())]
        return state, metrics, jnp.sqrt(sum(squares))

    def all_members(state: Any, arrays: Any, own: Any, count: Any) -> tuple:
        return jax.lax.map(
            lambda member: one_member(member[0], arrays, member[1], count),
            (state, own),
            batch_size=None if platform == "cpu" else len(own[0]),
        )

    split, whole = PartitionSpec(AXIS), PartitionSpec()
    steps: Callable = one_member if members == 1 else all_members
    if is_spread:
        steps = jax.shard_map(
            steps,
            mesh=mesh,
            in_specs=(split, whole, split, whole),
            out_specs=split,
            check_vma=False,  # the devices do not communicate
        )
    out = NamedSharding(mesh, split if is_spread else whole)
    program = jax.jit(steps, donate_argnums=0, out_shardings=out)
    return MultiStep(program, length, streamed, platform)


def pmap_step(model: InfoGAN) -> TrainStep:
    """Returns the step under `pmap`: images `[devices, B / devices, H, W, C]`."""
    return jax.pmap(
        make_train_step(model, AXIS),
        AXIS,
        in_axes=(None, 0),
        out_axes=(None, None),
        donate_argnums=0,
    )


def shard_map_step(model: InfoGAN, mesh: Mesh) -> TrainStep:
    """Returns the step under `shard_map`: images `[B, H, W, C]`, over the mesh."""
    return jax.jit(
        jax.shard_map(
            make_train_step(model, AXIS),
            mesh=mesh,
            in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
            out_specs=PartitionSpec(),
        ),
        donate_argnums=0,
    )
