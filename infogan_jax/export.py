"""A trained state as files that need no Python: ONNX, StableHLO, and the explorer.

generator.onnx          latents [B, D] -> images [B, H, W, C] in [0, 1]
recognizer.onnx         images [B, H, W, C] -> parameters of Q(c|x), [B, P]
generator.stablehlo     the same generator, for `jax.export.deserialize`
model.json              what the numbers mean
thumbnails/             a picture of each category
index.html, assets/     the page
"""

import dataclasses
import hashlib
import importlib.util
import json
import logging
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from infogan_jax import figures
from infogan_jax import workdir as runs
from infogan_jax.config import Config, UserError
from infogan_jax.evaluation.inference import apply, digest
from infogan_jax.latents import (
    Bernoulli,
    Categorical,
    Gaussian,
    Noise,
    Spec,
    join_latents,
    latent_dim,
    main_category,
    param_dim,
    parse_spec,
    sample_latents,
    split_latents,
)
from infogan_jax.state import TrainState
from infogan_jax.steps import generate, recognize
from infogan_jax.writers import write_atomically

FORMAT = 2  # of model.json
WEIGHTS = ("float32", "float16")
PAGE = Path(__file__).parent / "explorer" / "dist"
_MARK = ".infogan_jax_export"  # in a folder that may be written over
_PLATFORMS = ("cpu", "cuda", "tpu")
_MOST_APART = 1e-4  # ONNX and JAX, in pixels of [0, 1] or in Q's parameters
_SAMPLE = 32  # latents that they are compared on, of each kind
_LARGE = 256  # numbers: a smaller array is not worth a narrower type


def export(
    workdir: Path, out: Path, replica: int | None = None, weights: str = "float32"
) -> Path:
    """Writes the newest checkpoint of a run as a folder of files.

    Args:
        workdir: of the run.
        out: a folder that is new, empty, or an earlier export.
        replica: its seed, where the run has several; by default the chosen one's.
        weights: how they are stored; the arithmetic is float32 always.

    Returns:
        `out`.

    Raises:
        UserError: there is no such run, replica or folder; a package is missing; or
            what was written differs from what JAX computes.
    """
    _check_packages()
    if weights not in WEIGHTS:
        raise UserError(f"--weights={weights}: expected one of {list(WEIGHTS)}")
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not _is_export(out)):
        raise UserError(
            f"--out={out}: holds other things; choose a new or an empty folder"
        )
    config, image_shape, folder, state = _load(workdir, replica)
    state_digest = digest(state.ema)
    if weights == "float16":
        state = _rounded(state)
    spec = parse_spec(config.codes)

    def make(latents):
        return generate(state, latents, config)

    def read(images):
        return recognize(state, images, config)

    try:
        (out / "thumbnails").mkdir(parents=True, exist_ok=True)
        (out / _MARK).touch()
        (out / "model.json").unlink(missing_ok=True)  # until all else is there
        latents = _trial_latents(spec)
        with jax.default_matmul_precision("float32"):  # GPUs round otherwise
            pictures = np.asarray(make(latents))
        inputs = {
            "generator": (make, np.asarray(latents), (latent_dim(spec),)),
            "recognizer": (read, pictures, image_shape),
        }
        parity, files = {}, {}
        for name, (function, values, shape) in inputs.items():
            content = to_onnx(function, shape, name, weights)
            parity[name] = _parity(name, content, function, values)
            files[f"{name}.onnx"] = content
        files["generator.stablehlo"] = _to_stablehlo(make, latent_dim(spec))
        for name, content in files.items():
            write_atomically(out / name, content)
        for index, picture in enumerate(_thumbnails(state, config)):
            figures.save(picture, out / "thumbnails" / f"{index}.png")
        shutil.copytree(PAGE, out, dirs_exist_ok=True)
        about = describe(config, image_shape, workdir, folder, int(state.step))
        about |= {
            "name": workdir.resolve().name,
            "digest": state_digest,
            "seed": config.seed,
            "weights": weights,
            "parity": parity,
            "files": {name: _about_file(files[name]) for name in sorted(files)},
        }
        text = json.dumps(about, indent=2, allow_nan=False) + "\n"
        write_atomically(out / "model.json", text)
    except OSError as error:
        raise UserError(f"--out={out}: cannot be written ({error.strerror})") from None
    apart = max(parity.values())
    print(f"exported to {out}; ONNX and JAX differ by {apart:.1e} at most")
    for name, size in sizes(out).items():
        print(f"{name}: {size / 2**20:.1f} MiB")
    return out


