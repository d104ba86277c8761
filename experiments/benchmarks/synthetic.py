"""A dataset of noise of any size in ArrayRecord, for measuring input."""

import io
import multiprocessing
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from infogan_jax.data import builders


class Synthetic(tfds.core.GeneratorBasedBuilder):
    """Smooth noise; compressible, as photographs are."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, images: int, shape: tuple[int, int, int], **options):
        self.images, self.shape = images, shape
        super().__init__(**options)

    def _info(self):
        features = {"image": tfds.features.Image(shape=self.shape)}
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features)
        )

    def _split_generators(self, dl_manager):
        counts = {"train": self.images, "test": 100}
        return {name: self._generate_examples(n) for name, n in counts.items()}

    def _generate_examples(self, count):
        height, width, channels = self.shape
        rng = np.random.default_rng(0)
        mode = "L" if channels == 1 else "RGB"
        encoded = []
        for _ in range(min(count, 256)):  # and again from the first
            small = rng.integers(0, 256, (height // 4, width // 4, channels), np.uint8)
            image = Image.fromarray(small.squeeze(), mode).resize((width, height))
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            encoded.append(buffer.getvalue())
        for i in range(count):
            yield i, {"image": io.BytesIO(encoded[i % len(encoded)])}


def prepare(folder: Path, images: int, shape: tuple[int, int, int]) -> None:
    """Writes `folder/synthetic`, which `--dataset=tfds:synthetic` finds.

    In a process of its own, so that its memory is not counted with that of training.
    """
    spawn = multiprocessing.get_context("spawn")
    options = {"images": images, "shape": shape}
    process = spawn.Process(
        target=builders.write, args=(Synthetic, folder), kwargs=options
    )
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError("the synthetic dataset could not be written; see above")
