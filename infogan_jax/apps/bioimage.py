"""The recogniser as a package of bioimage.io, within an export.

Reference: the model description of https://github.com/bioimage-io/spec-bioimage-io,
format 0.5. JSON is YAML, so no writer of YAML is needed.
"""

import hashlib
import io
import json
import keyword
import re
from typing import Any

import numpy as np

from infogan_jax.apps.onnx_models import open_session

NAME = "bioimageio.yaml"
_FORMAT = "0.5.3"
_INPUT, _OUTPUT = "test_input.npy", "test_output.npy"
_CITE = {
    "text": "Chen et al. 2016, InfoGAN: Interpretable Representation Learning by "
    "Information Maximizing Generative Adversarial Nets",
    "url": "https://arxiv.org/abs/1606.03657",
}


def describe_recognizer(
    about: dict[str, Any], content: bytes, images: np.ndarray
) -> dict[str, bytes]:
    """Returns the description and its two test arrays, by file name.

    The input is in the files' own units and of the network's size; black and white are
    those of model.json.

    Args:
        about: the content of model.json.
        content: of recognizer.onnx.
        images: in [0, 1], `[N, H, W, C]`, to test with.
    """
    import onnx

    image = about["image"]
    low, high = _ranges(image)
    raw = (images * (high - low) + low).astype(np.float32)
    seen = np.clip((raw - low) / (high - low), 0, 1).astype(np.float32)
    session = open_session(content)
    (q_params,) = session.run(None, {session.get_inputs()[0].name: seen})
    files = {_INPUT: _npy(raw), _OUTPUT: _npy(q_params)}
    imports = onnx.load_from_string(content).opset_import
    opset = next(one.version for one in imports if not one.domain)
    description = {
        "format_version": _FORMAT,
        "type": "model",
        "name": _plain(f"{about['name']} recognizer"),
        "description": (
            "Reads in images the codes of an InfoGAN that was trained without labels."
        ),
        "authors": [{"name": "infogan_jax"}],
        "cite": [_CITE],
        "documentation": "README.md",
        "tags": ["infogan", "unsupervised", "representation-learning"],
        "inputs": [_describe_input(image, low, high, files)],
        "outputs": [
            {
                "id": "parameters",
                "axes": [
                    {"type": "batch"},
                    {"type": "channel", "channel_names": _parameters(about["codes"])},
                ],
                "data": {"type": "float32"},
                "test_tensor": _named(_OUTPUT, files),
            }
        ],
        "weights": {
            "onnx": {
                "source": "recognizer.onnx",
                "sha256": about["files"]["recognizer.onnx"]["sha256"],
                "opset_version": opset,
            }
        },
    }
    return files | {NAME: (json.dumps(description, indent=2) + "\n").encode()}


def _describe_input(
    image: dict[str, Any], low: np.ndarray, high: np.ndarray, files: dict[str, bytes]
) -> dict[str, Any]:
    space = {"type": "space"}
    if image["pixel_size"]:
        space |= {"unit": "micrometer", "scale": image["pixel_size"]}
    gain = 1 / (high - low)
    scale = {"axis": "channel", "gain": gain.tolist(), "offset": (-low * gain).tolist()}
    return {
        "id": "images",
        "axes": [
            {"type": "batch"},
            {"id": "y", "size": image["height"]} | space,
            {"id": "x", "size": image["width"]} | space,
            {"type": "channel", "channel_names": _names(image)},
        ],
        "data": {"type": "float32"},
        "preprocessing": [
            {"id": "scale_linear", "kwargs": scale},
            {"id": "clip", "kwargs": {"min": 0.0, "max": 1.0}},
        ],
        "test_tensor": _named(_INPUT, files),
    }


def _ranges(image: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Black and white of each channel that the network sees."""
    ranges = image["preparation"]["ranges"]
    if image["preparation"]["change"]:  # what a dataset makes of its images is bytes
        ranges = [(0, 255)] * image["channels"]
    low, high = np.array(ranges, float).T
    return low, np.maximum(high, low + 1e-12)


def _npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def _named(name: str, files: dict[str, bytes]) -> dict[str, str]:
    return {"source": name, "sha256": hashlib.sha256(files[name]).hexdigest()}


def _plain(text: str) -> str:
    """The text with the signs that a name may have there."""
    return re.sub(r"[^a-zA-Z0-9_+ ()-]", "_", text)[:128]


def _names(image: dict[str, Any]) -> list[str]:
    """Names of channels, as Python's identifiers, no two alike."""
    names: list[str] = []
    for k, name in enumerate(image["channel_names"]):
        plain = re.sub(r"\W", "_", name, flags=re.ASCII)
        is_free = plain.isidentifier() and not keyword.iskeyword(plain)
        names.append(plain if is_free and plain not in names else f"channel_{k + 1}")
    return names


def _parameters(codes: list[dict[str, Any]]) -> list[str]:
    """A name for each number of Q's output."""
    return [
        code["name"] if code["n_params"] == 1 else f"{code['name']}_{k}"
        for code in codes
        for k in range(code["n_params"])
    ]
