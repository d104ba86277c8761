"""A trained model as files that need no Python: ONNX, StableHLO, and the explorer.

generator.onnx          latents [B, D] -> images [B, H, W, C] in [0, 1]
recognizer.onnx         images [B, H, W, C] -> parameters of Q(c|x), [B, P]
generator.stablehlo     the same generator, for `jax.export.deserialize`
model.json              what the numbers mean
README.md               the model card
thumbnails/             a picture of each category
index.html, assets/     the page
"""

import contextlib
import dataclasses
import hashlib
import importlib.util
import json
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from infogan_jax.apps.model_card import model_card
from infogan_jax.build import build_model
from infogan_jax.core.latents import (
    Array,
    Bernoulli,
    Categorical,
    Code,
    Noise,
    Spec,
    join_latents,
    sample_latents,
    split_latents,
    trained_range,
)
from infogan_jax.core.state import TrainState
from infogan_jax.errors import UserError
from infogan_jax.files import write_atomically
from infogan_jax.inference import Trained, weight_digest
from infogan_jax.pixels import (
    channel_colours,
    channel_names,
    composite,
    to_picture,
    to_uint8,
)
from infogan_jax.reporting import figures
from infogan_jax.run.directory import MemberFolder, Run
from infogan_jax.run.records import Evaluation

logger = logging.getLogger(__name__)

FORMAT = 2  # of model.json
WEIGHTS = ("float32", "float16")
PAGE = Path(__file__).parents[1] / "explorer" / "dist"
_MARKER = ".infogan_jax_export"  # in a folder that may be overwritten
_PLATFORMS = ("cpu", "cuda", "tpu")
_MAX_DIFFERENCE = 1e-4  # of ONNX and JAX, in pixels of [0, 1] or in Q's parameters
_SAMPLE = 32  # latents of each kind that they are compared on
_MIN_SIZE = 256  # numbers; float16 does not pay for smaller arrays


def export(
    run: Run, output: Path, seed: int | None = None, weights: str = "float32"
) -> Path:
    """Writes the newest checkpoint of a run as a folder of files.

    Args:
        run: the run.
        output: a folder that is new, empty, or an earlier export.
        seed: of the member, if there are several; by default the chosen one's.
        weights: the type in which they are stored; the arithmetic is always float32.

    Returns:
        `output`.

    Raises:
        UserError: there is no such member or folder; a package is missing; or what was
            written differs from what JAX computes.
    """
    _check_packages()
    if weights not in WEIGHTS:
        raise UserError(f"--weights={weights}: expected one of {list(WEIGHTS)}")
    is_used = output.is_dir() and any(output.iterdir())
    if output.is_file() or (is_used and not _is_export(output)):
        raise UserError(
            f"--output={output}: holds other things; choose a new or an empty folder"
        )
    folder, trained = _load(run, seed)
    digest = weight_digest(trained.state.ema)
    if weights == "float16":
        rounded = _round_to_float16(trained.state)
        trained = dataclasses.replace(trained, state=rounded)
    try:
        (output / "thumbnails").mkdir(parents=True, exist_ok=True)
        (output / _MARKER).touch()
        (output / "model.json").unlink(missing_ok=True)  # until all else is there
        files, parity = _convert(trained, weights)
        for name, content in files.items():
            write_atomically(output / name, content)
        for index, picture in enumerate(_thumbnails(folder, trained)):
            figures.save(picture, output / "thumbnails" / f"{index}.png")
        shutil.copytree(PAGE, output, dirs_exist_ok=True)
        about = describe(run, folder, trained) | {
            "name": run.path.resolve().name,
            "digest": digest,
            "seed": folder.config.seed,
            "weights": weights,
            "parity": parity,
            "files": {name: _describe_file(files[name]) for name in sorted(files)},
        }
        write_atomically(output / "README.md", model_card(run, folder, about))
        text = json.dumps(about, indent=2, allow_nan=False) + "\n"
        write_atomically(output / "model.json", text)
    except OSError as error:
        raise _cannot_write(output, error) from None
    logger.info(
        f"exported to {output}; ONNX and JAX differ by {max(parity.values()):.1e} at "
        "most"
    )
    for name, size in file_sizes(output).items():
        logger.info(f"{name}: {size / 2**20:.1f} MiB")
    return output


def is_current(
    output: Path, run: Run, seed: int | None = None, weights: str = "float32"
) -> bool:
    """Returns whether a folder is an export of a run's newest checkpoint and measures.

    Args:
        output: the folder.
        run: the run.
        seed: of the member, if there are several.
        weights: the type of the stored weights.
    """
    if not _is_export(output) or not (output / "index.html").exists():
        return False
    folder, trained = _load(run, seed)
    now = json.loads(json.dumps(describe(run, folder, trained)))
    now |= {"digest": weight_digest(trained.state.ema), "weights": weights}
    shown = _read_model(output)
    if any(shown.get(name) != value for name, value in now.items()):
        return False
    newest, page = ((x / "index.html").read_bytes() for x in (PAGE, output))
    return newest == page


