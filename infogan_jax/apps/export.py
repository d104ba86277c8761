"""A trained model as files that need no Python: ONNX, StableHLO, and the explorer.

generator.onnx          latents [B, D] -> images [B, H, W, C] in [0, 1]
recognizer.onnx         images [B, H, W, C] -> parameters of Q(c|x), [B, P]
inversion_start.onnx    images -> latents that resemble them, [B, D]
inversion_descent.onnx  latents, image -> gradient to come closer, what is missing
generator.stablehlo     the same generator, for `jax.export.deserialize`
model.json              what the numbers mean, and how images become the input
recognize.py            reads images of any size and scale by the two files before
README.md               the model card
bioimageio.yaml, *.npy  the recogniser as a package of bioimage.io, with its test
thumbnails/             a picture of each category
index.html, assets/     the page
"""

import dataclasses
import hashlib
import importlib.util
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from infogan_jax.apps import standalone
from infogan_jax.apps.bioimage import describe_recognizer
from infogan_jax.apps.model_card import model_card
from infogan_jax.apps.model_json import describe
from infogan_jax.apps.onnx_models import convert, round_to_float16
from infogan_jax.build import build_model
from infogan_jax.errors import UserError
from infogan_jax.files import write_atomically
from infogan_jax.inference import Trained, weight_digest
from infogan_jax.pixels import composite, to_picture, to_uint8
from infogan_jax.reporting import figures
from infogan_jax.run.directory import MemberFolder, Run

logger = logging.getLogger(__name__)

WEIGHTS = ("float32", "float16")
PAGE = Path(__file__).parents[1] / "explorer" / "dist"
_MARKER = ".infogan_jax_export"  # in a folder that may be overwritten


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
        rounded = round_to_float16(trained.state)
        trained = dataclasses.replace(trained, state=rounded)
    try:
        (output / "thumbnails").mkdir(parents=True, exist_ok=True)
        (output / _MARKER).touch()
        (output / "model.json").unlink(missing_ok=True)  # until all else is there
        files, parity = convert(trained, weights)
        for name, content in files.items():
            write_atomically(output / name, content)
        images = _one_of_each(folder, trained)
        for index, image in enumerate(
            composite(to_uint8(images), run.config.composite)
        ):
            figures.save(to_picture(image), output / "thumbnails" / f"{index}.png")
        copy_programs(output)
        about = describe(run, folder, trained) | {
            "name": run.path.resolve().name,
            "digest": digest,
            "seed": folder.config.seed,
            "weights": weights,
            "parity": parity,
            "files": {name: _describe_file(files[name]) for name in sorted(files)},
        }
        package = describe_recognizer(about, files["recognizer.onnx"], images)
        for name, content in package.items():
            write_atomically(output / name, content)
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


def _cannot_write(output: Path, error: OSError) -> UserError:
    reason = error.strerror
    if isinstance(error, shutil.Error):  # a list of (source, target, reason)
        reason = "; ".join(str(failure[-1]) for failure in error.args[0])
    return UserError(f"--output={output}: cannot be written ({reason or error})")


def copy_programs(output: Path) -> None:
    """Copies what is the same in every export: the page, and recognize.py."""
    shutil.copytree(PAGE, output, dirs_exist_ok=True)
    shutil.copyfile(standalone.__file__, output / "recognize.py")


def file_sizes(output: Path) -> dict[str, int]:
    """Returns the bytes of what a browser loads: models, runtime, rest of the page."""
    sizes = {path.name: path.stat().st_size for path in output.glob("*.onnx")}
    page = [path for path in (output / "assets").iterdir() if path.is_file()]
    runtime = sum(path.stat().st_size for path in page if path.suffix == ".wasm")
    sizes["onnxruntime-web"] = runtime
    sizes["page"] = sum(path.stat().st_size for path in page) - runtime
    return sizes


def _one_of_each(folder: MemberFolder, trained: Trained) -> np.ndarray:
    """A picture of each category of the main code, all else being equal, in [0, 1]."""
    key = figures.figure_key(folder.config.seed)
    latents = figures.grid_latents(key, trained.model.spec)[:: figures.COLUMNS]
    if trained.model.category is None:
        latents = latents[:1]
    return trained.generate(latents)


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
