"""Mode coverage: three digits in the channels of one image make 1,000 modes.

    python -m experiments.stacked_digits --classifier=runs/classifier

Plain GANs, for codes would force variety. A classification network of digits, trained
by `experiments/classifier.cfg`, reads each channel of 26,000 pictures: how many of the
1,000 numbers occur, and how far their frequencies are from even.

Reference: Metz et al. 2016, arXiv:1611.02163, section 3.3.1.
"""

import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging

from infogan_jax import Config, Trained, build_model, make_train_step
from infogan_jax.core.latents import Noise
from infogan_jax.data import load
from infogan_jax.evaluation.fidelity import mode_coverage
from infogan_jax.run.directory import Run
from infogan_jax.run.records import CLASSIFIER

FLAGS = flags.FLAGS
flags.DEFINE_string("classifier", "runs/classifier", "Work directory of a classifier.")
flags.DEFINE_string("dataset", "mnist", "The digits: mnist, or mnist_5k.")
flags.DEFINE_string("data_dir", "", "Folder of prepared datasets.")
flags.DEFINE_integer("steps", 4000, "Updates of each player.")
flags.DEFINE_integer("width", 16, "Channels at full resolution.")
flags.DEFINE_integer("seed", 0, "Seed of everything that is drawn.")
flags.DEFINE_list("rows", None, "Rows to run, by number from 1; default: all.")

_SHAPE = 28, 28, 3
_MODES = 1000
_PICTURES = 26_000
_STRETCH = 100  # steps in one compiled call

_PENALTY: dict[str, Any] = {"penalty": "r1_r2", "penalty_weight": 1.0}
_ROWS: list[tuple[str, dict[str, Any]]] = [
    ("non-saturating, batch norm in D", {"architecture": "dcgan"}),
    ("non-saturating", {}),
    ("non-saturating, R1 + R2", _PENALTY),
    ("relativistic pairing, R1 + R2", {"gan_loss": "relativistic", **_PENALTY}),
]


def main(_):
    logging.set_verbosity(logging.ERROR)  # Orbax has much to say
    classifier = Run.open(Path(FLAGS.classifier), CLASSIFIER).load_classifier()
    digits = load(Config(dataset=FLAGS.dataset, data_dir=FLAGS.data_dir)).images[:]

    def modes_of(images):
        channels = np.moveaxis(images, -1, 0)[..., None]
        read = [classifier.classify(channel) for channel in channels]
        return np.ravel_multi_index(read, (10, 10, 10))

    print("| objective | modes found | KL, nats | minutes |\n|---|---|---|---|")
    real = np.asarray(
        _stack(jax.random.key(FLAGS.seed), jnp.asarray(digits), _PICTURES)
    )
    _tell("real digits", modes_of(real), "")
    for number in FLAGS.rows or range(1, len(_ROWS) + 1):
        name, changes = _ROWS[int(number) - 1]
        start = time.perf_counter()
        pictures = _pictures(_config(changes), digits)
        minutes = f"{(time.perf_counter() - start) / 60:.1f}"
        _tell(name, modes_of(pictures), minutes)


def _config(changes: dict) -> Config:
    every = {
        "architecture": "dcgan_plain",
        "base_channels": FLAGS.width,
        "info_weight": 0.0,
        "batch_size": 64,
        "g_learning_rate": 5e-4,
        "d_learning_rate": 5e-4,
        "lr_decay_fraction": 0.3,
        "ema_decay": 0.995,
        "steps": FLAGS.steps,
        "seed": FLAGS.seed,
    }
    return Config(**(every | changes))


def _stack(key: jax.Array, digits: jax.Array, count: int) -> jax.Array:
    """Images of three digits drawn evenly, uint8 `[count, 28, 28, 3]`."""
    chosen = jax.random.randint(key, (3, count), 0, len(digits))
    return jnp.moveaxis(digits[chosen][..., 0], 0, -1)


def _pictures(config: Config, digits: np.ndarray) -> np.ndarray:
    """Trains, and generates, `[26000, 28, 28, 3]` in [0, 1]."""
    # A config needs a code for Q to read; a plain GAN has noise alone.
    model = build_model(config, _SHAPE, spec=(Noise("noise", 64),))
    step = make_train_step(model)
    key = jax.random.key(config.seed)
    draws, noise = jax.random.split(jax.random.fold_in(key, 2))

    @jax.jit
    def stretch(state, digits):
        def body(state, _):
            draw = jax.random.fold_in(draws, state.step)
            return step(state, _stack(draw, digits, config.batch_size))

        return jax.lax.scan(body, state, length=_STRETCH)[0]

    state, on_device = model.init(key), jnp.asarray(digits)
    for _ in range(config.steps // _STRETCH):
        state = stretch(state, on_device)
    return Trained(model, state).generate(model.sample_latents(noise, _PICTURES))


def _tell(name: str, modes: np.ndarray, minutes: str) -> None:
    found, divergence = mode_coverage(modes, _MODES)
    print(f"| {name} | {found:,} | {divergence:.3f} | {minutes} |", flush=True)


if __name__ == "__main__":
    app.run(main)