def _load(run: Run, seed: int | None) -> tuple[MemberFolder, Trained]:
    """A member, with a model that computes in float32."""
    folder, trained = run.load_trained(seed)
    config = dataclasses.replace(run.config, dtype="float32")
    model = build_model(config, run.info.image_shape)
    return folder, dataclasses.replace(trained, model=model)


def _convert(
    trained: Trained, weights: str
) -> tuple[dict[str, bytes], dict[str, float]]:
    """The models by file name, and how much ONNX and JAX differ."""
    model, state = trained.model, trained.state

    def generator(latents: Array) -> Array:
        return model.generate(state, latents)

    def recognizer(images: Array) -> Array:
        return model.recognize(state, images)

    latents: Any = np.asarray(_trial_latents(model.spec))
    with jax.default_matmul_precision("float32"):  # GPUs round otherwise
        images: Any = np.asarray(generator(latents))
    files, parity = {}, {}
    for function, inputs in ((generator, latents), (recognizer, images)):
        name = function.__name__
        content = to_onnx(function, inputs.shape[1:], name, weights)
        parity[name] = _parity(name, content, function, inputs)
        files[f"{name}.onnx"] = content
    files["generator.stablehlo"] = _to_stablehlo(generator, model.latent_dim)
    return files, parity


def _cannot_write(output: Path, error: OSError) -> UserError:
    reason = error.strerror
    if isinstance(error, shutil.Error):  # a list of (source, target, reason)
        reason = "; ".join(str(failure[-1]) for failure in error.args[0])
    return UserError(f"--output={output}: cannot be written ({reason or error})")


def file_sizes(output: Path) -> dict[str, int]:
    """Returns the bytes of what a browser loads: models, runtime, rest of the page."""
    sizes = {path.name: path.stat().st_size for path in output.glob("*.onnx")}
    page = [path for path in (output / "assets").iterdir() if path.is_file()]
    runtime = sum(path.stat().st_size for path in page if path.suffix == ".wasm")
    sizes["onnxruntime-web"] = runtime
    sizes["page"] = sum(path.stat().st_size for path in page) - runtime
    return sizes


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Disables logging: jax2onnx logs each of its steps."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)


def to_onnx(
    function: Callable, shape: tuple[int, ...], name: str, weights: str = "float32"
) -> bytes:
    """Returns a function of `[B, *shape]` as an ONNX model for any B.

    Args:
        function: of one array, float32, to one array.
        shape: of an example.
        name: of the model.
        weights: the type in which large arrays are stored.
    """
    import jax2onnx

    with _silence(), warnings.catch_warnings(), jax.disable_jit():
        # jax2onnx 0.17 cannot convert a nested jit of jax 0.11 and later.
        warnings.simplefilter("ignore")
        model = jax2onnx.to_onnx(function, [("B", *shape)], model_name=name)
    del model.graph.value_info[:]  # some are wrong, which onnxruntime-web refuses
    if weights == "float16":
        _narrow(model)
    content: bytes = model.SerializeToString()
    return content


def describe(run: Run, folder: MemberFolder, trained: Trained) -> dict[str, Any]:
    """Returns what model.json says of codes, images and the run.

    Args:
        run: the run.
        folder: of the member, for its measures.
        trained: the member; measures of another step than its own are left out.
    """
    model, info = trained.model, run.info
    evaluation = folder.load_evaluation(trained.step) or Evaluation(trained.step, 0)
    height, width, channels = model.image_shape
    codes, offset, q_offset = [], 0, 0
    for code in trained.spec:
        codes.append(
            _describe_code(code, evaluation, info.class_names)
            | {"offset": offset, "dim": code.dim}
            | {"q_offset": q_offset, "n_params": code.n_params}
        )
        offset, q_offset = offset + code.dim, q_offset + code.n_params
    return {
        "format": FORMAT,
        "step": trained.step,
        "latent_dim": model.latent_dim,
        "param_dim": model.param_dim,
        "image": {
            "height": height,
            "width": width,
            "channels": channels,
            "composite": channel_colours(channels, run.config.composite),
            "channel_names": channel_names(channels, run.config.composite),
            "ranges": info.form.ranges,
            "pixel_size": info.form.shown_pixel_size,
        },
        "codes": codes,
        "dataset": run.config.dataset.rpartition("/")[2],
        "metrics": _metrics(evaluation),
        "versions": info.versions,
    }


