"""An exported InfoGAN: its codes of cells in a field of view, and its pictures."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd

from infogan_jax.apps import standalone
from infogan_jax.data import objects

_BATCH = 256


class Exported:
    """A folder of `infogan --mode=export`.

    Raises:
        ValueError: it is none; the reason says why.
    """

    def __init__(self, folder: Path):
        try:
            self.about: dict[str, Any] = json.loads((folder / "model.json").read_text())
            self._generator, self._recognizer = (
                onnxruntime.InferenceSession(folder / f"{name}.onnx")
                for name in ("generator", "recognizer")
            )
            self.channels = len(self.about["image"]["preparation"]["ranges"])
            nothing = np.zeros(self.about["param_dim"])
            self.columns = list(standalone.codes(nothing, self.about))
        except Exception as error:  # onnxruntime raises types of its own
            raise ValueError(
                f"{folder}: expected a folder of infogan --mode=export ({error})"
            ) from None

    @property
    def codes(self) -> list[dict[str, Any]]:
        """Those that Q reads, as model.json has them."""
        return [code for code in self.about["codes"] if code["n_params"]]

    @property
    def category(self) -> dict[str, Any] | None:
        """The main categorical code."""
        kinds = (code for code in self.codes if code["kind"] == "categorical")
        return next(kinds, None)

    def read_cells(self, field: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
        """Returns a row for each whole object: label, category, codes.

        Args:
            field: `[H, W, C]` in the files' own units, of the channels that are read.
            labels: `[H, W]`, 0 where there is no object.

        Raises:
            ValueError: the labels have no whole object, or the field other channels.
        """
        if labels.ndim != 2:
            raise ValueError(f"labels of {labels.ndim} dimensions; expected 2")
        mask = objects.check_mask(labels[..., None])
        cells = objects.measure(field, mask, [])
        if not len(cells.table.get("label", ())):
            raise ValueError("the labels have no object that is whole")
        how = self.about["image"]["preparation"]
        window = how["window"] or objects.choose_window(objects.longest_sides(mask))
        fits = np.maximum(cells.table["height"], cells.table["width"]) <= window
        whole = {name: column[fits] for name, column in cells.table.items()}
        cells = objects.Objects(whole, cells.at_edge)
        if not fits.any():
            raise ValueError(f"no object fits into the run's {window} pixels")
        crops = objects.cut_out(field, mask, cells, window, "neighbours")
        image = self.about["image"] | {"preparation": how | {"channels": ""}}
        seen = np.stack([standalone.prepare(x, image) for x in crops])
        said = [standalone.codes(q, self.about) for q in self._read(seen)]
        table = pd.DataFrame(said)
        table.insert(0, "label", cells.table["label"])
        if (code := self.category) is not None:
            names = [f"{code['name']}_{k}" for k in range(code["dim"])]
            table.insert(1, "category", table[names].to_numpy().argmax(1))
        return table

    def _read(self, images: np.ndarray) -> np.ndarray:
        name, parts = self._recognizer.get_inputs()[0].name, []
        for start in range(0, len(images), _BATCH):
            some = images[start : start + _BATCH] / np.float32(255)
            parts.append(self._recognizer.run(None, {name: some})[0])
        return np.concatenate(parts)

    def generate(self, values: dict[str, float], seed: int = 0) -> np.ndarray:
        """Returns the generator's cell, `[H, W, C]` in [0, 1].

        Args:
            values: of codes, by name; a category by its number. Others are 0.
            seed: of the noise.
        """
        latents = np.zeros((1, self.about["latent_dim"]), np.float32)
        rng = np.random.default_rng(seed)
        for code in self.about["codes"]:
            here = latents[0, code["offset"] :][: code["dim"]]
            value = values.get(code["name"], 0)
            if code["kind"] == "categorical":
                here[int(value)] = 1
            elif code["kind"] == "noise":
                here[:] = rng.uniform(-1, 1, code["dim"])
            else:
                here[:] = value
        (images,) = self._generator.run(
            None, {self._generator.get_inputs()[0].name: latents}
        )
        return np.asarray(images[0])

    def values_of(self, row: pd.Series) -> dict[str, float]:
        """The codes of a row of `read_cells`, by name."""
        values = {}
        for code in self.codes:
            name = code["name"]
            if code["kind"] != "categorical":
                values[name] = float(row[name])
                continue
            shares = [row[f"{name}_{k}"] for k in range(code["dim"])]
            values[name] = int(np.argmax(shares))
        return values


def stack_channels(layers: Sequence[np.ndarray], channels: int) -> np.ndarray:
    """Returns the channels of a field, `[H, W, C]`.

    Args:
        layers: `[H, W]` each; or one that has all channels, first or last.
        channels: C.

    Raises:
        ValueError: they are other channels.
    """
    if len(layers) == 1 and layers[0].ndim == 3:
        (field,) = layers
        if field.shape[0] < field.shape[-1]:
            field = np.moveaxis(field, 0, -1)
    elif len({layer.shape for layer in layers}) == 1 and layers[0].ndim == 2:
        field = np.stack(layers, -1)
    else:
        raise ValueError("expected image layers of one size, a channel each")
    if field.shape[-1] != channels:
        raise ValueError(f"{field.shape[-1]} channels; this network reads {channels}")
    return field
