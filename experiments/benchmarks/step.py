"""One training step of the paper's network, beside its floor and a PyTorch peer.

    python -m experiments.benchmarks.step [--batch_size=128] [--repeats=7]

All figures come from one run, the sides in turn, so their ratios mean something on a
machine whose speed varies. The floor is the step's matrix and convolution FLOPs over
the rate of a 2048^3 product measured here; Adam's bytes come on top of it. The peer is
the same network and the same two updates, eager, if PyTorch is installed.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from infogan_jax import Config, init_state, make_train_step
from infogan_jax.latents import latent_dim, parse_spec

FLAGS = flags.FLAGS
flags.DEFINE_integer("batch_size", 128, "Images per step.")
flags.DEFINE_integer("repeats", 7, "Times each side is measured, in turn.")
flags.DEFINE_integer("stretch", 5, "Steps per measurement.")

SHAPE = (28, 28, 1)


def forward_macs() -> int:
    """Multiplications of one image through G, which are about those through D."""
    generator = 74 * 1024 + 1024 * 6272 + 49 * 128 * 16 * 64 + 196 * 64 * 16
    discriminator = 196 * 64 * 16 + 49 * 128 * 16 * 64 + 6272 * 1024 + 1024 * 129
    assert abs(generator / discriminator - 1) < 0.05
    return (generator + discriminator) // 2


# G forward and backward 3; D on real and on fake 3 each; D for G, inputs only, 2.
PASSES = 11


def ours(batch_size: int, **changes):
    """A function that takes `stretch` steps and waits for them."""
    config = Config(batch_size=batch_size, **changes)
    step = make_train_step(config, SHAPE)
    run = jax.jit(lambda s, x: jax.lax.scan(step, s, x), donate_argnums=0)
    rng = np.random.default_rng(0)
    shape = (FLAGS.stretch, batch_size, *SHAPE)
    images = jnp.asarray(rng.integers(0, 256, shape, dtype=np.uint8))
    state = [init_state(jax.random.key(0), config, SHAPE)]

    def go():
        state[0], _ = run(state[0], images)
        jax.block_until_ready(state[0])

    return go


def torch_peer(batch_size: int):
    """The same in PyTorch, eager; None where it is not installed."""
    try:
        import torch
        from torch import nn
        from torch.nn import functional as f
    except ImportError:
        return None
    generator = nn.Sequential(
        nn.Linear(latent_dim(parse_spec(Config().codes)), 1024, bias=False),
        nn.BatchNorm1d(1024),
        nn.ReLU(),
        nn.Linear(1024, 6272, bias=False),
        nn.BatchNorm1d(6272),
        nn.ReLU(),
        nn.Unflatten(1, (128, 7, 7)),
        nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.ConvTranspose2d(64, 1, 4, 2, 1),
        nn.Sigmoid(),
    )
    trunk = nn.Sequential(
        nn.Conv2d(1, 64, 4, 2, 1),
        nn.LeakyReLU(0.1),
        nn.Conv2d(64, 128, 4, 2, 1, bias=False),
        nn.BatchNorm2d(128),
        nn.LeakyReLU(0.1),
        nn.Flatten(),
        nn.Linear(6272, 1024, bias=False),
        nn.BatchNorm1d(1024),
        nn.LeakyReLU(0.1),
    )
    head = nn.Linear(1024, 1)
    recognizer = nn.Sequential(
        nn.Linear(1024, 128, bias=False),
        nn.BatchNorm1d(128),
        nn.LeakyReLU(0.1),
        nn.Linear(128, 12),
    )
    betas = (0.5, 0.999)
    judges = [*trunk.parameters(), *head.parameters(), *recognizer.parameters()]
    adam_d = torch.optim.Adam(judges, 2e-4, betas)
    adam_g = torch.optim.Adam(generator.parameters(), 1e-3, betas)
    real = torch.rand(batch_size, 1, 28, 28)

    def information(features, category, uniform):
        q = recognizer(features)
        continuous = ((q[:, 10:] - uniform) ** 2).sum(1).mean()
        return -f.cross_entropy(q[:, :10], category) - continuous

    def go():
        for _ in range(FLAGS.stretch):
            category = torch.randint(10, (batch_size,))
            uniform = torch.rand(batch_size, 2) * 2 - 1
            noise = torch.rand(batch_size, 62) * 2 - 1
            codes = (f.one_hot(category, 10).float(), uniform, noise)
            fake = generator(torch.cat(codes, 1))
            on_real, on_fake = trunk(real), trunk(fake.detach())
            loss = f.softplus(-head(on_real)).mean() + f.softplus(head(on_fake)).mean()
            loss = loss - information(on_fake, category, uniform)
            adam_d.zero_grad()
            loss.backward()
            adam_d.step()
            features = trunk(fake)
            loss = f.softplus(-head(features)).mean()
            loss = loss - information(features, category, uniform)
            adam_g.zero_grad()
            loss.backward(inputs=list(generator.parameters()))
            adam_g.step()

    return go


def matmul():
    """A 2048^3 product, for the machine's rate."""
    a = jax.random.normal(jax.random.key(0), (2048, 2048))
    product = jax.jit(jnp.matmul)
    return lambda: jax.block_until_ready(product(a, a))


def main(_):
    batch_size = FLAGS.batch_size
    warped = {"warp": "digits", "real_weight": 1.0, "balance_weight": 4.0}
    sides = {
        "ours, the paper's objective": ours(batch_size),
        "ours, every 2nd image warped, I(c;x)": ours(batch_size, **warped),
        "ours, every image warped, I(c;x)": ours(batch_size, **warped, warp_every=1),
        "PyTorch, eager": torch_peer(batch_size),
    }
    sides = {name: go for name, go in sides.items() if go}
    product = matmul()
    for go in (product, *sides.values()):
        go()
    times = {name: [] for name in ("matmul", *sides)}
    for _ in range(FLAGS.repeats):
        for name, go in (("matmul", product), *sides.items()):
            begin = time.perf_counter()
            go()
            steps = 1 if name == "matmul" else FLAGS.stretch
            times[name].append((time.perf_counter() - begin) / steps)
    rate = 2 * 2048**3 / np.median(times["matmul"])
    floor = PASSES * forward_macs() * 2 * batch_size / rate
    print(f"{jax.devices()[0].device_kind}, batch {batch_size}, float32")
    print(f"floor {floor * 1e3:.0f} ms: the step's FLOPs at {rate / 1e9:.0f} GFLOP/s")
    base = np.median(times["ours, the paper's objective"])
    for name in sides:
        low, middle, high = np.percentile(times[name], [0, 50, 100]) * 1e3
        print(
            f"{name:38} {middle:6.0f} ms ({low:.0f} to {high:.0f})  "
            f"{middle / 1e3 / base:.2f} x ours"
        )
    print(f"floor over ours: {floor / base:.0%}")


if __name__ == "__main__":
    app.run(main)