def is_current(out: Path, workdir: Path, replica: int | None = None) -> bool:
    """Whether a folder is an export of a run's newest checkpoint and measures."""
    if not _is_export(out) or not (out / "index.html").exists():
        return False
    config, image_shape, folder, state = _load(workdir, replica)
    now = describe(config, image_shape, workdir, folder, int(state.step))
    now = json.loads(json.dumps(now)) | {"digest": digest(state.ema)}
    shown = _read_model(out)
    if any(shown.get(name) != value for name, value in now.items()):
        return False
    newest, page = ((x / "index.html").read_bytes() for x in (PAGE, out))
    return newest == page


def _load(
    workdir: Path, replica: int | None
) -> tuple[Config, tuple[int, int, int], Path, TrainState]:
    """The replica's config, for float32; its images' shape, its folder, its state."""
    config, image_shape, _ = runs.load_config(workdir)
    place = runs.find_replica(workdir, config, replica)
    folder = runs.replica_folders(workdir, config)[place]
    state = runs.load_states(workdir)[place]
    alone = dataclasses.replace(config.replicas()[place], dtype="float32")
    return alone, image_shape, folder, state


def sizes(out: Path) -> dict[str, int]:
    """Bytes of what a browser loads: the models, the runtime, the rest of the page."""
    found = {path.name: path.stat().st_size for path in out.glob("*.onnx")}
    page = [path for path in (out / "assets").iterdir() if path.is_file()]
    runtime = sum(path.stat().st_size for path in page if path.suffix == ".wasm")
    found["onnxruntime-web"] = runtime
    found["page"] = sum(path.stat().st_size for path in page) - runtime
    return found


def to_onnx(
    function: Callable, shape: tuple[int, ...], name: str, weights: str = "float32"
) -> bytes:
    """A function of `[B, *shape]` as an ONNX model, B being free.

    Args:
        function: of one array, float32, to one array.
        shape: of an example.
        name: of the model.
        weights: the type in which large arrays are stored.
    """
    import jax2onnx

    logging.disable(logging.WARNING)  # it tells of each of its steps
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = jax2onnx.to_onnx(function, [("B", *shape)], model_name=name)
    logging.disable(logging.NOTSET)
    del model.graph.value_info[:]  # some are wrong, which onnxruntime-web refuses
    if weights == "float16":
        _narrow(model)
    content: bytes = model.SerializeToString()
    return content


def describe(
    config: Config,
    image_shape: tuple[int, int, int],
    workdir: Path,
    folder: Path,
    step: int,
) -> dict:
    """What model.json says of codes, images and the run.

    Args:
        config: of the run.
        image_shape: (height, width, channels).
        workdir: of the run.
        folder: of the replica, which has its measures.
        step: of the checkpoint; measures of another one are not its own.
    """
    spec = parse_spec(config.codes)
    results = runs.load_evaluation(folder, step)
    about = runs.load_about(workdir)
    height, width, channels = image_shape
    codes, offset, q_offset = [], 0, 0
    for code in spec:
        codes.append(
            _about_code(code, results, about.get("class_names", []))
            | {"offset": offset, "dim": code.dim}
            | {"q_offset": q_offset, "n_params": code.n_params}
        )
        offset, q_offset = offset + code.dim, q_offset + code.n_params
    return {
        "format": FORMAT,
        "step": step,
        "latent_dim": latent_dim(spec),
        "param_dim": param_dim(spec),
        "image": {
            "height": height,
            "width": width,
            "channels": channels,
            "composite": figures.channel_colours(channels, config.composite),
            "channel_names": figures.channel_names(channels, config.composite),
            "ranges": about.get("ranges"),
        },
        "codes": codes,
        "dataset": config.dataset.rpartition("/")[2],
        "metrics": _metrics(results),
        "versions": about.get("versions", {}),
    }


def _about_code(code, results: dict, class_names: list[str]) -> dict:
    about: dict = {"name": code.name, "kind": type(code).__name__.lower()}
    if isinstance(code, Noise):
        return about
    about["entropy"] = code.entropy()
    if isinstance(code, Categorical | Bernoulli):
        size = code.size if isinstance(code, Categorical) else 2
        found = runs.classes_of(results, code.name, class_names)
        return about | {"labels": found or [None] * size}
    reach = 2.0 if isinstance(code, Gaussian) else 1.0
    about |= {"trained": [-reach, reach], "allowed": [2 * -reach, 2 * reach]}
    found = results.get("factors", {}).get(code.name)
    if isinstance(found, dict) and found["name"] in found["r2"]:
        about |= {"meaning": found["name"], "r2": round(found["r2"][found["name"]], 3)}
    return about


