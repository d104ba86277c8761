"""The networks G, D and Q: one file per architecture, one row each in ARCHITECTURES."""

import dataclasses
from typing import NamedTuple, Protocol

import flax.linen as nn
import jax.numpy as jnp

from infogan_jax.models import dcgan, mnist, resnet
from infogan_jax.models.layers import Recognizer


class Networks(NamedTuple):
    """The three networks. D and Q share D's trunk: Q reads D's features."""

    generator: nn.Module  # (latents [B, D], train) -> images [B, H, W, C]
    discriminator: nn.Module  # (images, train) -> logits [B], features [B, F]
    recognizer: nn.Module  # (features, train) -> parameters of Q(c|x) [B, P]


class Architecture(Protocol):
    """A family of networks, which the shape of the images makes definite."""

    def build(self, image_shape, width, n_params, dtype, axis_name) -> Networks:
        """Raises ValueError if it cannot make such images, or of such a width."""


@dataclasses.dataclass(frozen=True)
class Mnist:
    """The paper's MNIST networks with a width for each part."""

    channels: tuple[int, int]
    hidden: int
    q_hidden: int

    def build(self, image_shape, width, n_params, dtype, axis_name) -> Networks:
        side = _side(image_shape)
        if side % 4 or side < 8:
            raise ValueError(
                f"image size {side}: this architecture makes images whose side is a "
                "multiple of 4, 8 or more; choose --image_size so"
            )
        if width:
            raise ValueError(
                f"--width={width}: this architecture has its own; set it to 0, or "
                "choose dcgan or resnet"
            )
        common = {"dtype": dtype, "axis_name": axis_name}
        trunk = {"channels": self.channels, "hidden": self.hidden, **common}
        return Networks(
            mnist.Generator(image_shape, **trunk),
            mnist.Discriminator(**trunk),
            Recognizer(n_params, self.q_hidden, **common),
        )


@dataclasses.dataclass(frozen=True)
class Dcgan:
    """Strided convolutions and batch normalisation."""

    width: int
    largest: int = 128  # side of the images, pixels
    normalise: bool = True  # in D and Q; without, each image is seen by itself
    smooth: bool = False  # a blur behind each upconvolution of G

    def build(self, image_shape, width, n_params, dtype, axis_name) -> Networks:
        common = {"dtype": dtype, "axis_name": axis_name}
        halvings = _halvings(_side(image_shape), self.largest)
        widths = _widths(width or self.width, halvings)
        return Networks(
            dcgan.Generator(image_shape, widths, self.smooth, **common),
            dcgan.Discriminator(widths, self.normalise, **common),
            Recognizer(n_params, slope=0.2, normalise=self.normalise, **common),
        )


@dataclasses.dataclass(frozen=True)
class Resnet:
    """Residual blocks without normalisation: each image is seen by itself."""

    width: int
    largest: int = 256  # side of the images, pixels

    def build(self, image_shape, width, n_params, dtype, axis_name) -> Networks:
        halvings = _halvings(_side(image_shape), self.largest)
        widths = _widths(width or self.width, halvings + 1)
        return Networks(
            resnet.Generator(image_shape, widths, dtype),
            resnet.Discriminator(widths, dtype),
            Recognizer(n_params, slope=0.2, normalise=False, dtype=dtype),
        )


def _side(image_shape: tuple[int, int, int]) -> int:
    height, width, _ = image_shape
    if height != width:
        raise ValueError(
            f"image size {height} x {width}: expected square images; set --image_size"
        )
    return height


def _halvings(side: int, largest: int) -> int:
    """How often the side is halved until 4 to 7 pixels are left."""
    halvings = max(side.bit_length() - 3, 0)
    if not 16 <= side <= largest or side % 2**halvings:
        sides = [b << n for n in range(2, 7) for b in range(4, 8)]
        raise ValueError(
            f"image size {side}: this architecture makes images of side "
            f"{[s for s in sides if s <= largest]}; choose one by --image_size"
        )
    return halvings


def _widths(outer: int, count: int) -> tuple[int, ...]:
    return tuple(outer * min(2**i, 8) for i in range(count))


ARCHITECTURES: dict[str, Architecture] = {
    "dcgan": Dcgan(width=64),
    "dcgan_plain": Dcgan(width=64, normalise=False),
    "dcgan_smooth": Dcgan(width=64, smooth=True),
    "mnist": Mnist(channels=(64, 128), hidden=1024, q_hidden=128),
    "mnist_half": Mnist(channels=(32, 64), hidden=256, q_hidden=128),
    "mnist_tiny": Mnist(channels=(4, 8), hidden=16, q_hidden=16),
    "resnet": Resnet(width=32),
}

DTYPES = {"bfloat16": jnp.bfloat16, "float32": jnp.float32}


def build_networks(
    config, image_shape, n_params: int, axis_name: str | None = None
) -> Networks:
    """G, D and Q of `config.architecture`, computing in `config.dtype`.

    Raises:
        ValueError: the architecture cannot make such images.
    """
    return ARCHITECTURES[config.architecture].build(
        tuple(image_shape), config.width, n_params, DTYPES[config.dtype], axis_name
    )
