"""The networks G, D and Q: one file per architecture, one row each in ARCHITECTURES."""

import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from infogan_jax.models import mnist


class Networks(NamedTuple):
    """The three networks. D and Q share D's trunk: Q reads D's features."""

    generator: nn.Module  # (latents [B, D], train) -> images [B, H, W, C]
    discriminator: nn.Module  # (images, train) -> logits [B], features [B, F]
    recognizer: nn.Module  # (features, train) -> parameters of Q(c|x) [B, P]


@dataclasses.dataclass(frozen=True)
class MnistArchitecture:
    """The paper's MNIST networks with a width for each part."""

    channels: tuple[int, int]
    hidden: int
    q_hidden: int

    def check(self, image_shape: tuple[int, int, int]) -> None:
        """Raises ValueError if these networks cannot make such images."""
        height, width, _ = image_shape
        if height != width or height % 4 or height < 8:
            raise ValueError(
                f"image size {height} x {width}: this architecture makes square images "
                "whose side is a multiple of 4, 8 or more; choose --image_size so"
            )

    def build(self, image_shape, n_params, dtype, axis_name) -> Networks:
        common = {"dtype": dtype, "axis_name": axis_name}
        trunk = {"channels": self.channels, "hidden": self.hidden, **common}
        return Networks(
            mnist.Generator(image_shape, **trunk),
            mnist.Discriminator(**trunk),
            mnist.Recognizer(n_params, self.q_hidden, **common),
        )


ARCHITECTURES = {
    "mnist": MnistArchitecture(channels=(64, 128), hidden=1024, q_hidden=128),
    "mnist_half": MnistArchitecture(channels=(32, 64), hidden=256, q_hidden=128),
    "mnist_tiny": MnistArchitecture(channels=(4, 8), hidden=16, q_hidden=16),
}

DTYPES = {"bfloat16": jnp.bfloat16, "float32": jnp.float32}


def build_networks(
    config, image_shape, n_params: int, axis_name: str | None = None
) -> Networks:
    """G, D and Q of `config.architecture`, computing in `config.dtype`.

    Raises:
        ValueError: the architecture cannot make such images.
    """
    architecture = ARCHITECTURES[config.architecture]
    architecture.check(image_shape)
    return architecture.build(
        tuple(image_shape), n_params, DTYPES[config.dtype], axis_name
    )
