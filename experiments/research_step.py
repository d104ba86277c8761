"""A loop of your own: a prior, a loss, an augmentation and a network of your own.

python experiments/research_step.py        # a minute on two CPU cores

It ends with a picture of what the first code does, research_step.png.
"""

import dataclasses
import math
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp

from infogan_jax import Config, GanLoss, Trained, build_model, make_train_step
from infogan_jax.build import build_networks
from infogan_jax.core.latents import Noise, Uniform, param_dim
from infogan_jax.data import batch_indices, load
from infogan_jax.reporting import figures


@dataclasses.dataclass(frozen=True)
class Arcsine(Uniform):
    """A scalar in (-1, 1) that prefers the ends: the cosine of a uniform angle."""

    def sample(self, key):
        return jnp.cos(jax.random.uniform(key, (1,), maxval=jnp.pi))

    def entropy(self):
        return math.log(math.pi / 2)

    def quantile(self, level):
        return -jnp.cos(jnp.pi * level)


@dataclasses.dataclass(frozen=True)
class Fade:
    """Copies darker by a random factor; a code may follow it."""

    factor_names: tuple[str, ...] = ("brightness",)

    def draw(self, key, index, channels):
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
        return jax.vmap(lambda k: jax.random.uniform(k, minval=0.3))(keys)

    def apply(self, images, params):
        return images * params[:, None, None, None]

    def factors(self, params):
        return jnp.log(params)[:, None], jnp.ones(len(params))


class Linear(nn.Module):
    """Q as one layer on D's features."""

    n_params: int

    @nn.compact
    def __call__(self, features, train: bool):
        return nn.Dense(self.n_params)(features)


LOGISTIC = GanLoss(  # of relativistic pairs
    discriminator=lambda real, fake: jax.nn.softplus(fake - real),
    generator=lambda real, fake: jax.nn.softplus(real - fake),
)


def main(steps: int = 300, output: str = "research_step.png") -> float:
    config = Config(architecture="mnist_residual", gan_weight=4.0)
    spec = (Arcsine("ends"), Uniform("even"), Noise("noise", 30))
    images = load(config).images
    shape = images.shape[1:]
    networks = build_networks(config, shape, param_dim(spec))
    networks = networks._replace(recognizer=Linear(param_dim(spec)))
    model = build_model(
        config,
        shape,
        spec=spec,
        networks=networks,
        gan_loss=LOGISTIC,
        augment=Fade(),
    )
    state, step = model.init(jax.random.key(0)), jax.jit(make_train_step(model))
    for i in range(steps):
        state, metrics = step(state, images[batch_indices(0, i, 128, len(images))])
    bound = float(metrics["mi_bound/ends"])
    print(f"after {steps} steps: I(c;G) of the first code {bound:.2f} nats")
    latents = figures.traverse_latents(jax.random.key(1), spec, "ends")
    pictures = Trained(model, state).generate(latents)
    figures.save(figures.image_grid(pictures, figures.ROWS), Path(output))
    return bound


if __name__ == "__main__":
    main()