def _metrics(results: dict) -> dict[str, float]:
    """The few numbers that the page shows."""
    shown = {}
    for name, values in results.get("clustering", {}).items():
        if isinstance(values, dict):
            shown[f"accuracy of {name}"] = values["accuracy"]
    for name, values in results.get("detection", {}).items():
        if isinstance(values, dict):
            shown[f"AUC of {values['code']} for {name}"] = values["auc"]
    generated = results.get("fidelity", {}).get("generated", {})
    if "fid" in generated:
        shown["FID"] = generated["fid"]
    return {name: round(value, 4) for name, value in shown.items()}


def _thumbnails(state: TrainState, config: Config) -> list:
    """A picture of each category of the main code, all else equal."""
    spec, key = parse_spec(config.codes), figures.figure_key(config.seed)
    latents = figures.grid_latents(key, spec)[:: figures.COLUMNS]
    if main_category(spec) is None:
        latents = latents[:1]
    images = figures.to_uint8(apply(generate, state, latents, config))
    images = figures.composite(images, config.composite)
    return [figures.to_picture(image) for image in images]


def _trial_latents(spec: Spec) -> jax.Array:
    """From the prior, and with continuous codes and noise at their far ends."""
    drawn = sample_latents(jax.random.key(0), 2 * _SAMPLE, spec)
    values = split_latents(spec, drawn)
    for code in spec:
        if not isinstance(code, Categorical | Bernoulli):
            end = 4.0 if isinstance(code, Gaussian) else 2.0
            far = end * jnp.sign(values[code.name][_SAMPLE:])
            values[code.name] = values[code.name].at[_SAMPLE:].set(far)
    return join_latents(spec, values)


def _parity(name: str, content: bytes, function: Callable, values) -> float:
    """The largest difference between onnxruntime and JAX, of large numbers a share.

    Raises:
        UserError: it is too large.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(
        content, options, providers=["CPUExecutionProvider"]
    )
    apart = 0.0
    for part in (values, values[:1]):  # of any batch size
        (found,) = session.run(None, {session.get_inputs()[0].name: part})
        with jax.default_matmul_precision("float32"):
            expected = np.asarray(function(part))
        # Pictures are within [0, 1]; Q's parameters may be large
        error = np.abs(found - expected) / np.maximum(1, np.abs(expected))
        apart = max(apart, float(error.max()))
    if not apart <= _MOST_APART:
        raise UserError(
            f"{name}.onnx differs from JAX by {apart:.1e}, more than "
            f"{_MOST_APART:.0e}; nothing usable was exported. Other versions of "
            "jax2onnx or onnxruntime may help"
        )
    return apart


def _to_stablehlo(function: Callable, dim: int) -> bytes:
    (batch,) = jax.export.symbolic_shape("B")
    latents = jax.ShapeDtypeStruct((batch, dim), jnp.float32)
    exported = jax.export.export(jax.jit(function), platforms=_PLATFORMS)(latents)
    return bytes(exported.serialize())


def _rounded(state: TrainState) -> TrainState:
    """The state with weights that float16 can hold, for what is exported."""

    def round_tree(tree):
        return jax.tree.map(
            lambda x: (
                x.astype(jnp.float16).astype(jnp.float32) if x.size >= _LARGE else x
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


def _narrow(model) -> None:
    """Large float32 arrays that float16 holds exactly are stored so, and cast."""
    import onnx
    from onnx import numpy_helper

    casts = []
    for array in model.graph.initializer:
        values = numpy_helper.to_array(array)
        narrow = values.astype(np.float16) if values.dtype == np.float32 else None
        if narrow is None or values.size < _LARGE or (narrow != values).any():
            continue
        name = array.name
        array.CopyFrom(numpy_helper.from_array(narrow, f"{name}_float16"))
        to = onnx.TensorProto.FLOAT
        casts.append(onnx.helper.make_node("Cast", [array.name], [name], to=to))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _about_file(content: bytes) -> dict:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _is_export(folder: Path) -> bool:
    """Also one that was cut short."""
    return (folder / _MARK).exists()


def _read_model(folder: Path) -> dict:
    try:
        about = json.loads((folder / "model.json").read_text())
        return about if isinstance(about, dict) else {}
    except (OSError, ValueError):
        return {}


def _check_packages() -> None:
    """Raises UserError unless what an export needs is there."""
    for package in ("jax2onnx", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"--mode=export: needs {package}; install it by "
                "pip install 'infogan_jax[export]'"
            )
    if not (PAGE / "index.html").exists():
        raise UserError(
            f"{PAGE}: the page is not built; run npm ci && npm run build in "
            f"{PAGE.parent}"
        )
