"""The networks of a run as programs that need no JAX: ONNX and StableHLO."""

import contextlib
import dataclasses
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core as jax_core

from infogan_jax.core import inversion
from infogan_jax.core.latents import (
    Array,
    Bernoulli,
    Categorical,
    Spec,
    join_latents,
    sample_latents,
    split_latents,
    trained_range,
)
from infogan_jax.core.state import TrainState
from infogan_jax.errors import UserError
from infogan_jax.inference import Trained

_PLATFORMS = ("cpu", "cuda", "tpu")
_MAX_DIFFERENCE = 1e-4  # of ONNX and JAX, in pixels of [0, 1] or in Q's parameters
_MAX_SLOPE_DIFFERENCE = 1e-2  # of the largest slope: a descent needs no more
_SAMPLE = 32  # latents of each kind that they are compared on
_MIN_SIZE = 256  # numbers; float16 does not pay for smaller arrays
# Where the equations of a custom derivative or batching rule have their program
_PROGRAMS = ("call", "call_jaxpr", "jaxpr")


def convert(
    trained: Trained, weights: str
) -> tuple[dict[str, bytes], dict[str, float]]:
    """Returns the programs by file name, and how much ONNX and JAX differ.

    Args:
        trained: a model that computes in float32.
        weights: the type in which large arrays are stored.

    Raises:
        UserError: they differ too much.
    """
    model, state = trained.model, trained.state
    reading = inversion.learn_reading(model, state, jax.random.key(0))

    def generator(latents: Array) -> Array:
        return model.generate(state, latents)

    def recognizer(images: Array) -> Array:
        return model.recognize(state, images)

    def inversion_start(images: Array) -> Array:
        return inversion.first_latents(model, state, images, reading)

    def inversion_descent(latents: Array, images: Array) -> tuple[Array, Array]:
        inverted = inversion.Inverted(latents)
        gradient, left = inversion.descent(
            model, state, inverted, images, reading.picture
        )
        return gradient.latents, left

    latents: Any = np.asarray(_trial_latents(model.spec))
    with jax.default_matmul_precision("float32"):  # GPUs round otherwise
        images: Any = np.asarray(generator(latents))
    files, parity = {}, {}
    for function, inputs, batch, most in (
        (generator, (latents,), "B", _MAX_DIFFERENCE),
        (recognizer, (images,), "B", _MAX_DIFFERENCE),
        (inversion_start, (images,), "B", None),  # a start need not be exact
        (inversion_descent, (latents[:1], images[1:2]), 1, _MAX_SLOPE_DIFFERENCE),
    ):
        name = function.__name__
        content = to_onnx(function, [x.shape[1:] for x in inputs], name, weights, batch)
        if most is not None:
            parity[name] = _parity(name, content, function, inputs, most)
        files[f"{name}.onnx"] = content
    del parity["inversion_descent"]  # on a scale of its own
    files["generator.stablehlo"] = _to_stablehlo(generator, model.latent_dim)
    return files, parity


def to_onnx(
    function: Callable,
    shapes: Sequence[tuple[int, ...]],
    name: str,
    weights: str = "float32",
    batch: int | str = "B",
) -> bytes:
    """Returns a function of arrays `[B, *shape]` as an ONNX model.

    Args:
        function: of float32 arrays.
        shapes: of an example of each.
        name: of the model.
        weights: the type in which large arrays are stored.
        batch: B; a letter: any. A function with derivatives needs a number.
    """
    import jax2onnx

    if isinstance(batch, int):
        function = _plain(function, [(batch, *shape) for shape in shapes])
    inputs = [(batch, *shape) for shape in shapes]
    with _silence(), warnings.catch_warnings(), jax.disable_jit():
        # jax2onnx 0.17 cannot convert a nested jit of jax 0.11 and later.
        warnings.simplefilter("ignore")
        model = jax2onnx.to_onnx(function, inputs, model_name=name)
    del model.graph.value_info[:]  # some are wrong, which onnxruntime-web refuses
    if weights == "float16":
        _narrow(model)
    content: bytes = model.SerializeToString()
    return content


def _plain(function: Callable, shapes: Sequence[tuple[int, ...]]) -> Callable:
    """The function as its equations, without rules of its own for any.

    jax2onnx replaces Flax's layers by what has no derivative, and knows no batching
    rules; so derivatives are taken before it sees the function.
    """
    with jax.disable_jit():
        program = jax.make_jaxpr(function)(*(jnp.zeros(shape) for shape in shapes))
    return lambda *inputs: tuple(_evaluate(program, inputs))