def _describe_code(
    code: Code, evaluation: Evaluation, class_names: list[str]
) -> dict[str, Any]:
    about: dict[str, Any] = {"name": code.name, "kind": type(code).__name__.lower()}
    if isinstance(code, Noise):
        return about
    about["entropy"] = code.entropy()
    if isinstance(code, Categorical | Bernoulli):
        size = code.size if isinstance(code, Categorical) else 2
        labels = evaluation.class_of_category(code.name, class_names)
        about["labels"] = labels or [None] * size
        if isinstance(code, Categorical) and code.prior is not None:
            about["frequencies"] = [round(p, 5) for p in code.prior]
        return about
    low, high = trained_range(code)
    about |= {"trained": [low, high], "allowed": [2 * low, 2 * high]}
    row = evaluation.rows("traversal").get(code.name)
    if row and row["name"] in row["r2"]:
        about |= {"meaning": row["name"], "r2": round(row["r2"][row["name"]], 3)}
    return about


def _metrics(evaluation: Evaluation) -> dict[str, float]:
    """The few numbers that the page shows."""
    shown = {}
    for name, row in evaluation.rows("clustering").items():
        shown[f"accuracy of {name}"] = row["accuracy"]
    for name, row in evaluation.rows("code_auc").items():
        shown[f"AUC of {row['code']} for {name}"] = row["auc"]
    if rows := evaluation.rows("fidelity"):
        shown["FID"] = rows["generated"]["fid"]
    return {name: round(value, 4) for name, value in shown.items()}


def _thumbnails(folder: MemberFolder, trained: Trained) -> list[Image.Image]:
    """A picture of each category of the main code, all else being equal."""
    key = figures.figure_key(folder.config.seed)
    latents = figures.grid_latents(key, trained.model.spec)[:: figures.COLUMNS]
    if trained.model.category is None:
        latents = latents[:1]
    images = to_uint8(trained.generate(latents))
    return [to_picture(x) for x in composite(images, folder.config.composite)]


def _trial_latents(spec: Spec) -> jax.Array:
    """Latents from the prior, and with continuous codes and noise at their far ends."""
    drawn = sample_latents(jax.random.key(0), 2 * _SAMPLE, spec)
    values = split_latents(spec, drawn)
    for code in spec:
        if not isinstance(code, Categorical | Bernoulli):
            far = 2 * trained_range(code)[1] * jnp.sign(values[code.name][_SAMPLE:])
            values[code.name] = values[code.name].at[_SAMPLE:].set(far)
    return join_latents(spec, values)


def _parity(name: str, content: bytes, function: Callable, values: np.ndarray) -> float:
    """Returns the largest difference between onnxruntime and JAX.

    It is absolute for numbers up to 1, and relative for larger ones.

    Raises:
        UserError: it is too large.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(
        content, options, providers=["CPUExecutionProvider"]
    )
    largest = 0.0
    for part in (values, values[:1]):  # of any batch size
        (actual,) = session.run(None, {session.get_inputs()[0].name: part})
        with jax.default_matmul_precision("float32"):
            expected = np.asarray(function(part))
        # Images are within [0, 1]; Q's parameters may be large.
        error = np.abs(actual - expected) / np.maximum(1, np.abs(expected))
        largest = max(largest, float(error.max()))
    if not largest <= _MAX_DIFFERENCE:
        raise UserError(
            f"{name}.onnx differs from JAX by {largest:.1e}, more than "
            f"{_MAX_DIFFERENCE:.0e}; nothing usable was exported. Other versions of "
            "jax2onnx or onnxruntime may help"
        )
    return largest


def _to_stablehlo(function: Callable, dim: int) -> bytes:
    (batch,) = jax.export.symbolic_shape("B")
    latents = jax.ShapeDtypeStruct((batch, dim), jnp.float32)
    exported = jax.export.export(jax.jit(function), platforms=_PLATFORMS)(latents)
    return bytes(exported.serialize())


def _round_to_float16(state: TrainState) -> TrainState:
    """Rounds the weights that are exported to what float16 can hold."""

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


def _describe_file(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _is_export(folder: Path) -> bool:
    """Whether a folder is an export, also one that was interrupted."""
    return (folder / _MARKER).exists()


def _read_model(folder: Path) -> dict[str, Any]:
    try:
        about = json.loads((folder / "model.json").read_text())
        return about if isinstance(about, dict) else {}
    except (OSError, ValueError):
        return {}


def _check_packages() -> None:
    """Raises UserError unless the packages and the page of an export are there."""
    for package in ("jax2onnx", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"an export, and the page, need {package}; install it by "
                "pip install 'infogan_jax[export]', or in a clone use ./run.sh serve"
            )
    if not (PAGE / "index.html").exists():
        raise UserError(
            f"{PAGE}: the page is not built; run npm ci && npm run build in "
            f"{PAGE.parent}"
        )
