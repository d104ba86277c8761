"""Somebody else's loop: a code prior and a loss of their own, on the step functions.

python experiments/research_step.py        # a minute on two CPU cores
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from infogan_jax import Adversarial, Config, init_state, make_train_step
from infogan_jax.data import batch_indices, load
from infogan_jax.latents import Noise, Uniform


@dataclasses.dataclass(frozen=True)
class Arcsine(Uniform):
    """A scalar in (-1, 1) that prefers the ends: the cosine of a uniform angle."""

    def sample(self, key):
        return jnp.cos(jax.random.uniform(key, (1,), maxval=jnp.pi))

    def entropy(self):
        return math.log(math.pi / 2)


def main(steps: int = 300) -> float:
    config = Config(codes="uniform:2,noise:30", architecture="mnist_tiny")
    spec = (Arcsine("uniform1"), Arcsine("uniform2"), Noise("noise", 30))
    loss = Adversarial(  # logistic, for a relativistic pair
        discriminator=lambda real, fake: jax.nn.softplus(fake - real),
        generator=lambda real, fake: jax.nn.softplus(real - fake),
    )
    images = load(config).images
    shape = images.shape[1:]
    state = init_state(jax.random.key(0), config, shape)
    step = jax.jit(make_train_step(config, shape, spec=spec, adversarial=loss))
    for i in range(steps):
        state, metrics = step(state, images[batch_indices(0, i, 128, len(images))])
    bound = float(metrics["information/uniform1"])
    print(f"after {steps} steps: I(c;G) of the first code {bound:.2f} nats")
    return bound


if __name__ == "__main__":
    main()