def _evaluate(program: Any, inputs: Sequence[Any]) -> list[Any]:
    """What a closed jaxpr makes of its inputs, as JAX's tutorial on them has it."""
    jaxpr = program.jaxpr
    known = dict(zip(jaxpr.constvars, program.consts, strict=True))
    known |= dict(zip(jaxpr.invars, inputs, strict=True))

    def read(x: Any) -> Any:
        return x.val if isinstance(x, jax_core.Literal) else known[x]

    for equation in jaxpr.eqns:
        values = [read(x) for x in equation.invars]
        programs = (equation.params[k] for k in _PROGRAMS if k in equation.params)
        if (inner := next(programs, None)) is not None:
            outputs = _evaluate(inner, values)
        else:
            bound = equation.primitive.get_bind_params(equation.params)
            # Before jax 0.11 a pair
            functions, params = bound if isinstance(bound, tuple) else ((), bound)
            result = equation.primitive.bind(*functions, *values, **params)
            outputs = result if equation.primitive.multiple_results else [result]
        known |= dict(zip(equation.outvars, outputs, strict=True))
    return [read(x) for x in jaxpr.outvars]


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Disables logging: jax2onnx logs each of its steps."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)


def _trial_latents(spec: Spec) -> jax.Array:
    """Latents from the prior, and with continuous codes and noise at their far ends."""
    drawn = sample_latents(jax.random.key(0), 2 * _SAMPLE, spec)
    values = split_latents(spec, drawn)
    for code in spec:
        if not isinstance(code, Categorical | Bernoulli):
            far = 2 * trained_range(code)[1] * jnp.sign(values[code.name][_SAMPLE:])
            values[code.name] = values[code.name].at[_SAMPLE:].set(far)
    return join_latents(spec, values)


def open_session(content: bytes) -> Any:
    """Returns what runs an ONNX model, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(
        content, options, providers=["CPUExecutionProvider"]
    )


def _parity(
    name: str,
    content: bytes,
    function: Callable,
    inputs: Sequence[np.ndarray],
    most: float,
) -> float:
    """Returns the largest difference between onnxruntime and JAX.

    It is absolute for numbers up to 1, and relative for larger ones; where all are
    smaller than 1, in units of the largest.

    Raises:
        UserError: it is too large.
    """
    session = open_session(content)
    names, largest = [x.name for x in session.get_inputs()], 0.0
    for count in {len(inputs[0]), 1}:  # of any batch size
        some = [values[:count] for values in inputs]
        actual = session.run(None, dict(zip(names, some, strict=True)))
        with jax.default_matmul_precision("float32"):
            expected = jax.tree.leaves(function(*some))
        for a, b in zip(actual, expected, strict=True):
            # Q's parameters may be large, and gradients are small.
            unit = min(1.0, float(np.abs(b).max()) or 1.0)
            error = np.abs(a - b) / np.maximum(unit, np.abs(b))
            largest = max(largest, float(error.max()))
    if not largest <= most:
        raise UserError(
            f"{name}.onnx differs from JAX by {largest:.1e}, more than "
            f"{most:.0e}; nothing usable was exported. Other versions of "
            "jax2onnx or onnxruntime may help"
        )
    return largest


def _to_stablehlo(function: Callable, dim: int) -> bytes:
    (batch,) = jax.export.symbolic_shape("B")
    latents = jax.ShapeDtypeStruct((batch, dim), jnp.float32)
    exported = jax.export.export(jax.jit(function), platforms=_PLATFORMS)(latents)
    return bytes(exported.serialize())


def round_to_float16(state: TrainState) -> TrainState:
    """Returns the weights that are exported, as float16 can hold them."""

    def round_tree(tree: Any) -> Any:
        return jax.tree.map(
            lambda x: (
                x.astype(jnp.float16).astype(jnp.float32) if x.size >= _MIN_SIZE else x
            ),
            tree,
        )

    d, q = state.discriminator, state.recognizer
    return dataclasses.replace(
        state,
        ema=round_tree(state.ema),
        discriminator=dataclasses.replace(d, params=round_tree(d.params)),
        recognizer=dataclasses.replace(q, params=round_tree(q.params)),
    )


def _narrow(model: Any) -> None:
    """Stores large float32 arrays as float16 if that is exact, and casts them back."""
    import onnx
    from onnx import numpy_helper

    casts = []
    for array in model.graph.initializer:
        values = numpy_helper.to_array(array)
        narrow = values.astype(np.float16) if values.dtype == np.float32 else None
        if narrow is None or values.size < _MIN_SIZE or (narrow != values).any():
            continue
        name = array.name
        array.CopyFrom(numpy_helper.from_array(narrow, f"{name}_float16"))
        to = onnx.TensorProto.FLOAT
        casts.append(onnx.helper.make_node("Cast", [array.name], [name], to=to))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
