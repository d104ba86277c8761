"""Builders of datasets whose factors are known, a feature `label_*` for each."""

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from infogan_jax.data import formats, sprites
from infogan_jax.data.builders import RemoteBuilder
from infogan_jax.data.download import RemoteFile, fetch

_AT_ONCE = 10_000  # images that are drawn or read

# tfds has builders of the same names, which need TensorFlow; these take their place.
with tfds.core.registered.skip_registration():

    class _FactorsBuilder(tfds.core.GeneratorBasedBuilder):
        """The features of images and of their factors."""

        DESCRIPTION: str
        CHANNELS = 1
        SHAPES: ClassVar[list[str]] = sprites.SHAPES
        SIZES: ClassVar[dict[str, int]]  # how many values each factor has

        def _info(self) -> tfds.core.DatasetInfo:
            shape = (sprites.SIDE, sprites.SIDE, self.CHANNELS)
            factors: dict[str, Any] = {
                f"label_{name}": tfds.features.ClassLabel(num_classes=size)
                for name, size in self.SIZES.items()
            }
            factors["label_shape"].names = self.SHAPES
            return tfds.core.DatasetInfo(
                builder=self,
                description=self.DESCRIPTION,
                features=tfds.features.FeaturesDict(
                    {"image": tfds.features.Image(shape=shape), **factors}
                ),
            )

        def _examples(
            self, first: int, images: np.ndarray, factors: np.ndarray
        ) -> Iterator[tuple[int, dict]]:
            """Examples number `first` and on, of uint8 `[N, H, W, C]` and `[N, F]`."""
            pictures = images if self.CHANNELS == 3 else images[..., 0]
            for i, (picture, row) in enumerate(zip(pictures, factors, strict=True)):
                labels = {
                    f"label_{name}": int(value)
                    for name, value in zip(self.SIZES, row, strict=True)
                }
                yield first + i, {"image": Image.fromarray(picture), **labels}

    class Sprites(_FactorsBuilder):
        """Shapes drawn from their factors; 80,000 to train on, 20,000 held out."""

        name = "sprites"
        VERSION = tfds.core.Version("1.0.0")
        DESCRIPTION = "Shapes of known size, orientation and place."
        SIZES = sprites.FACTORS
        COUNTS: ClassVar = {"train": 80_000, "test": 20_000}

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {
                split: self._generate_examples(count, seed)
                for seed, (split, count) in enumerate(self.COUNTS.items())
            }

        def _generate_examples(
            self, count: int, seed: int
        ) -> Iterator[tuple[int, dict]]:
            factors = sprites.draw_factors(count, list(self.SIZES.values()), seed)
            for start in range(0, count, _AT_ONCE):
                some = factors[start : start + _AT_ONCE]
                yield from self._examples(start, sprites.draw_sprites(some), some)

    class SpritesInHues(Sprites):
        """The same in red, green and blue."""

        name = "sprites_in_hues"
        CHANNELS = 3
        SIZES: ClassVar = {"hue": len(sprites.HUES), **sprites.FACTORS}

    class _Hdf5Builder(RemoteBuilder, _FactorsBuilder):
        """Images and factors in one HDF5 file, every combination of them once."""

        # Version, names and the one split are those of tfds's own builder.
        VERSION = tfds.core.Version("2.0.0")
        FILE: RemoteFile
        IMAGES: str  # where in the file they are
        VALUES: str  # where its factors are, real numbers

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            h5py = formats.import_reader("h5py", "HDF5")  # before anything is fetched
            path = fetch(self.FILE, self.urls, self.downloads)
            return {"train": self._generate_examples(h5py.File(path))}

        def _generate_examples(self, opened: Any) -> Iterator[tuple[int, dict]]:
            with opened as file:
                values = file[self.VALUES][:, -len(self.SIZES) :]
                columns = [np.unique(v, return_inverse=True)[1] for v in values.T]
                factors, images = np.stack(columns, 1), file[self.IMAGES]
                for start in range(0, len(images), _AT_ONCE):
                    here = slice(start, start + _AT_ONCE)
                    some = images[here].reshape(
                        -1, sprites.SIDE, sprites.SIDE, self.CHANNELS
                    )
                    yield from self._examples(start, some, factors[here])

    class DSprites(_Hdf5Builder):
        """Three shapes of six sizes and 40 orientations at 32 x 32 places; 0 or 1.

        Reference: Matthey et al. 2017, dSprites.
        """

        name = "dsprites"
        DESCRIPTION = "Shapes in two dimensions and their factors."
        URLS = ("https://github.com/google-deepmind/dsprites-dataset/raw/master",)
        FILE = RemoteFile(
            "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.hdf5",
            28024106,
            "729fa22e884c9c500e1f17415d580746b4c5894fbbb780a1319bbcfa39a745bb",
        )
        IMAGES, VALUES = "imgs", "latents/values"
        SIZES: ClassVar = {
            "shape": 3,
            "scale": 6,
            "orientation": 40,
            "x_position": 32,
            "y_position": 32,
        }

    class Shapes3d(_Hdf5Builder):
        """Four solids of eight sizes in a room, and ten hues of each part of it.

        Reference: Burgess and Kim 2018, 3D Shapes.
        """

        name = "shapes3d"
        DESCRIPTION = "Solids in a room and their factors."
        CHANNELS = 3
        SHAPES: ClassVar = ["cube", "cylinder", "sphere", "capsule"]
        URLS = ("https://storage.googleapis.com/3d-shapes",)
        FILE = RemoteFile(
            "3dshapes.h5",
            267573662,
            "0a0f6ed98baff276a50f3a081a7434d788da63cb135a98189b2a5b5769be1785",
        )
        IMAGES, VALUES = "images", "labels"
        SIZES: ClassVar = {
            "floor_hue": 10,
            "wall_hue": 10,
            "object_hue": 10,
            "scale": 8,
            "shape": 4,
            "orientation": 15,
        }
