"""The networks G, D and Q: one file per architecture, one row each in ARCHITECTURES."""

import dataclasses
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax.numpy as jnp

from infogan_jax.core.models import dcgan, mnist, residual, resnet
from infogan_jax.core.models.layers import Recognizer


class Networks(NamedTuple):
    """The three networks. D and Q share D's trunk: Q reads D's features."""

    generator: nn.Module  # (latents [B, D], train) -> images [B, H, W, C]
    discriminator: nn.Module  # (images, train) -> logits [B], features [B, F]
    recognizer: nn.Module  # (features, train) -> parameters of Q(c|x) [B, P]

    def on_axis(self, axis_name: str | None) -> "Networks":
        """The networks with batch statistics over all devices of a mapped axis.

        A network normalises over that axis if it has a field `axis_name`.
        """
        return Networks(
            *(
                net.clone(axis_name=axis_name) if hasattr(net, "axis_name") else net
                for net in self
            )
        )


ImageShape = tuple[int, int, int]  # height, width, channels


class Architecture(Protocol):
    """A family of networks; the shape of the images makes it definite."""

    @property
    def normalizes_d(self) -> bool:
        """Whether D normalises over the batch; `losses.wgan_gp` does not allow it."""

    def build(
        self, image_shape: ImageShape, base_channels: int, n_params: int, dtype: Any
    ) -> Networks:
        """Returns the networks.

        Args:
            image_shape: (height, width, channels).
            base_channels: channels at full resolution; 0: the architecture's own.
            n_params: width of Q's output.
            dtype: of the arithmetic.

        Raises:
            ValueError: it cannot make such images, or has no `base_channels` to choose.
        """


@dataclasses.dataclass(frozen=True)
class Mnist:
    """The paper's MNIST networks with a width for each part; or another G."""

    channels: tuple[int, int]
    hidden: int
    q_hidden: int
    g_channels: int = 0  # of a residual G at full resolution; 0: the paper's G
    normalizes_d: bool = True

    def build(
        self, image_shape: ImageShape, base_channels: int, n_params: int, dtype: Any
    ) -> Networks:
        side = _side(image_shape)
        if side % 4 or side < 8:
            raise ValueError(
                f"image size {side}: this architecture makes images whose side is a "
                "multiple of 4, 8 or more; choose --image_size so"
            )
        if base_channels and not self.g_channels:
            raise ValueError(
                f"--base_channels={base_channels}: this architecture has its own; set "
                "it to 0, or choose dcgan or resnet"
            )
        trunk: dict[str, Any] = {"channels": self.channels, "hidden": self.hidden}
        trunk["dtype"] = dtype
        generator: nn.Module = mnist.Generator(image_shape, **trunk)
        if outer := base_channels or self.g_channels:
            generator = residual.Generator(image_shape, _widths(outer, 2), dtype)
        return Networks(
            generator,
            mnist.Discriminator(**trunk),
            Recognizer(n_params, self.q_hidden, dtype=dtype),
        )


@dataclasses.dataclass(frozen=True)
class Dcgan:
    """Strided convolutions and batch normalisation."""

    base_channels: int
    largest: int = 128  # side of the images, pixels
    normalizes_d: bool = True  # and Q; without, each image is seen by itself

    def build(
        self, image_shape: ImageShape, base_channels: int, n_params: int, dtype: Any
    ) -> Networks:
        outer = base_channels or self.base_channels
        widths = _widths(outer, _halvings(image_shape, self.largest))
        norm = self.normalizes_d
        return Networks(
            dcgan.Generator(image_shape, widths, dtype=dtype),
            dcgan.Discriminator(widths, norm, dtype=dtype),
            Recognizer(n_params, slope=0.2, normalise=norm, dtype=dtype),
        )


@dataclasses.dataclass(frozen=True)
class Residual:
    """DCGAN with residual layers, and objects with a matte."""

    base_channels: int
    largest: int = 128  # side of the images, pixels
    normalizes_d: bool = True

    def build(
        self, image_shape: ImageShape, base_channels: int, n_params: int, dtype: Any
    ) -> Networks:
        outer = base_channels or self.base_channels
        widths = _widths(outer, _halvings(image_shape, self.largest))
        return Networks(
            residual.Generator(image_shape, widths, dtype),
            residual.Discriminator(widths, dtype),
            Recognizer(n_params, slope=0.2, dtype=dtype),
        )


@dataclasses.dataclass(frozen=True)
class Resnet:
    """Residual blocks without normalisation: each image is seen by itself."""

    base_channels: int
    largest: int = 256  # side of the images, pixels
    normalizes_d: bool = False

    def build(
        self, image_shape: ImageShape, base_channels: int, n_params: int, dtype: Any
    ) -> Networks:
        outer = base_channels or self.base_channels
        widths = _widths(outer, _halvings(image_shape, self.largest) + 1)
        return Networks(
            resnet.Generator(image_shape, widths, dtype),
            resnet.Discriminator(widths, dtype),
            Recognizer(n_params, slope=0.2, normalise=False, dtype=dtype),
        )


def _side(image_shape: ImageShape) -> int:
    height, width, _ = image_shape
    if height != width:
        raise ValueError(
            f"image size {height} x {width}: expected square images; set --image_size"
        )
    return height


def _halvings(image_shape: ImageShape, largest: int) -> int:
    """How many times the side is halved until 4 to 7 pixels are left."""
    side = _side(image_shape)
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
    "dcgan": Dcgan(base_channels=64),
    "dcgan_plain": Dcgan(base_channels=64, normalizes_d=False),
    "mnist": Mnist(channels=(64, 128), hidden=1024, q_hidden=128),
    "mnist_half": Mnist(channels=(32, 64), hidden=256, q_hidden=128),
    "mnist_residual": Mnist((32, 64), hidden=256, q_hidden=128, g_channels=8),
    "mnist_tiny": Mnist(channels=(4, 8), hidden=16, q_hidden=16),
    "residual": Residual(base_channels=32),
    "resnet": Resnet(base_channels=32),
}

DTYPES = {"bfloat16": jnp.bfloat16, "float32": jnp.float32}
